"""The notebooks of docs/notebooks: cells are Python, and the slow tests run them."""

import re
import shlex

import pytest

from cogjax import cli
from tests.notebooks import NOTEBOOKS, execute

SHOWN = {
    "first_images": {"image/png": 3, "text/html": 4},
    "your_pictures": {"image/png": 1, "text/html": 2},
    "attention": {"image/png": 6},
    "four_systems": {"image/png": 3, "text/html": 3},
    "pod": {},
}


def test_each_notebook_says_what_it_shows():
    assert sorted(SHOWN) == [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_python(path):
    text = path.read_text(encoding="utf-8")
    compile(text, path.name, "exec")
    # Jupytext takes these lines for what a notebook hands to the shell, and those of a
    # cell in sh: after JAX has begun, `!` warns of its threads.
    for command in re.findall(r"^# (!.*|cogjax .*)$", text, re.M):
        program, *words = shlex.split(command.lstrip("!"))
        assert program == "cogjax" and cli._parse(words)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path):
    found = execute(path, tmp_path)
    assert {kind: found.get(kind, 0) for kind in SHOWN[path.stem]} == SHOWN[path.stem]
