"""Each family's files, imported, give the outputs of the public code."""

import json
import shutil

import numpy as np
import pytest

from cogjax import parity
from cogjax.cli import main
from cogjax.errors import UserError
from cogjax.importing import import_model
from cogjax.interop import safetensors
from cogjax.interop.tree import flatten
from tests.importing import public

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """name -> model folder."""
    done = {}

    def make(name):
        if name not in done:
            folder = tmp_path_factory.mktemp("source")
            public.WRITE[name](folder)
            done[name] = tmp_path_factory.mktemp("model") / name
            found = import_model([folder], done[name])
            assert name.startswith(found.name) and found.weights > 0
        return done[name]

    return make


@pytest.mark.parametrize("name", public.WRITE)
def test_outputs_of_the_public_code(imported, name):
    case = public.CASES / f"{name}.npz"
    part = public.COMPONENTS.get(name, "")
    found = parity.compare(imported(name), case, TOLERANCE, part)
    print(name, {key: each.max for key, each in found.items()})
    assert found and not [key for key, each in found.items() if each.first is not None]
    # The outputs are no constants that anything would give.
    assert all(np.std(x) > 0.01 for x in parity.read_case(case)[1].values())


@pytest.mark.parametrize("name", public.WRITE)
def test_every_weight_counts(imported, name):
    """No leaf is a constant, so that each was filled from the file."""
    model = imported(name)
    for path in model.glob("*.safetensors"):
        leaves = flatten(safetensors.load_tree(path))
        assert leaves
        for leaf, values in leaves.items():
            assert values.size == 1 or np.std(values) > 0, leaf


def test_another_model_differs(imported, tmp_path):
    """And the message says where."""
    model = imported("openai-dvae")
    case = public.CASES / "openai-dvae.npz"
    inputs, outputs = parity.read_case(case)
    outputs["pixels"][0, 3, 4, 1] += 0.01
    outputs["codes"][1, 0, 2] += 1
    outputs["features"][0, 0, 0, 5] = np.nan
    (tmp_path / "case.npz").write_bytes(parity.pack(inputs, outputs))
    found = parity.compare(model, tmp_path / "case.npz", TOLERANCE)
    assert found["pixels"].first == (0, 3, 4, 1)
    assert found["pixels"].max == pytest.approx(0.01, rel=1e-3)
    assert found["codes"].first == (1, 0, 2)
    assert found["codes"].expected == found["codes"].found + 1
    assert found["features"].first == (0, 0, 0, 5)
    loose = parity.compare(model, tmp_path / "case.npz", 0.02)
    assert loose["pixels"].first is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"output.logits": np.zeros(3)}, "output.logits, a dvae gives features"),
        ({"input.ids": np.zeros(3)}, "input.ids, a dvae reads pixels, codes"),
        ({"input.codes": np.zeros((1, 2), int)}, "input.codes is int64 with 2 sides"),
        ({"pixels": np.zeros(3)}, "expected arrays input.NAME and output.NAME"),
        ({"output.pixels": np.zeros((1, 8))}, r"pixels is \(1, 8\), the model gives"),
        (
            {"input.codes": np.full((1, 1, 1), 24)},
            "codes is 24 to 24, expected 0 to 23",
        ),
        (
            {"input.pixels": np.zeros((2, 5, 16, 3))},
            r"cannot run .*pixels \(2, 5, 16, 3",
        ),
        ({"output.pixels": np.array([{}])}, "no .npz of plain arrays"),
    ],
)
def test_cases_that_do_not_fit(imported, tmp_path, change, words):
    with np.load(public.CASES / "openai-dvae.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "case.npz", **(arrays | change))
    with pytest.raises(UserError, match=words):
        parity.compare(imported("openai-dvae"), tmp_path / "case.npz")


def test_an_output_without_its_input(imported, tmp_path):
    inputs, outputs = parity.read_case(public.CASES / "openai-dvae.npz")
    del inputs["pixels"]
    (tmp_path / "case.npz").write_bytes(parity.pack(inputs, outputs))
    with pytest.raises(UserError, match="output.features, but not input.pixels"):
        parity.compare(imported("openai-dvae"), tmp_path / "case.npz")


def test_the_scope_of_norms_is_the_release_s(imported, tmp_path):
    """With another the logits of a batch differ by far more than rounding."""
    model = shutil.copytree(imported("cogview"), tmp_path / "model")
    config = json.loads((model / "config.json").read_bytes())
    own = config["components"]["transformer"]["config"]
    assert own["norm_scope"] == "tensor"
    own["norm_scope"] = "token"
    del config["seal"]
    (model / "config.json").write_text(json.dumps(config))
    inputs, outputs = parity.read_case(public.CASES / "cogview.npz")
    del outputs["greedy"]
    (tmp_path / "case.npz").write_bytes(parity.pack(inputs, outputs))
    found = parity.compare(model, tmp_path / "case.npz", TOLERANCE, "transformer")
    assert found["logits"].max > 1e-3
    with pytest.raises(UserError, match="has tokenizer, transformer: choose by"):
        parity.compare(model, tmp_path / "case.npz")


def test_the_command(imported, tmp_path, capsys):
    """Its JSON has null for what is no number."""
    model, case = str(imported("openai-dvae")), public.CASES / "openai-dvae.npz"
    assert main(["parity", model, "--case", str(case)]) == 0
    assert "codes (2, 2, 3): equal, 0.0e+00 at most" in capsys.readouterr().out
    inputs, outputs = parity.read_case(case)
    outputs["pixels"][0, 3, 4, 1] = np.nan
    case = tmp_path / "case.npz"
    case.write_bytes(parity.pack(inputs, outputs))
    assert main(["parity", model, "--case", str(case), "--json"]) == 2
    printed = capsys.readouterr()
    assert "NaN" not in printed.out and "differs in pixels" in printed.err
    found = json.loads(printed.out)
    assert not found["passed"]
    assert found["outputs"]["pixels"]["expected"] is None
    assert found["outputs"]["pixels"]["first"] == [0, 3, 4, 1]
