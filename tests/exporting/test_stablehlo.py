"""Programs of a model, run in a process without cogjax."""

import os
import subprocess
import sys

import numpy as np
import pytest

from cogjax.cli import main
from cogjax.exporting import stablehlo
from tests.exporting import page
from tests.importing import public

ALL = {"encode", "decode", "generate", "score"}


def run(folder, tmp_path):
    """What the page's script prints of a folder, where cogjax cannot be imported."""
    (tmp_path / "run.py").write_text(page.script())
    (tmp_path / "cogjax.py").write_text("raise ImportError('it is not needed')\n")
    words = [sys.executable, str(tmp_path / "run.py"), str(folder)]
    found = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert not found.returncode, found.stderr
    return found.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shapes", "shapes-ernie", "emoji"])
def test_a_shipped_model_runs_without_cogjax(tmp_path, name):
    """Its outputs are bit by bit those of cogjax."""
    pytest.importorskip("flatbuffers")
    out = tmp_path / "out"
    assert main(["export", name, "--format", "stablehlo", "--out", str(out)]) == 0
    lines = run(out, tmp_path)
    assert {line.split()[0] for line in lines} == ALL and len(lines) == len(ALL)
    assert all(line.endswith("equal") for line in lines), lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("openai-dvae", {"encode", "decode"}),
        ("vqgan-gumbel", {"encode", "decode"}),
        ("clip", {"embed_images", "embed_texts"}),
        ("t5", {"encode_text"}),
        ("vqgan-detoker", {"decode"}),
        ("dalle-mini-torch", {"decode"}),
        ("llamagen-c2i", {"encode", "decode", "generate"}),
        ("llamagen-t2i", {"encode", "decode", "encode_text"}),
        ("mindalle", {"encode", "decode", "generate"}),
        ("rudalle-v2", {"encode", "decode"}),
        ("rudalle-v3", {"encode", "decode", "generate"}),
    ],
)
def test_an_imported_network_runs_without_cogjax(tmp_path, name, programs):
    from cogjax.importing import import_model

    pytest.importorskip("flatbuffers")
    (tmp_path / "source").mkdir()
    public.WRITE[name](tmp_path / "source")
    import_model([tmp_path / "source"], tmp_path / "model")
    stablehlo.export_programs(str(tmp_path / "model"), tmp_path / "out")
    lines = run(tmp_path / "out", tmp_path)
    assert {line.split()[0] for line in lines} == programs
    assert all(line.endswith("equal") for line in lines), lines


@pytest.mark.slow
def test_any_number_of_rows_and_settings(tmp_path):
    """The batch is symbolic; seed, images, codes that stay and numbers are inputs."""
    import cogjax

    pytest.importorskip("flatbuffers")
    from jax import export

    stablehlo.export_programs("shapes", tmp_path / "out")
    example = np.load(tmp_path / "out" / "example.npz")
    start = "generate.input."
    inputs = {x.removeprefix(start): example[x] for x in example if start in x}
    for key in inputs:
        if inputs[key].ndim:
            inputs[key] = np.repeat(inputs[key][:1], 3, axis=0)
    inputs["image"] = np.array([4, 0, 1], np.int32)
    inputs["seed"], inputs["temperature"] = np.uint32(7), np.float32(0.3)
    model = cogjax.load("shapes")
    settings = {"num_images": 5, "seed": 7, "temperature": 0.3}
    wanted = model.generate("a red circle", **settings).codes[0][[4, 0, 1]]
    weights = dict(np.load(tmp_path / "out" / "transformer.npz"))
    data = (tmp_path / "out" / "generate.bin").read_bytes()
    call = export.deserialize(bytearray(data)).call
    np.testing.assert_array_equal(call(weights, inputs)["codes"], wanted)
    inputs["forced"][:, :8] = 3
    codes = np.asarray(call(weights, inputs)["codes"])
    assert (codes[:, 0] == 3).all() and (codes[:, 1:] != wanted[:, 1:]).any()


def test_what_cannot_be_exported(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["export", "shapes", "--format", "stablehlo", "--out", str(out)]
    assert main([*words, "--dtype", "float16"]) == 2
    assert "--dtype is of weights alone" in capsys.readouterr().err
    monkeypatch.setattr(stablehlo.importlib.util, "find_spec", lambda name: None)
    assert main(words) == 2
    assert "`pip install 'cogjax[export]'`" in capsys.readouterr().err
    monkeypatch.undo()
    if stablehlo.importlib.util.find_spec("flatbuffers"):
        monkeypatch.setattr(stablehlo, "programs", lambda model: {})
        assert main(words) == 2
        assert "no program of these is exported" in capsys.readouterr().err
    assert not out.exists()
