"""Files as PyTorch writes them, of given tensors; no torch is needed."""

import numpy as np

from tests.interop.test_torch_files import (
    entries,
    name,
    number,
    several,
    tensor,
    text,
    write_legacy,
    write_zip,
)

KINDS = {np.dtype("f4"): "FloatStorage", np.dtype("f2"): "HalfStorage"}
KINDS |= {np.dtype("i8"): "LongStorage"}


def _tensor(key: str, array: np.ndarray, legacy: bool) -> bytes:
    steps = [stride // array.itemsize for stride in array.strides]
    kind = KINDS[array.dtype]
    return tensor(key, array.size, array.shape, steps, kind=kind, legacy=legacy)


def _stored(tensors, legacy):
    """(pickled tensor by name, arrays by key)."""
    arrays = {n: np.ascontiguousarray(x) for n, x in tensors.items()}
    keys = {n: str(i) for i, n in enumerate(arrays)}
    pickled = {n: _tensor(keys[n], arrays[n], legacy) for n in arrays}
    return pickled, {keys[n]: arrays[n] for n in arrays}


def _write(path, tree, storages, legacy):
    return (write_legacy if legacy else write_zip)(path, tree, storages)


def state_dict(path, tensors, root=(), legacy=False):
    """A state dict; root: the names of dicts around it, from the outside."""
    pickled, storages = _stored(tensors, legacy)
    tree = entries(**pickled)
    for word in reversed(root):
        tree = entries(epoch=number(3), **{word: tree})
    return _write(path, tree, storages, legacy)


def module(path, tensors, legacy=True):
    """A whole module, its classes being of a package that is not installed."""
    pickled, storages = _stored(tensors, legacy)
    nested: dict = {}
    for key, value in pickled.items():
        *parents, last = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return _write(path, _module(nested, legacy), storages, legacy)


def _module(node, legacy):
    found = name("dall_e.encoder", "Encoder")
    if legacy:
        found = several(text("module"), found, text("x.py"), text("x = 1")) + b"Q"
    parts = {k: v for k, v in node.items() if isinstance(v, bytes)}
    inner = {k: _module(v, legacy) for k, v in node.items() if isinstance(v, dict)}
    state = entries(
        training=b"\x89",
        _parameters=entries(**parts),
        _buffers=entries(),
        _modules=entries(**inner),
    )
    return found + b")\x81" + state + b"b"
