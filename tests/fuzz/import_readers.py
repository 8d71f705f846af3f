"""Readers of what others bring: checkpoints around weights, modules, cases."""

import numpy as np

from cogjax import parity
from cogjax.interop.source import open_source
from tests.fuzz import damage
from tests.fuzz.harness import Reader
from tests.fuzz.intact import VALUES, each, written
from tests.importing import files

TENSORS = {"a.w": VALUES.reshape(3, 4), "a.b": VALUES[:3], "n": VALUES[3:5]}


def _finite(arrays):
    return {name: np.where(np.isfinite(x), x, 0) for name, x in arrays.items()}


def _read_source(folder):
    found = open_source([folder])
    tensors = {name: x.read() for name, x in found.tensors.items()}
    configs = [found.configs[path] for path in sorted(found.configs)]
    return [_finite(tensors), sorted(found.beside), [sorted(x) for x in configs]]


def module() -> Reader:
    """A whole module, as OpenAI's dVAE is kept."""
    intact = written(lambda folder: files.module(folder / "w.pkl", TENSORS))
    return Reader("module", intact, _read_source, each(pkl=damage.some_pickle))


def checkpoint_of_others() -> Reader:
    """A state dict in what a trainer puts around it, and its config file."""

    def write(folder):
        files.state_dict(folder / "w.ckpt", TENSORS, ("state_dict",))
        (folder / "w.json").write_text('{"model": {"params": {"x": [1, 2]}}}')

    kinds = {"ckpt": damage.some_zip, "json": damage.some_json}
    return Reader("checkpoint of others", written(write), _read_source, each(**kinds))


def case() -> Reader:
    """A case of `cogjax parity`."""

    def read(folder):
        inputs, outputs = parity.read_case(folder / "case.npz")
        return [_finite(inputs), _finite(outputs)]

    intact = {"case.npz": parity.pack({"pixels": VALUES}, {"codes": VALUES[:4]})}
    return Reader("case", intact, read, each(npz=damage.some_zip))
