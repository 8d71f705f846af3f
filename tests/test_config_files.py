"""The forms of a config: a shipped name, YAML, and a program that imports a shipped."""

import os
import shutil
import subprocess
import sys

import pytest

from cogjax import config
from cogjax.config_files import shipped_configs
from cogjax.errors import UserError


def load(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    return config.load(str(tmp_path / name))


def test_a_shipped_name_is_its_file():
    found = config.load("cogview/icons:transformer,nano", ["--config.optim.lr=1e-3"])
    file = "experiments/cogview/icons.py:transformer,nano"
    assert found == config.load(file, ["--config.optim.lr=1e-3"])
    assert found["optim"]["lr"] == 1e-3 and found["task"]["name"] == "lm"


def test_shipped_ones_are_programs_with_a_config():
    names = list(shipped_configs())
    assert {"cogview/emoji", "dalle/icons", "imagen/distill"} <= set(names)
    assert "dalle/small_dalle" not in names and "bench/masked" not in names
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cogview/icon:nano",
            "no shipped experiment, .*: did you mean 'cogview/icons'",
        ),
        ("cogview/paper:small", "cogview/paper.py failed: ValueError: the argument is"),
        ("imagen/text/x", "'imagen/text/x' is no shipped experiment"),
        ("away/cogview/emoji.py", "No such file .*; cogview/emoji is a shipped one"),
        ("away.yaml", "cannot read config away.yaml: No such file"),
    ],
)
def test_a_name_that_is_none(name, message):
    with pytest.raises(UserError, match=message):
        config.load(name)


def test_an_own_config_starts_from_a_shipped_one(tmp_path):
    text = (
        "from cogjax.experiments.dalle import icons\n"
        "def get_config(arg='transformer,nano'):\n"
        "    found = icons.get_config(arg)\n"
        "    found.data.path = 'data/mine'\n"
        "    return found\n"
    )
    found = load(tmp_path, "own.py", text)
    assert found["data"]["path"] == "data/mine" and found["task"]["name"] == "dalle"


def test_yaml_is_sections_with_keys(tmp_path):
    text = "task: {name: lm}\noptim:\n  lr: 1e-3\n  decay_embeddings: off\n"
    found = load(tmp_path, "own.yaml", text)
    assert found["task"] == {"name": "lm"}
    assert found["optim"] == {"lr": "1e-3", "decay_embeddings": False}
    from cogjax.train.optim import OptimConfig

    assert config.section(OptimConfig, found["optim"], "optim").lr == 1e-3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: [", "own.yaml is not plain YAML: while parsing"),
        ("task: &a\n  more: *a\n", r"not plain YAML: it has the alias \*a"),
        ("eval: &a {}\nmesh: *a\n", r"not plain YAML: it has the alias \*a"),
        ("optim:\n  lr: 1\n  lr: 2\n", "plain YAML: line 3 has the key 'lr' again"),
        ("optim: {}\neval: {}\noptim: {}\n", "line 3 has the key 'optim' again"),
        ("task: 2021-05-26\n", "not plain YAML: Object of type date"),
        ("task: !!python/object:os.system {}\n", "not plain YAML: could not determine"),
        ("- task\n", "holds no sections"),
        ("", "holds no sections"),
        ("tusk: {}\n", "unknown config key 'tusk': did you mean 'task'"),
        ("task: {1: 2}\n", "config key 1 is no text"),
        ("\x00", "not plain YAML"),
    ],
)
def test_yaml_that_is_none(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, "own.yaml", text)


def test_a_package_alone_has_the_configs(tmp_path):
    """As a wheel has them: in the package, without a checkout around it."""
    import cogjax

    package = os.path.dirname(cogjax.__file__)
    (tmp_path / "cogjax" / "experiments" / "toy").mkdir(parents=True)
    for name in os.listdir(package):
        if name not in ("experiments", "assets", "__pycache__"):
            os.symlink(os.path.join(package, name), tmp_path / "cogjax" / name)
    own = tmp_path / "cogjax" / "experiments"
    shutil.copy(os.path.join(package, "experiments", "__init__.py"), own)
    (own / "toy" / "one.py").write_text("def get_config(): return {'task': {}}\n")
    script = "from cogjax.config_files import *; print(list(shipped_configs()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "['toy/one']\n", done.stderr
