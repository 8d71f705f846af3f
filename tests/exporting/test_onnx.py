"""Networks as ONNX files; what writes and runs them has an environment of its own."""

import sys
import types

import numpy as np
import pytest

from cogjax.cli import main
from cogjax.errors import UserError
from cogjax.exporting import onnx
from cogjax.exporting.programs import Program
from cogjax.importing import import_model
from tests.importing import public


def test_without_jax2onnx(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None)
    words = ["export", "shapes", "--format", "onnx", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "jax2onnx and onnxruntime must be installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("dtype", "gap", "fits"),
    [
        (np.int32, 0.0, True),
        (np.int32, 1.0, False),
        (np.uint8, 1.0, True),
        (np.uint8, 2.0, False),
        (np.float32, 9e-5, True),
        (np.float32, 2e-4, False),
        (np.float32, float("nan"), False),
    ],
)
def test_how_much_may_differ(dtype, gap, fits):
    outputs = {"x": np.zeros(3, dtype)}
    if fits:
        return onnx._check({"x": gap}, outputs, "encode")
    with pytest.raises(UserError, match="other x of encode than cogjax, by"):
        onnx._check({"x": gap}, outputs, "encode")


def test_values_that_are_no_numbers_differ(monkeypatch):
    """Whatever the other rows and outputs are; the runtime is a stand-in."""

    class Session:
        def __init__(self, *args, **settings):
            pass

        def run(self, names, inputs):
            return [np.full((len(inputs["ids"]), 4), np.nan, np.float32)]

    runtime = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace, InferenceSession=Session
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    inputs = {"ids": np.zeros((2, 3), np.int32)}
    outputs = {"vectors": np.ones((2, 4), np.float32)}
    program = Program(lambda weights, x: x, "clip", {}, inputs, outputs)
    with pytest.raises(UserError, match="other vectors of embed_texts .* by nan"):
        onnx._differences("x.onnx", program, "embed_texts")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "name",
    ["openai-dvae", "vqgan", "vqgan-gumbel", "vqgan-jax", "vqgan-detoker"]
    + ["llamagen-vq", "cogview-vqvae", "clip", "t5"],
)
def test_onnx_runtime_gives_the_same(tmp_path, name):
    pytest.importorskip("jax2onnx")
    runtime = pytest.importorskip("onnxruntime")
    (tmp_path / "source").mkdir()
    public.WRITE[name](tmp_path / "source")
    import_model([tmp_path / "source"], tmp_path / "model")
    done = onnx.export_onnx(str(tmp_path / "model"), tmp_path / "out")
    assert done.components
    for program in done.components:
        path = tmp_path / "out" / f"{program}.onnx"
        assert runtime.InferenceSession(path).get_inputs()[0].shape[0] == "b"
