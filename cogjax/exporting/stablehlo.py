"""A model as programs that JAX runs without cogjax: StableHLO by `jax.export`.

encode.bin ...       a program each: (weights, inputs) -> outputs, dicts of arrays
tokenizer.npz ...    the weights of a component
example.npz          NAME.input.X and NAME.output.X of each program
export.json          "programs": file, weights, shapes and dtypes of each
"""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.exporting.folder import Exported, check, write_export
from cogjax.exporting.programs import BATCH, Program, programs
from cogjax.model import Model


def export_programs(source: str, out: Path, overwrite: bool = False) -> Exported:
    """Writes a folder of programs, weights, and an example of cogjax's own outputs.

    The programs are of this machine's kind of device. Raises UserError for a model that
    cannot be read or does nothing that is exported, and for `out` that is taken.
    """
    check(out, source, overwrite)
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "programs are stored through flatbuffers: `pip install 'cogjax[export]'`"
        )
    model = model_folder.load(source)
    found = programs(model)
    if not found:
        raise UserError(
            f"{source} has {', '.join(model.components)}, and no program of these is "
            "exported: docs/importing.md has those that are"
        )

    def write(folder: Path) -> dict[str, Any]:
        for part in {each.source: each for each in found.values()}.values():
            np.savez(folder / f"{part.source}.npz", **_named(part.weights))
        example = {}
        for name, each in found.items():
            (folder / f"{name}.bin").write_bytes(_serialized(each))
            example |= {f"{name}.input.{k}": x for k, x in each.inputs.items()}
            example |= {f"{name}.output.{k}": x for k, x in each.outputs.items()}
        np.savez(folder / "example.npz", **example)
        return {
            "platform": jax.default_backend(),
            "jax": jax.__version__,
            "programs": {name: _described(name, each) for name, each in found.items()},
        }

    write_export(out, "stablehlo", write, overwrite)
    about = {name: each.about for name, each in found.items()}
    return Exported(about, list(_notes(model, found)))


def _notes(model: Model, found: Mapping[str, Program]) -> Iterator[str]:
    """What a model does and no program does."""
    if "transformer" in model.components and "generate" not in found:
        yield "its transformer enlarges images in windows, of which there is no program"
    if "reconstructor" in model.components:
        yield "images of hidden states have no program: decode makes them of codes"


def _named(weights: Any) -> dict[str, Any]:
    """Leaves by their paths, in the order of the tree."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(weights)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x)
        for path, x in leaves
    }


def _serialized(program: Program) -> bytearray:
    """The program with a symbolic number of rows."""
    names, tree = list(_named(program.weights)), jax.tree.structure(program.weights)
    [batch] = jax.export.symbolic_shape(BATCH)

    def shape(name: str, x: np.ndarray) -> jax.ShapeDtypeStruct:
        rows = () if name in program.shared else (batch,)
        return jax.ShapeDtypeStruct((*rows, *x.shape[len(rows) :]), x.dtype)

    def run(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Any:
        own = jax.tree.unflatten(tree, [weights[name] for name in names])
        return program.run(own, inputs)

    weights = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype)
        for name, x in _named(program.weights).items()
    }
    inputs = {name: shape(name, x) for name, x in program.inputs.items()}
    return jax.export.export(jax.jit(run))(weights, inputs).serialize()


def _described(name: str, program: Program) -> dict[str, Any]:
    def rows(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            key: {"shape": program.shape(key, x), "dtype": str(x.dtype)}
            for key, x in arrays.items()
        }

    return {
        "file": f"{name}.bin",
        "weights": f"{program.source}.npz",
        "inputs": rows(program.inputs),
        "outputs": rows(program.outputs),
    }
