"""`cogjax config`: a list of experiments, and the keys of one or of a task."""

import json

import pytest

from cogjax import cli


def rows(capsys, *words):
    assert cli.main(["config", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_experiments_are_listed(capsys):
    assert cli.main(["config"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "cogview: vq, lm, masked, super; dalle: dvae" in lines[-1]
    [icons] = [line for line in lines if line.startswith("cogview/icons ")]
    assert icons.endswith(
        "CogView on `icons`: the model that is to ship with the package."
    )


def test_keys_have_the_values_of_an_experiment(capsys):
    words = "cogview/icons:transformer", "--config.optim.b2=0.9"
    found = {row["key"]: row for row in rows(capsys, *words)}
    assert found["optim.lr"]["value"] == "0.02"
    assert found["optim.lr"]["default"] == "0.0003"
    assert found["optim.lr"]["meaning"] == "highest learning rate"
    assert found["optim.b2"]["value"] == "0.9"
    assert found["train.keep"]["value"] == found["train.keep"]["default"] == "2"
    assert found["task.code_noise"]["value"] == "0.4"
    assert found["sample.sampler.guidance"]["value"] == "2.0"


def test_keys_of_a_task_have_defaults_alone(capsys):
    found = {row["key"]: row for row in rows(capsys, "clip")}
    assert "value" not in found["task.name"]
    assert found["model.image_size"]["default"] == "required"
    assert not [key for key in found if key.startswith("task.image_to_text")]


def test_the_table_cuts_long_values(capsys):
    assert cli.main(["config", "cogview/icons:transformer"]) == 0
    lines = capsys.readouterr().out.splitlines()
    [prompts] = [line for line in lines if line.startswith("sample.prompts")]
    assert "..." in prompts and "what the images show" in prompts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lmm", "config 'lmm' is no shipped experiment"),
        ("x.py", "cannot read config x"),
    ],
)
def test_a_name_that_is_none(name, message, capsys):
    assert cli.main(["config", name]) == 2
    assert message in capsys.readouterr().err
