"""What generating images code by code is compiled of, in shapes alone."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.models import (
    encoder_decoder,
    encoder_decoder_inference,
    image_lm,
    inference,
)
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.ops.cache import Cache
from cogjax.ops.packed import WeightFormat
from cogjax.plan.workload import Workload
from cogjax.sampling.tokens import autoregressive
from cogjax.sampling.tokens import encoder_decoder as encoded
from cogjax.sampling.tokens.autoregressive import DecodeState, OutputIds, image_keys

WEIGHTS = "bfloat16"


class _Parts(NamedTuple):
    """Functions of one kind of network; scoring: of parameters and number of codes."""

    network: Callable[..., Any]
    shapes: Callable[..., Any]
    pack: Callable[..., Any]
    scoring: Callable[..., Any]
    prefill: Callable[..., DecodeState]
    layers: Callable[[Any], Any]


_IMAGE_LM = _Parts(
    image_lm.ImageLM,
    image_lm.param_shapes,
    inference.for_inference,
    lambda params, count: inference.scoring(params, (0, count)),
    autoregressive.prefill,
    lambda params: params["blocks"],
)
_ENCODER_DECODER = _Parts(
    encoder_decoder.EncoderDecoder,
    encoder_decoder.param_shapes,
    encoder_decoder_inference.for_inference,
    encoder_decoder_inference.scoring,
    encoded.prefill,
    lambda params: params["decoder"]["layers"],
)


@dataclass(frozen=True)
class Drawing:
    """Shapes of what is drawn with. params: packed; state: after the prompts."""

    model: Any
    work: Workload
    images: int
    params: Any
    state: DecodeState
    parts: _Parts
    prompts: Prompts
    guided: int

    @property
    def rows(self) -> int:
        """Sequences, two an image with guidance."""
        return len(self.state.logits)

    def layers(self, params: Any) -> Any:
        """Those of a tree like `params` that each token passes."""
        return self.parts.layers(params)

    @property
    def scored(self) -> Any:
        """Parameters with which codes are scored and nothing else."""
        codes = self.work.planned.num_codes
        return jax.eval_shape(lambda x: self.parts.scoring(x, codes), self.params)

    def keys(self) -> jax.Array:
        """Keys of the images."""
        return image_keys(0, 0, self.images)

    def read_prompts(self, params: Any, prompts: Prompts, keys: Any) -> DecodeState:
        """What each prompt is read by; params: of `scored`."""
        forced = jnp.full((self.images, self.work.planned.image_len), -1)
        own = params, prompts, keys, forced
        return self.parts.prefill(self.model, *own, guided=self.guided)

    def draw(self, params: Any, state: DecodeState, stop_at: Any) -> DecodeState:
        """What is compiled: the real loop up to `stop_at` tokens."""
        codes = self.work.planned.num_codes
        return autoregressive.advance(
            self.model,
            self.parts.scoring(params, codes),
            state,
            stop_at,
            ids=OutputIds(jnp.ones(codes, bool)),
            sampler=self.work.sampler.numbers(),
        )


def drawing_of(work: Workload, images: int, weights: WeightFormat = WEIGHTS) -> Drawing:
    """Draws `images` at once, each of a prompt of its own; weights: as they are packed.

    UserError for a model that does not sample code by code.
    """
    if not work.cost.passes:
        raise UserError(
            f"task {work.run.name!r} generates no codes, and only code by code is "
            "planned: leave out --sampling"
        )
    planned, network, parts = work.planned, work.network, _ENCODER_DECODER
    if not isinstance(network, EncoderDecoderConfig):
        parts, network = _IMAGE_LM, replace(network, dropout=0.0)
        if not network.sequence.segments[-1].causal:
            raise UserError(
                "the codes of this model are sampled all at once, and only code by "
                "code is planned: leave out --sampling"
            )
    network = replace(network, remat="none")
    model, shapes = parts.network(network), parts.shapes(network)
    prompts, guided = _prompts(work, images)
    state = jax.eval_shape(
        functools.partial(parts.prefill, model, guided=guided),
        jax.eval_shape(lambda x: parts.scoring(x, planned.num_codes), shapes),
        prompts,
        jax.eval_shape(lambda: image_keys(0, 0, images)),
        jax.ShapeDtypeStruct((images, planned.image_len), jnp.int32),
    )
    pack = functools.partial(parts.pack, weights=weights)
    packed = jax.eval_shape(pack, shapes)
    return Drawing(model, work, images, packed, state, parts, prompts, guided)


def _prompts(work: Workload, images: int) -> tuple[Prompts, int]:
    """(shapes of prompts, how many of them are empty); a caption is vectors."""
    vectors = getattr(work.network, "caption_dim", 0)
    guided = work.sampler.guidance != 1
    guided = guided * (images if vectors else 1)
    shape, dtype = (images + guided, work.planned.prompt_len), jnp.int32
    count = jax.ShapeDtypeStruct(shape[:1], jnp.int32)
    if vectors:
        shape, dtype = (*shape, vectors), jnp.float32
    return Prompts(jax.ShapeDtypeStruct(shape, dtype), count), guided


def own_cache(layer: Any) -> Cache:
    """Cache of the codes, without keys and values of an encoded text."""
    return getattr(layer, "own", layer)
