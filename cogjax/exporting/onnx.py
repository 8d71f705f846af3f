"""A model's networks as ONNX files, through jax2onnx and checked by ONNX Runtime.

    encode.onnx ...   weights inside; inputs and outputs by the names of a program

What samples is no graph of ONNX: `generate` and `score` are StableHLO's alone.
"""

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.exporting.folder import Exported, check, write_export
from cogjax.exporting.programs import BATCH, Program, network_programs

# A file of protobuf holds less than 2 GiB.
_MOST_BYTES = 2**31 - 2**24
# Largest difference of vectors. Pixels are whole numbers: theirs is one level.
_TOLERANCE = 1e-4


def export_onnx(source: str, out: Path, overwrite: bool = False) -> Exported:
    """Writes a file for each network's program, and runs it beside cogjax.

    Returns the largest difference of each. Raises UserError without jax2onnx and ONNX
    Runtime, for a model with nothing to export or above 2 GiB, for `out` that is taken,
    and where the outputs differ; nothing is written then.
    """
    check(out, source, overwrite)
    if lost := [x for x in ("jax2onnx", "onnxruntime") if not _is_there(x)]:
        raise UserError(
            f"{' and '.join(lost)} must be installed, in an environment of its own: "
            "docs/importing.md has the commands"
        )
    found = network_programs(model_folder.load(source))
    if not found:
        raise UserError(
            f"{source} has no network that is exported: docs/importing.md has those "
            "that are"
        )
    for name, each in found.items():
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(each.weights))
        if size > _MOST_BYTES:
            raise UserError(
                f"{name} has {size:,} bytes of weights, and a file of ONNX at most "
                f"{_MOST_BYTES:,}: choose --format stablehlo"
            )
    differences = {}

    def write(folder: Path) -> dict[str, Any]:
        for name, each in found.items():
            _write(folder / f"{name}.onnx", each)
            differences[name] = _differences(folder / f"{name}.onnx", each, name)
        return {"largest differences": differences}

    write_export(out, "onnx", write, overwrite)
    return Exported(
        {
            name: f"{each.about}, largest difference "
            f"{max(differences[name].values()):.1e}"
            for name, each in found.items()
        }
    )


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _write(path: Path, program: Program) -> None:
    """The program with its weights as one file."""
    from jax2onnx import to_onnx

    names = list(program.inputs)

    def run(*arrays: Any) -> tuple:
        found = program.run(program.weights, dict(zip(names, arrays, strict=True)))
        return tuple(found[name] for name in program.outputs)

    # It warns of each shape whose type it does not write.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    shapes = [
        jax.ShapeDtypeStruct((BATCH, *x.shape[1:]), x.dtype)
        for x in program.inputs.values()
    ]
    to_onnx(
        run,
        shapes,
        return_mode="file",
        output_path=path,
        export_mode="web",  # In one file.
        input_names=names,
        output_names=list(program.outputs),
    )


def _differences(path: Path, program: Program, name: str) -> dict[str, float]:
    """The largest difference of each output, for two rows and for one.

    UserError for codes that differ, and for more than rounding in what else there is.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # Errors alone.
    cpu = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=cpu)
    largest = dict.fromkeys(program.outputs, 0.0)
    for rows in (len(next(iter(program.inputs.values()))), 1):
        inputs = {key: x[:rows] for key, x in program.inputs.items()}
        found = session.run(list(largest), inputs)
        for (key, wanted), x in zip(program.outputs.items(), found, strict=True):
            gap = np.abs(x.astype(np.float64) - wanted[:rows].astype(np.float64))
            # Not `max`, which leaves out what is no number.
            largest[key] = float(np.maximum(largest[key], gap.max()))
    _check(largest, program.outputs, name)
    return largest


def _check(
    largest: Mapping[str, float], outputs: Mapping[str, np.ndarray], name: str
) -> None:
    for key, gap in largest.items():
        allowed = 0 if outputs[key].dtype.kind == "i" else _TOLERANCE
        allowed = 1 if outputs[key].dtype == np.uint8 else allowed
        if not gap <= allowed:
            raise UserError(
                f"ONNX Runtime gives other {key} of {name} than cogjax, by {gap:.3g}: "
                "choose --format stablehlo"
            )
