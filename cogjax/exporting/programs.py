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
import jax.numpy as jnp
import numpy as np

from cogjax.catalogue import families, resolve
from cogjax.data.class_names import ClassNames
from cogjax.data.sequences import Prompts
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.pipelines.clip import (
    ClipPipeline,
    compiled_embed_images,
    compiled_embed_texts,
)
from cogjax.pipelines.decoder import CaptionDecoder, ShiftedDecoder
from cogjax.pipelines.pairs import PairsPipeline
from cogjax.pipelines.text_encoder import compiled_encode as encode_text
from cogjax.pipelines.tokenize import compiled_decode, compiled_encode
from cogjax.pipelines.tokens import CodeByCode, TokensPipeline
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    SamplerNumbers,
    sample_tokens,
)
from cogjax.sampling.tokens.rerank import caption_losses

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
    others = CaptionDecoder | ShiftedDecoder | PairsPipeline
    reads_ids = not isinstance(whole, others)
    by_code = isinstance(whole, CodeByCode) and isinstance(
        whole.transformer[0], ImageLM
    )
    if by_code and reads_ids:
        found["generate"] = _generate(whole)
        if isinstance(whole, TokensPipeline):
            found["score"] = _score(whole, found["generate"].outputs["codes"])
    return found


def network_programs(model: Model) -> dict[str, Program]:
    """Those that run a network once, and sample nothing."""
    found = {}
    if "tokenizer" in model.components:
        found |= _tokenizer(model["tokenizer"])
    if "text_encoder" in model.components:
        found |= _text_encoder(model["text_encoder"])
    if "clip" in model.components:
        found |= _clip(ClipPipeline(model))
    return found


def _tokenizer(part: Component) -> Iterator[tuple[str, Program]]:
    network, config = part.network, part.config
    weights = {"params": part.params, **part.state}
    rng, size = np.random.default_rng(0), config.image_size
    images = rng.integers(256, size=(_ROWS, size, size, 3)).astype(np.uint8)

    def encode(w: Any, x: Arrays) -> Arrays:
        own = w["params"], w["codebook"]
        return {"codes": compiled_encode(network, *own, x["images"])}

    def decode(w: Any, x: Arrays) -> Arrays:
        own = w["params"], w["codebook"]
        return {"images": compiled_decode(network, *own, x["codes"])}

    grid = rng.integers(config.codebook_size, size=(_ROWS, config.grid, config.grid))
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
        return encode_text(network, w, x["ids"])._asdict()

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


def _generate(whole: CodeByCode) -> Program:
    """Codes of images: row i is image number `image` of a seed, whatever the batch."""
    network, params = whole.transformer
    numbers = whole.model.sampler.numbers()._asdict()
    numbers = {name: x for name, x in numbers.items() if x is not None}
    text = "0" if isinstance(whole.model.text, ClassNames) else _EXAMPLE
    pieces, length = whole.pieces(text), whole.layout.image_len
    empty = whole.layout.prompts([()])

    def one(w: Any, x: Arrays) -> Arrays:
        rows = Prompts(*(_row(x, name, empty, numbers) for name in Prompts._fields))
        key = jax.random.fold_in(jax.random.key(x["seed"]), x["image"])
        tokens = sample_tokens(
            network,
            scoring(w, (0, whole.num_codes)),
            rows,
            key[None],
            x["forced"][None],
            ids=OutputIds(jnp.ones(whole.num_codes, bool)),
            sampler=SamplerNumbers(**{name: x[name] for name in numbers}),
        )
        return {"codes": tokens[0].reshape(whole.grid, whole.grid)}

    prompts = whole.layout.prompts([pieces] * _ROWS)._asdict()
    inputs = {k: np.asarray(x, np.int32) for k, x in prompts.items() if x is not None}
    inputs["forced"] = np.full((_ROWS, length), -1, np.int32)
    inputs["image"] = np.arange(_ROWS, dtype=np.int32)
    inputs |= {"seed": np.uint32(0), **numbers}
    settings = {"num_images": _ROWS, "decode": "codes"}
    made = whole.generate(text, **settings)
    shared = ("seed", *numbers)
    run = _mapped(one, inputs, shared)
    return Program(run, "transformer", params, inputs, {"codes": made.codes[0]}, shared)


def _row(x: Arrays, name: str, empty: Prompts, numbers: Arrays) -> Any:
    """A field of one prompt, and with guidance that of the empty one behind it."""
    if name not in x:
        return None
    if "guidance" not in numbers:
        return x[name][None]
    last = jnp.asarray(getattr(empty, name), jnp.int32)
    return jnp.concatenate([x[name][None], last])


def _score(whole: TokensPipeline, codes: np.ndarray) -> Program:
    """Caption loss of each sequence of codes and a text, in nats a token."""
    pieces, vocab = whole.pieces(_EXAMPLE), whole.layout.vocab
    flat = codes.reshape(len(codes), -1)
    ids, weights = whole.caption_rows(flat, [pieces] * len(flat))
    positions, ids_from = whole.layout.reading_positions, vocab.text_start

    def one(w: Any, x: Arrays) -> Arrays:
        rows = x["ids"][None], x["weights"][None]
        own = scoring(w, (ids_from, vocab.size))
        found = caption_losses(
            whole.captioner, own, *rows, positions, first_id=ids_from
        )
        return {"losses": found[0]}

    inputs = {"ids": np.asarray(ids, np.int32), "weights": weights}
    outputs = {"losses": whole.score_codes(codes, _EXAMPLE)}
    run = _mapped(one, inputs, ())
    return Program(run, "transformer", whole.transformer[1], inputs, outputs)


def _mapped(one: Callable, inputs: Arrays, shared: tuple[str, ...]) -> Callable:
    axes = {name: None if name in shared else 0 for name in inputs}
    return jax.vmap(one, in_axes=(None, axes))


def _done(arrays: Arrays) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in arrays.items()}
