"""What is exported loads in the public code by the page's loader, and gives the same.

Needs torch, transformers and a folder with the clones, named by COGJAX_PUBLIC.
"""

import os
import sys

import numpy as np
import pytest

from cogjax import parity
from cogjax.exporting.public import export_weights
from cogjax.importing import import_model
from cogjax.interop.safetensors import open_safetensors
from tests.exporting import page
from tests.importing import public

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
FLAX = "dalle-mini", "vqgan-jax"
CLONES = os.environ.get("COGJAX_PUBLIC")


def file_of(folder, tensors):
    """The exported file of a module: its tensors are among those asked for."""
    for path in folder.glob("*.safetensors"):
        found = open_safetensors(path)
        if all(x in tensors and f.shape == tensors[x].shape for x, f in found.items()):
            return path
    raise AssertionError(f"no file for {sorted(tensors)[:3]}")


# Files of Flax come out for PyTorch: their own code does not read that.
@pytest.mark.parametrize("name", [x for x in public.WRITE if x not in FLAX])
def test_public_code_loads_it(tmp_path, monkeypatch, name):
    torch = pytest.importorskip("torch")
    if not CLONES:
        pytest.skip("COGJAX_PUBLIC names no folder with clones of the public code")
    from tests.importing import modules, record

    (tmp_path / "source").mkdir()
    public.WRITE[name](tmp_path / "source")
    import_model([tmp_path / "source"], tmp_path / "model")
    export_weights(str(tmp_path / "model"), tmp_path / "out", name == "clip", "float32")
    load, used = page.loader(), []

    def loaded(module, tensors):
        for x in module.parameters():
            if not (x == 1).all():
                x.zero_()
        used.append(file_of(tmp_path / "out", tensors))
        return load(module, used[-1])

    monkeypatch.setattr(modules, "load", loaded)
    clone, run = record.RECORD[name]
    monkeypatch.setattr(sys, "path", [*sys.path, os.path.join(CLONES, clone)])
    with torch.no_grad():
        _, outputs = run()
    _, wanted = parity.read_case(public.CASES / f"{name}.npz")
    assert used and outputs.keys() == wanted.keys()
    for key, x in wanted.items():
        np.testing.assert_allclose(outputs[key], x, atol=1e-5, rtol=1e-5, err_msg=key)
