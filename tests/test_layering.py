"""The architecture, enforced on the syntax tree of every file."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cogjax"
FILES = sorted(p.relative_to(ROOT) for p in PACKAGE.rglob("*.py"))
EXPERIMENTS = sorted(p.relative_to(ROOT) for p in ROOT.glob("experiments/**/*.py"))
TESTS = sorted(p.relative_to(ROOT) for p in ROOT.glob("tests/**/*.py"))

# A layer may import from itself and from the groups above its own.
ORDER = (
    ("errors", "compilation_cache"),
    ("files",),
    ("config",),
    ("ops", "parallel"),
    ("nn",),
    ("models",),
    ("data",),
    ("families",),
    ("tasks", "sampling", "interop", "train"),
    ("model_folder",),
    ("image_codes",),
    ("reader",),
    ("pipeline",),
    ("evaluate",),
    ("runs",),
    ("launch", "bench", "encode"),
    ("plan",),
    ("commands",),
    ("cli",),
    ("experiments",),
)
# Layers that may import less than the order allows.
ONLY = {
    "ops": {"errors"},
    "data": {"errors", "files"},
    "train": {"errors", "files", "config", "parallel"},
}
NETWORKS = {"jax", "jaxlib", "flax", "optax", "orbax"}
THIRD_PARTY_BANS = {
    "ops": {"flax", "optax", "orbax", "ml_collections", "PIL"},
    "data": NETWORKS,
    "families": {"optax", "orbax"},
}
LIFTED = {"scan", "remat", "vmap", "jit", "cond", "while_loop", "switch"}
BANNED_NAMES = {
    "with_partitioning",
    "with_logical_partitioning",
    "with_logical_constraint",
    "make_rng",
    "sow",
    "pjit",
}


def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def layer_of(module: str) -> str:
    """ "cogjax.ops.masks" -> "ops"; the package itself is the last layer."""
    parts = module.split(".")
    if parts[0] == "experiments":
        return "experiments"
    return parts[1] if len(parts) > 1 else "cogjax"


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        module = node.module or ""
        if module in ("cogjax", "experiments"):
            return [f"{module}.{alias.name}" for alias in node.names]
        return [module]
    return []


def imports(path: Path) -> list[str]:
    return [name for node in ast.walk(tree(path)) for name in imported(node)]


def may_import(layer: str, other: str) -> bool:
    if layer == other:
        return True
    if layer in ONLY:
        return other in ONLY[layer]
    rank = {name: i for i, group in enumerate(ORDER) for name in group}
    return rank[other] < rank[layer]


def module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_to_the_left(path):
    layer = layer_of(module_name(path))
    if layer == "cogjax":
        return
    for name in imports(path):
        root = name.split(".")[0]
        assert root not in THIRD_PARTY_BANS.get(layer, ()), f"{path} imports {name}"
        assert root != "experiments", f"{path} imports {name}"
        if name == "cogjax" or name.startswith("cogjax.__"):
            assert layer in ("cli", "commands"), f"{path} imports {name}"
        elif root == "cogjax":
            assert may_import(layer, layer_of(name)), f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_family_imports_a_sibling(path):
    if path.parts[:2] == ("cogjax", "families"):
        siblings = [n for n in imports(path) if n.startswith("cogjax.families")]
        assert not siblings


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_pickle(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & {"pickle", "cloudpickle", "dill", "marshal", "shelve"}


def is_flax_module(node: ast.AST) -> bool:
    bases = node.bases if isinstance(node, ast.ClassDef) else []
    return any(ast.unparse(base) in ("nn.Module", "Module") for base in bases)


MODULES = {
    node.name for path in FILES for node in ast.walk(tree(path)) if is_flax_module(node)
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


@pytest.mark.parametrize("path", FILES, ids=str)
def test_only_the_functional_core_of_linen(path):
    found = [name for node in ast.walk(tree(path)) for name in banned_features(node)]
    assert not found
    if path.parts[:2] != ("cogjax", "interop"):
        assert not [n for n in imports(path) if "nnx" in n]


def _is_explicit(call: ast.Call) -> bool:
    """A child says its name; a template for another module says parent=None."""
    return any(keyword.arg in ("name", "parent") for keyword in call.keywords)


def unnamed_children(module: ast.ClassDef) -> list[str]:
    """Calls in a module without `setup` that would get an automatic name."""
    if any(isinstance(n, ast.FunctionDef) and n.name == "setup" for n in module.body):
        return []
    unnamed = []
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and not _is_explicit(node):
            name = ast.unparse(node.func)
            is_layer = re.fullmatch(r"nn\.(?!Dropout)[A-Z]\w*", name)
            if is_layer or name in MODULES:
                unnamed.append(name)
    return unnamed


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_child_module_is_named(path):
    modules = [node for node in ast.walk(tree(path)) if is_flax_module(node)]
    assert not [name for module in modules for name in unnamed_children(module)]


@pytest.mark.parametrize("path", FILES + EXPERIMENTS + TESTS, ids=str)
def test_files_and_functions_stay_small(path):
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 500
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            source = lines[node.lineno - 1 : node.end_lineno]
            reason = any("# long: " in line for line in source)
            assert len(source) <= 60 or reason, f"{node.name}: {len(source)} lines"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=str)
def test_experiments_import_no_sibling_package(path):
    assert not [name for name in imports(path) if name.split(".")[0] == "experiments"]


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
    assert may_import("launch", "train")
    code = """
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.variable("cache", "x", f)
        return nn.scan(nn.Dense)(nn.Dense(3)(x), mutable=["cache"])
"""
    found = [n for node in ast.walk(ast.parse(code)) for n in banned_features(node)]
    assert sorted(found) == ["mutable=", "nn.scan", "self.variable"]
    assert unnamed_children(ast.parse(code).body[0]) == ["nn.Dense"]
