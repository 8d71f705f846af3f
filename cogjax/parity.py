"""`cogjax parity`: whether a model gives the outputs that are stored in a file.

A case is an .npz with the arrays `input.NAME` and `output.NAME`; `models/cases.py` has
the names of each kind of network. Floats may differ by a tolerance, all else is equal.
"""

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from einops import EinopsError

from cogjax import model_folder
from cogjax.catalogue import resolve
from cogjax.errors import UserError, shown
from cogjax.files import check_file, write_file
from cogjax.model import Component
from cogjax.models.cases import Case, Weights
from cogjax.models.registry import networks

_MAX_BYTES = 1 << 32
# What NumPy and zipfile raise for damaged files and headers.
_DAMAGED = (
    *(ValueError, LookupError, TypeError, EOFError, SyntaxError, MemoryError),
    *(RuntimeError, OverflowError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
_INPUT, _OUTPUT = "input.", "output."
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Difference:
    """One output's difference. first: place of the first that disagrees, or None."""

    shape: tuple[int, ...]
    max: float
    mean: float
    first: tuple[int, ...] | None = None
    found: float | None = None
    expected: float | None = None


def compare(
    model: Path, case: Path, tolerance: float = 1e-4, component: str = ""
) -> dict[str, Difference]:
    """Runs the inputs of a case, and compares each of its outputs.

    tolerance: largest difference of floats. component: which of the model, "" for its
    only one. UserError for files that do not fit each other.
    """
    part = _component(model, component)
    inputs, outputs = read_case(case)
    _check(part, inputs, outputs, case)
    try:
        with jax.default_matmul_precision("highest"):
            found = _run(part, inputs, list(outputs))
    except (ValueError, TypeError, EinopsError) as error:
        shapes = ", ".join(f"{name} {x.shape}" for name, x in inputs.items())
        raise UserError(
            f"case {case}: a {part.kind} of these sizes cannot run {shapes}: is the "
            "case of this model?"
        ) from error
    return {
        name: difference(found[name], outputs[name], tolerance, f"{case}, {name}")
        for name in outputs
    }


def record(
    model: Path, case: Path, seed: int = 0, component: str = "", overwrite: bool = False
) -> dict[str, tuple[int, ...]]:
    """Writes a case of random inputs with this model's outputs; returns their shapes.

    UserError if the file is there, unless `overwrite`.
    """
    check_file(case, overwrite)
    part = _component(model, component)
    form = _case_of(part)
    inputs = dict(form.inputs(part.config, np.random.default_rng(seed)))
    with jax.default_matmul_precision("highest"):
        outputs = _run(part, inputs, list(form.outputs))
    write_file(case, pack(inputs, outputs), overwrite)
    return {name: array.shape for name, array in outputs.items()}


def read_case(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(inputs, outputs) of a case by their names.

    UserError for a file that is missing, damaged, larger than 4 GiB unpacked, or has
    arrays of other names.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > _MAX_BYTES:
            raise UserError(f"case {path} unpacks to {size} bytes, 4 GiB are the most")
        with np.load(path, allow_pickle=False) as stored:
            # A member that is no array comes as bytes.
            arrays = {name: np.asarray(stored[name]) for name in stored.files}
    except OSError as error:
        raise UserError(
            f"cannot read case {path}: {error.strerror or error}"
        ) from error
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:100]
        raise UserError(f"case {path} is no .npz of plain arrays: {reason}") from error
    if odd := [name for name, x in arrays.items() if x.dtype.kind not in "biuf"]:
        raise UserError(f"case {path}: {shown(odd[0])} is no array of numbers")
    inputs, outputs = (
        {k.removeprefix(p): x for k, x in arrays.items() if k.startswith(p)}
        for p in (_INPUT, _OUTPUT)
    )
    if len(inputs) + len(outputs) != len(arrays) or not (inputs and outputs):
        raise UserError(
            f"case {path} has {', '.join(map(shown, arrays)) or 'nothing'}: expected "
            f"arrays {_INPUT}NAME and {_OUTPUT}NAME"
        )
    return inputs, outputs


def difference(
    found: np.ndarray, expected: np.ndarray, tolerance: float, what: str
) -> Difference:
    """Compares two arrays of one shape; whole numbers must be equal.

    UserError, which names `what`, for other shapes.
    """
    if found.shape != expected.shape:
        raise UserError(
            f"{what} is {expected.shape}, the model gives {found.shape}: is the case "
            "of this model?"
        )
    exact = not np.issubdtype(expected.dtype, np.floating)
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    # A NaN is above any tolerance.
    wrong = ~(gap <= (0 if exact else tolerance))
    if not gap.size:
        return Difference(found.shape, 0.0, 0.0)
    largest, mean = float(gap.max()), float(gap.mean())
    if not wrong.any():
        return Difference(found.shape, largest, mean)
    first = np.unravel_index(int(wrong.argmax()), wrong.shape)
    values = float(found[first]), float(expected[first])
    place = tuple(int(each) for each in first)
    return Difference(found.shape, largest, mean, place, *values)


def pack(inputs: Arrays, outputs: Arrays) -> bytes:
    """The bytes of a case."""
    named = {f"{_INPUT}{name}": x for name, x in inputs.items()}
    named |= {f"{_OUTPUT}{name}": x for name, x in outputs.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def _component(model: Path, name: str) -> Component:
    """A component of a model folder, the only one if no name is given."""
    names = list(model_folder.read_config(model_folder.find(model)).components)
    if not name and len(names) != 1:
        raise UserError(
            f"{model} has {', '.join(names) or 'nothing'}: choose by --component"
        )
    return model_folder.load_component(model, name or names[0])


def _case_of(part: Component) -> Case:
    spec = networks()[part.kind].case
    if not spec:
        raise UserError(f"a {part.kind} cannot be compared: it has no named outputs")
    return resolve(spec)


def _check(part: Component, inputs: Arrays, outputs: Arrays, path: Path) -> None:
    """UserError for arrays that the network does not have, or lacks."""
    form = _case_of(part)
    for name in outputs:
        if name not in form.outputs:
            raise UserError(
                f"case {path} has {_OUTPUT}{name}, a {part.kind} gives "
                f"{', '.join(form.outputs)}"
            )
        if missing := set(form.outputs[name].needs) - inputs.keys():
            raise UserError(
                f"case {path} has {_OUTPUT}{name}, but not {_INPUT}{min(missing)}"
            )
    known = form.inputs(part.config, np.random.default_rng(0))
    for name, array in inputs.items():
        if name not in known:
            raise UserError(
                f"case {path} has {_INPUT}{name}, a {part.kind} reads "
                f"{', '.join(known)}"
            )
        wanted = known[name]
        if array.ndim != wanted.ndim or array.dtype.kind != wanted.dtype.kind:
            raise UserError(
                f"case {path}: {_INPUT}{name} is {array.dtype} with {array.ndim} "
                f"sides, expected {wanted.dtype} with {wanted.ndim}"
            )
        limit = getattr(part.config, form.limits.get(name, ""), None)
        if limit and array.size and not 0 <= array.min() <= array.max() < limit:
            raise UserError(
                f"case {path}: {_INPUT}{name} is {array.min()} to {array.max()}, "
                f"expected 0 to {limit - 1}"
            )


def _run(part: Component, inputs: Arrays, names: list[str]) -> dict[str, np.ndarray]:
    form = _case_of(part)
    weights = Weights(part.network, jax.device_put(part.params), part.state)
    return {
        name: np.asarray(form.outputs[name].make(weights, inputs)) for name in names
    }
