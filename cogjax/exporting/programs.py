"""What a model does as functions of arrays alone, for `jax.export`.

    images -> codes          encode        ids, seed -> codes     generate
    codes -> images          decode        ids, weights -> losses score
    images, ids -> vectors   embed_images, embed_texts, encode_text

The batch of a program is symbolic: what depends on the number of rows, as the choice of
a product in `ops/packed.py` does, is traced for one row and mapped over the others.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax.catalogue import families, resolve
from cogjax.data.class_names import ClassNames
from cogjax.model import Component, Model
from cogjax.pipelines.clip import (
    ClipPipeline,
    compiled_embed_images,
    compiled_embed_texts,
)
from cogjax.pipelines.contracts import Exportable, RowProgram
from cogjax.pipelines.pairs import PairsPipeline
from cogjax.pipelines.request import Request
from cogjax.pipelines.text_encoder import compiled_encode as encode_text
from cogjax.pipelines.tokenize import compiled_decode, compiled_encode

# Every text tokenizer has pieces for it, but that of classes.
_EXAMPLE = "a red circle"
_ROWS = 2
BATCH = "b"  # The name of the number of rows.
Arrays = Mapping[str, Any]


class Program(NamedTuple):
    """run: (weights, inputs) -> outputs, arrays by name but for the weights.

    weights: nested arrays; source: the component that they are of. inputs, outputs: an
    example, by cogjax itself. shared: names of the inputs that all rows have in common;
    the first axis of the others is the batch.
    """

    run: Callable[[Any, Arrays], Arrays]
    source: str
    weights: Any
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    shared: tuple[str, ...] = ()

    def shape(self, name: str, x: np.ndarray) -> list[str | int]:
        """Sides of an input or output, the number of rows by its name."""
        return list(x.shape) if name in self.shared else [BATCH, *x.shape[1:]]

    @property
    def about(self) -> str:
        """Inputs and outputs in words."""

        def words(arrays: Mapping[str, np.ndarray]) -> str:
            shapes = {key: self.shape(key, x) for key, x in arrays.items()}
            found = [f"{key} [{', '.join(map(str, x))}]" for key, x in shapes.items()]
            return ", ".join(found)

        return f"{words(self.inputs)} -> {words(self.outputs)}"


def programs(model: Model) -> dict[str, Program]:
    """All that a model does, by name; empty for one that nothing here exports."""
    found = network_programs(model)
    named = families()[model.family].pipeline if model.family else ""
    if not named:
        return found
    whole = resolve(named)(model)
    if isinstance(whole, Exportable):
        made = whole.row_programs(_request(whole))
        found |= {name: _of_rows(each) for name, each in made.items()}
    return found


def network_programs(model: Model) -> dict[str, Program]:
    """Those that run a network once, and sample nothing."""
    found = {}
    if "tokenizer" in model.components:
        shape = getattr(model.layout, "shape", None)
        found |= _tokenizer(model["tokenizer"], shape)
    if "text_encoder" in model.components:
        found |= _text_encoder(model["text_encoder"])
    if "clip" in model.components:
        found |= _clip(ClipPipeline(model))
    return found


def _tokenizer(
    part: Component, shape: tuple[int, int] | None
) -> Iterator[tuple[str, Program]]:
    """shape: rows and columns of codes, None of the tokenizer's squares."""
    network, config = part.network, part.config
    weights = {"params": part.params, **part.state}
    rng, shape = np.random.default_rng(0), shape or (config.grid, config.grid)
    size = [side * config.image_size // config.grid for side in shape]
    images = rng.integers(256, size=(_ROWS, *size, 3)).astype(np.uint8)

    def encode(w: Any, x: Arrays) -> Arrays:
        own = w["params"], w["codebook"]
        return {"codes": compiled_encode(network, *own, x["images"])}

    def decode(w: Any, x: Arrays) -> Arrays:
        own = w["params"], w["codebook"]
        return {"images": compiled_decode(network, *own, x["codes"])}

    grid = rng.integers(config.codebook_size, size=(_ROWS, *shape))
    codes = {"codes": grid.astype(np.int32)}
    # min-dalle's is a decoder alone.
    if getattr(config, "encodes", True):
        inputs = {"images": images}
        codes = _done(encode(weights, inputs))
        yield "encode", Program(encode, "tokenizer", weights, inputs, codes)
    images = _done(decode(weights, codes))
    yield "decode", Program(decode, "tokenizer", weights, codes, images)


def _text_encoder(part: Component) -> Iterator[tuple[str, Program]]:
    network = part.network
    ids = np.random.default_rng(0).integers(
        1, part.config.vocab_size, size=(_ROWS, part.config.text_len)
    )
    ids[0, part.config.text_len // 2 :] = 0

    def encode(w: Any, x: Arrays) -> Arrays:
        found = encode_text(network, w, x["ids"])._asdict()
        # NumPy's files know no bfloat16.
        return found | {"tokens": found["tokens"].astype(np.float32)}

    inputs = {"ids": ids.astype(np.int32)}
    outputs = _done(encode(part.params, inputs))
    yield "encode_text", Program(encode, "text_encoder", part.params, inputs, outputs)


def _clip(whole: ClipPipeline) -> Iterator[tuple[str, Program]]:
    part = whole.model["clip"]
    network, size = part.network, whole.image_size
    images = np.random.default_rng(0).integers(256, size=(_ROWS, size, size, 3))
    inputs = {
        "embed_images": {"images": images.astype(np.uint8)},
        "embed_texts": {"ids": whole.ids([_EXAMPLE, _EXAMPLE[2:]])},
    }

    def embed_images(w: Any, x: Arrays) -> Arrays:
        return {"vectors": compiled_embed_images(network, w, x["images"])}

    def embed_texts(w: Any, x: Arrays) -> Arrays:
        return {"vectors": compiled_embed_texts(network, w, x["ids"])}

    for run in (embed_images, embed_texts):
        own = inputs[run.__name__]
        outputs = _done(run(part.params, own))
        yield run.__name__, Program(run, "clip", part.params, own, outputs)


def _request(whole: Exportable) -> Request:
    """An example of what it makes."""
    if isinstance(whole, PairsPipeline):
        image = np.zeros((*whole.size, 3), np.uint8)
        return Request((), _ROWS, image=image, style=whole.styles[0])
    is_class = isinstance(whole.model.text, ClassNames)
    return Request("0" if is_class else _EXAMPLE, _ROWS)


def _of_rows(made: RowProgram) -> Program:
    """The program of any number of rows."""

    def run(w: Any, x: Arrays) -> Arrays:
        rows, shared = ({name: x[name] for name in y} for y in (made.rows, made.shared))
        return jax.vmap(lambda row: made.run(w, row, shared))(rows)

    inputs = {**made.rows, **made.shared}
    part = made.source, made.weights, inputs, made.outputs
    return Program(run, *part, tuple(made.shared))


def _done(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in arrays.items()}
