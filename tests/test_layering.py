"""The architecture, enforced on the syntax tree of every file."""

import ast
import functools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cogjax"
FILES = sorted(p.relative_to(ROOT) for p in PACKAGE.rglob("*.py"))
EXPERIMENTS = sorted(p.relative_to(ROOT) for p in ROOT.glob("experiments/**/*.py"))
TESTS = sorted(p.relative_to(ROOT) for p in ROOT.glob("tests/**/*.py"))
REFERENCES = [path for path in TESTS if path.parts[1] == "reference"]

# A layer may import from itself and from the groups above its own.
ORDER = (
    ("errors", "compilation_cache", "plain_yaml", "signals"),
    ("files", "catalogue", "config_files"),
    ("config", "config_keys"),
    ("ops",),
    ("parallel",),
    ("nn",),
    ("models",),
    ("data",),
    ("worlds",),
    ("sampling", "interop", "train"),
    ("tasks",),
    ("families",),
    ("model",),
    ("adapter",),
    ("model_format_1",),
    ("model_folder",),
    ("importing", "parity"),
    ("pipelines",),
    ("exporting",),
    ("evaluate",),
    ("stages",),
    ("family stages",),
    ("plan",),
    ("bench",),
    ("bench_config",),
    ("serve",),
    ("commands",),
    ("cli",),
    ("experiments",),
)
# Layers that may import less than the order allows.
ONLY = {
    "ops": {"errors"},
    "data": {"errors", "files", "config"},
    "worlds": {"errors", "files", "data"},
    "train": {"errors", "signals", "files", "config", "parallel", "ops"},
    "serve": {"errors", "config", "data", "pipelines"},
}
NETWORKS = {"jax", "jaxlib", "flax", "optax", "orbax"}
THIRD_PARTY_BANS = {
    "ops": {"flax", "optax", "orbax", "ml_collections", "PIL"},
    "data": NETWORKS,
    "worlds": NETWORKS,
    "families": {"optax", "orbax"},
}
MOST_PARAMETERS = 7
LIFTED = {"scan", "remat", "vmap", "jit", "cond", "while_loop", "switch"}
BANNED_NAMES = {
    "with_partitioning",
    "with_logical_partitioning",
    "with_logical_constraint",
    "make_rng",
    "sow",
    "pjit",
}


@functools.cache
def source(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """All nodes of a file, parsed once for all tests."""
    return list(ast.walk(ast.parse(source(path))))


def layer_of(module: str) -> str:
    """ "cogjax.ops.masks" -> "ops"; the package itself is the last layer.

    A family's `stage` is high and the rest of its folder low: only the catalogue names
    it, so that importing a family does not import training.
    """
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    if parts[1:2] == ["families"] and parts[3:] == ["stage"]:
        return "family stages"
    return parts[1] if len(parts) > 1 else "cogjax"


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        module = node.module or ""
        if module.split(".")[0] in ("cogjax", "experiments"):
            names = [f"{module}.{alias.name}" for alias in node.names]
            return [name if name in MODULE_NAMES else module for name in names]
        return [module]
    return []


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULE_NAMES = {module_name(path) for path in FILES + EXPERIMENTS}


@functools.cache
def imports(path: Path) -> list[str]:
    return [name for node in nodes(path) for name in imported(node)]


def may_import(layer: str, other: str) -> bool:
    if layer == other:
        return True
    if layer in ONLY:
        return other in ONLY[layer]
    rank = {name: i for i, group in enumerate(ORDER) for name in group}
    return rank[other] < rank[layer]


def is_allowed(layer: str, name: str) -> bool:
    """Whether a file of a layer may import a module."""
    root = name.split(".")[0]
    if root in THIRD_PARTY_BANS.get(layer, ()) or root == "experiments":
        return False
    if name == "cogjax" or name.startswith("cogjax.__"):
        return layer in ("cli", "commands")
    return root != "cogjax" or may_import(layer, layer_of(name))


def test_imports_point_to_the_left():
    layers = {path: layer_of(module_name(path)) for path in FILES}
    wrong = [
        f"{path} imports {name}"
        for path, layer in layers.items()
        if layer != "cogjax"
        for name in imports(path)
        if not is_allowed(layer, name)
    ]
    assert not wrong


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Paths that come back to where they started."""
    found, done = [], set()

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for other in graph.get(name, ()):
                walk(other, [*path, name])
            done.add(name)

    for name in graph:
        walk(name, [])
    return found


def test_no_file_imports_itself_in_a_circle():
    graph = {
        module_name(path): [name for name in imports(path) if name in MODULE_NAMES]
        for path in FILES
        if path.name != "__init__.py"
    }
    assert not circles(graph)


def test_no_family_imports_a_sibling():
    wrong = [
        f"{path} imports {name}"
        for path in FILES
        if path.parts[:2] == ("cogjax", "families")
        for name in imports(path)
        if name.startswith("cogjax.families.") and name.split(".")[2] != path.parts[2]
    ]
    assert not wrong


FAMILY_NAMES = re.compile("cogview|dalle|ernie|vqgan", re.IGNORECASE)
# Families are named in their folders and in the catalogue.
MAY_NAME_FAMILIES = ("cogjax/families/", "cogjax/catalogue.py")
# Among networks this is one, which others are made of.
NETWORK_NAMES = re.compile("vqgan", re.IGNORECASE)


def spelled(node: ast.AST) -> list[str]:
    """Names that a node of a program spells, and strings that are a word."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value] if re.fullmatch(r"[\w.:-]+", node.value) else []
    names = [getattr(node, field, None) for field in ("id", "attr", "arg", "name")]
    return [name for name in names if isinstance(name, str)] + imported(node)


def names_a_family(path: Path, name: str) -> bool:
    if path.parts[1] in ("models", "interop"):
        name = NETWORK_NAMES.sub("", name)
    return bool(FAMILY_NAMES.search(name))


def test_families_are_named_in_their_places():
    found = {
        f"{path}: {name}"
        for path in FILES
        if not str(path).startswith(MAY_NAME_FAMILIES)
        for node in nodes(path)
        for name in spelled(node)
        if names_a_family(path, name)
    }
    assert not found


def test_no_pickle():
    banned = {"pickle", "cloudpickle", "dill", "marshal", "shelve"}
    roots = {path: {name.split(".")[0] for name in imports(path)} for path in FILES}
    assert not [str(path) for path, names in roots.items() if names & banned]


def is_flax_module(node: ast.AST) -> bool:
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return any(ast.unparse(base) in ("nn.Module", "Module") for base in bases)


@functools.cache
def flax_modules() -> dict[Path, list[ast.ClassDef]]:
    return {
        path: [node for node in nodes(path) if is_flax_module(node)] for path in FILES
    }


def banned_features(node: ast.AST) -> list[str]:
    """Linen features outside its functional core (architecture, section 2.4)."""
    found = []
    if isinstance(node, ast.Attribute):
        owner = ast.unparse(node.value)
        if owner == "nn" and node.attr in LIFTED:
            found.append(f"nn.{node.attr}")
        if owner == "self" and node.attr == "variable":
            found.append("self.variable")
        if node.attr in BANNED_NAMES:
            found.append(node.attr)
    if isinstance(node, ast.Call):
        found += [f"{k.arg}=" for k in node.keywords if k.arg in ("mutable", "decode")]
    return found


def test_only_the_functional_core_of_linen():
    for path in FILES:
        found = [name for node in nodes(path) for name in banned_features(node)]
        assert not found, path
        if path.parts[:2] != ("cogjax", "interop"):
            assert not [n for n in imports(path) if "nnx" in n.split(".")], path


def _is_explicit(call: ast.Call) -> bool:
    """A child says its name; a template for another module says parent=None."""
    return any(keyword.arg in ("name", "parent") for keyword in call.keywords)


def unnamed_children(module: ast.ClassDef, known: set[str]) -> list[str]:
    """Calls in a module without `setup` that would get an automatic name."""
    if any(isinstance(n, ast.FunctionDef) and n.name == "setup" for n in module.body):
        return []
    unnamed = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and not _is_explicit(node):
            name = ast.unparse(node.func)
            is_layer = re.fullmatch(r"nn\.(?!Dropout)[A-Z]\w*", name)
            if is_layer or name in known:
                unnamed.append(name)
    return unnamed


def test_every_child_module_is_named():
    known = {node.name for found in flax_modules().values() for node in found}
    for path, modules in flax_modules().items():
        assert not [n for node in modules for n in unnamed_children(node, known)], path


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [node for node in nodes(path) if isinstance(node, kinds)]


def test_files_and_functions_stay_small():
    wrong = []
    for path in FILES + EXPERIMENTS + TESTS:
        lines = source(path).splitlines()
        if len(lines) > 500:
            wrong.append(f"{path}: {len(lines)} lines")
        for node in functions(path):
            own = lines[node.lineno - 1 : node.end_lineno]
            if len(own) > 60 and not any("# long: " in line for line in own):
                wrong.append(f"{path}: {node.name} has {len(own)} lines")
    assert not wrong


def num_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Keywords, * and ** counted, self and cls not."""
    args = node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs)]
    names += [arg.arg for arg in (args.vararg, args.kwarg) if arg]
    return len([name for name in names if name not in ("self", "cls")])


def test_functions_take_few_parameters():
    wide = [
        f"{path}: {node.name} has {num_parameters(node)}"
        for path in FILES
        for node in functions(path)
        if num_parameters(node) > MOST_PARAMETERS
    ]
    assert not wide, f"group what belongs together, {MOST_PARAMETERS} are the most"


def test_nothing_is_there_for_tests_alone():
    """A name that the product spells once is called by nobody in it."""
    spelled_in = Counter(
        word
        for path in FILES + EXPERIMENTS
        for word in re.findall(r"\w+", source(path))
    )
    defined = {
        f"{path}: {node.name}"
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("__")
        and spelled_in[node.name] == 1
    }
    assert not defined


def test_experiments_import_no_sibling_package():
    imported_roots = {
        path: {name.split(".")[0] for name in imports(path)} for path in EXPERIMENTS
    }
    assert not [p for p, roots in imported_roots.items() if "experiments" in roots]


@pytest.mark.parametrize("path", REFERENCES, ids=str)
def test_references_are_independent(path):
    """What they are compared with has no say in them."""
    own = ("numpy", "math", "dataclasses", "typing", "collections.abc")
    for name in imports(path):
        assert name.startswith(("tests.reference.", *own)), name


@pytest.mark.parametrize("code", ["import cogjax", "import cogjax.cli"])
def test_import_is_light(code):
    heavy = NETWORKS | {"numpy", "PIL", "grain", "sentencepiece", "ml_collections"}
    script = f"{code}\nimport sys\nprint(sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_the_rules_catch_what_they_forbid():
    assert not may_import("ops", "nn")
    assert not may_import("train", "models")
    assert not may_import("sampling", "tasks")
    assert may_import("stages", "train")
    assert not is_allowed("data", "jax.numpy")
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"]}) == [["b", "c", "b"]]
    code = """
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.variable("cache", "x", f)
        return nn.scan(nn.Dense)(nn.Dense(3)(x), mutable=["cache"])
"""
    wide = ast.parse("def f(self, a, /, b, *c, d, **e): pass").body[0]
    assert num_parameters(wide) == 5
    found = [n for node in ast.walk(ast.parse(code)) for n in banned_features(node)]
    assert sorted(found) == ["mutable=", "nn.scan", "self.variable"]
    assert unnamed_children(ast.parse(code).body[0], set()) == ["nn.Dense"]
