"""Words that can be checked: commands, configs and files that documents name.

The documents are README, CONTRIBUTING, docs/, model cards, and what the docstrings of
experiments say.
"""

import ast
import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cogjax import cli, config
from cogjax.config_files import shipped_configs
from cogjax.errors import UserError
from tests import documents

ROOT = documents.ROOT
EXPERIMENTS = sorted(ROOT.glob("experiments/*/*.py"))
PAGES = documents.PAGES + sorted(ROOT.glob("cogjax/assets/*/*.md"))


def words_of(path: Path) -> str:
    """A page, or the docstring of a module; lines that go on are one."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    return re.sub(r"\\\n\s*", " ", text)


def commands(path: Path, program: str):
    """(words, whether it stands alone and not in a sentence) of each command."""
    for line in words_of(path).splitlines():
        found = re.findall(rf"`({program} [^`]*)`", line)
        # From the start of a line of code on, or behind `&&`.
        code = re.match(rf"(?:    +|.*&& |)({program} [^#`]*)", line)
        for text, whole in [(x, False) for x in found] + [(code and code[1], True)]:
            if text and "[--" not in text:
                whole &= "..." not in text
                words = shlex.split(text.replace("...", "").partition("; do")[0])
                yield words[1:], whole


def cases(program: str):
    return [
        pytest.param(words, whole, id=f"{path.relative_to(ROOT)}: {' '.join(words)}")
        for path in (*PAGES, *EXPERIMENTS)
        for words, whole in commands(path, program)
    ]


@pytest.mark.parametrize(("words", "whole"), cases("cogjax"))
def test_a_command_is_one(words, whole, monkeypatch):
    """It parses as it stands, and its config takes its argument and its overrides.

    A command in the middle of a sentence may leave out what is required.
    """
    monkeypatch.chdir(ROOT)
    if words == ["--help"]:
        return
    try:
        args = cli._parse(words)
    except UserError as error:
        assert not whole and "are required: " in str(error)
        return
    path = getattr(args, "config", None)
    shipped = str(path).partition(":")[0] in shipped_configs()
    if shipped or str(path).startswith("experiments/"):
        assert config.load(path, args.overrides)["task"]["name"]


SCRIPTS = [
    case
    for case in cases("python")
    if case.values[0][0].startswith("experiments/") or "tests." in case.id
]


@pytest.mark.parametrize(("words", "whole"), SCRIPTS)
def test_a_script_knows_its_flags(words, whole):
    """A module of tests, or a file beside which its parser may stand."""
    name = words[1].replace(".", "/") if words[0] == "-m" else words[0]
    place = ROOT / name
    if not place.is_file():
        place = next(
            p for p in (place / "__main__.py", place.with_suffix(".py")) if p.is_file()
        )
    text = "".join(path.read_text("utf-8") for path in place.parent.glob("*.py"))
    assert all(f'"{word}"' in text for word in words if word.startswith("--"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_are_named_are_there(path):
    text = path.read_text("utf-8")
    links = re.findall(r"\]\(([^)#\s:]+)(?:#[^)]*)?\)", text)
    missing = [name for name in links if not (path.parent / name).exists()]
    top = "tests|docs|cogjax|experiments"
    named = re.findall(rf"`((?:{top})/[\w./-]+\.(?:py|md|json|png|txt))", text)
    there = ["tests/models/test_y.py"]  # Its network is only an example.
    missing += [x for x in named if not (ROOT / x).is_file() and x not in there]
    assert not missing


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiments_are_listed(path):
    """But for those that hold what others share."""
    name = f"{path.parent.name}/{path.name}"
    listed = (ROOT / "experiments/README.md").read_text("utf-8")
    assert f"`{name}" in listed or path.name.startswith("small_")


BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}:{block.line}")
    for path in documents.PAGES
    for block in documents.blocks(path)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_says_what_becomes_of_it(block):
    """Python is Python, and imports what is there; shells are bash's."""
    assert block.tag in documents.TAGS
    if block.tag.startswith("sh"):
        subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)
    if not block.tag.startswith("python"):
        return
    for node in ast.walk(ast.parse(block.code)):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("cogjax"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


# A word or a comma before it is one of a title: "A Survey Of Attention".
BEGINS_WITH_OF = re.compile(r"(?<![\w,] )\bOf\s")


def test_a_sentence_begins_with_its_subject():
    """And says of that what there is to say, in prose as in the comments of code."""
    files = [*PAGES, ROOT / "setup.py"]
    for folder in ("cogjax", "docs", "experiments", "tests"):
        files += sorted((ROOT / folder).rglob("*.py"))
    wrong = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text("utf-8").splitlines(True), 1)
        if BEGINS_WITH_OF.search(line)
    ]
    assert not wrong
    sentences = (
        "%s a model.",
        "    # %s all.",
        '"""%s a model."""',
        "Here. %s it",
        "- %s `x`",
    )
    assert all(BEGINS_WITH_OF.search(each % "Of") for each in sentences)
    assert not BEGINS_WITH_OF.search("A Survey Of Attention, Of Late; of OfDepth")


def test_no_block_is_without_a_fence():
    for path in documents.PAGES:
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.M | re.S)
        assert not re.findall(r"^\n {4,}\S.*", text, re.M), path


def test_what_a_command_prints_is_compared():
    assert list(
        documents.commands("cogjax a \\\n  b  # 1.5\n\ncogjax c\n# d, e\n")
    ) == [
        ("cogjax a  b", "1.5"),
        ("cogjax c", "d, e"),
    ]
    assert not documents.fault("1.50", "nats: 1.51\n")
    assert documents.fault("1.50", "nats: 1.53\n") and documents.fault("1.5", "none")
    assert not documents.fault("two", "x.png: two") and documents.fault("two", "one")


@pytest.mark.slow
def test_the_python_of_the_readme(tmp_path, monkeypatch):
    """An apple is red, and two squares are two."""
    monkeypatch.chdir(tmp_path)
    [code] = [
        block.code
        for block in documents.blocks(ROOT / "README.md")
        if block.tag == "python run"
    ]
    names = {}
    *lines, last = code.strip().split("\n")
    exec("\n".join(lines), names)
    assert (tmp_path / "apple.png").is_file() and (tmp_path / "my-model").is_dir()
    red, green, blue = names["result"].pixels[0, 0].mean((0, 1))
    assert red > max(green, blue) + 10
    assert len(names["result"].images) == 4
    answers = eval(last, names)
    assert len(answers) == 4 and "two" in answers
