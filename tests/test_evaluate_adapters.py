"""`cogjax evaluate --adapter`: as the merged model is measured, and told apart."""

import json

import numpy as np
import pytest

import cogjax
from cogjax import cli
from cogjax.evaluate.suites import run as runner
from tests.test_adapter import grown


@pytest.fixture(scope="module")
def adapter(nano_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter") / "mine"
    return grown(nano_model.model, folder, 1)[0]


@pytest.fixture
def evaluate(nano_folder, tmp_path, monkeypatch):
    """Runs the command with a suite that keeps the model that it is given."""
    found = []

    class Suite:
        name = "looks"
        check = staticmethod(lambda model: None)
        settings = staticmethod(dict)

        @staticmethod
        def run(model, progress):
            found.append(model.model)
            return {}, []

    run = runner.run

    def looked(suite, model, **settings):
        return run(Suite, model, **settings)

    monkeypatch.setattr(runner, "run", looked)

    def call(*words, model=nano_folder):
        words = [model, "--suite", "shapes", "--out", tmp_path / "out", *words]
        return cli.main(["evaluate", *map(str, words)]), found

    return call


def test_the_adapted_model_is_measured(evaluate, adapter, nano_folder, tmp_path):
    assert evaluate("--adapter", f"{adapter}:0.5")[0] == 0
    [model] = evaluate("--adapter", f"{adapter}:0.5")[1][1:]
    wanted = cogjax.load(nano_folder, adapters={adapter: 0.5}).model
    kernels = [
        each["transformer"].params["blocks"]["layers"]["qkv"]["kernel"]
        for each in (model.model, wanted)
    ]
    np.testing.assert_array_equal(*kernels)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["adapter_folders"] == [str(adapter)]
    assert [weight for _, weight in report["adapters"]] == [0.5]


def test_another_adapter_is_another_evaluation(evaluate, adapter, capsys):
    """Neither the base's results nor those of another weight are gone on with."""
    assert evaluate("--adapter", adapter)[0] == 0
    for words in ([], ["--adapter", f"{adapter}:0.5"]):
        assert evaluate(*words)[0] == 2
        [line] = capsys.readouterr().err.splitlines()
        assert "holds an evaluation of something else: adapters is" in line


def test_the_oracle_has_no_adapter(evaluate, capsys):
    words = ["evaluate", "oracle", "--adapter", "x"]
    assert cli.main(words) == 2
    assert "--adapter is of a model, and the oracle has" in capsys.readouterr().err


def test_a_folder_that_is_no_adapter_is_named(evaluate, tmp_path, capsys):
    assert evaluate("--adapter", tmp_path)[0] == 2
    assert "is not an adapter folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
