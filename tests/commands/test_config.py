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


_ICONS = "dalle/icons:tokenizer"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([_ICONS, "--config.optim.lrr=3"], "key 'optim.lrr': did you mean 'optim.lr'"),
        ([_ICONS, "--config.optim.lr=oops"], "'optim.lr' expects a number, got 'oops'"),
        ([_ICONS, "--config.task.lossy=1"], "unknown config key 'task.lossy'"),
        ([_ICONS, "--config.model.width_=1"], "unknown config key 'model.width_'"),
        (["cogview/icons:transformer", "--config.sample.sampler.x=1"], "sampler.x'"),
        (["vqgan/decoder", "--config.model.width=1"], "'model.width': this task takes"),
        (["lm", "--config.optim.lr=1"], "optim.lr changes nothing, since lm is a task"),
        (["--config.optim.lr=1"], "optim.lr changes nothing, since there is no NAME"),
    ],
)
def test_a_key_or_value_that_does_not_fit(words, message, capsys):
    assert cli.main(["config", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_file_may_lack_what_is_required_and_no_more(tmp_path, capsys):
    path = tmp_path / "own.yaml"
    path.write_text("task: {name: lm}\noptim: {lr: 1e-3}\n")
    found = {row["key"]: row for row in rows(capsys, str(path))}
    assert found["data.path"]["value"] == "required"
    for text, message in (
        ("task: {name: lm}\noptim: {nonsense: 3}\n", "key 'optim.nonsense'"),
        ("task: {name: [lm]}\n", "unknown task ['lm']"),
        ("optim: {}\n", "unknown task None"),
    ):
        path.write_text(text)
        assert cli.main(["config", str(path)]) == 2
        assert message in capsys.readouterr().err


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
