"""Sampling tokens from the transformer: prefill, then the whole decode in one loop.

    state = prefill(...)                    each prompt once
    state = advance(..., state, stop_at)    as often as someone wants to look

Prompts of different lengths share a batch by padding on the left. Slots of the cache
are the same for all rows, positions are counted from each row's first real token, so
a padded row computes what it would compute alone. `compiled_prefill` and
`compiled_advance` are the same, compiled once for all models of a process.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import LAST, ImageLM
from cogjax.models.inference import make_cache
from cogjax.ops import logits as logits_ops
from cogjax.ops.cache import Cache
from cogjax.ops.sequence import Sequence

_MAX_INT32 = 2**31 - 1


class SamplerNumbers(NamedTuple):
    """How a token is drawn: one compiled loop serves all numbers of one structure.

    The structure is which of them are there; one that is None is not used. Without a
    temperature the most probable token is taken.
    """

    temperature: Array | None = None  # float32, above 0
    top_k: Array | None = None  # int32, above 0
    top_p: Array | None = None  # float32, between 0 and 1
    guidance: Array | None = None  # float32; then the network reads two rows a sequence

    def guide(self, logits: Array) -> Array:
        """[r, ..., v] -> [b, ..., v]: with guidance the second half has no prompt."""
        if self.guidance is None:
            return logits
        return logits_ops.guide(*jnp.split(logits, 2), self.guidance)

    def draw(self, uniforms: Array, logits: Array) -> Array:
        """One token for each row: uniforms [b], logits [b, v] -> int32 [b]."""
        if self.temperature is None:
            return jnp.argmax(logits.T, axis=0).astype(jnp.int32)
        return logits_ops.sample(uniforms, logits, *self[:3])

    def probs(self, logits: Array) -> Array:
        """Probabilities that `draw` draws from: [b, v] float32."""
        if self.temperature is None:
            return jax.nn.one_hot(jnp.argmax(logits, axis=-1), logits.shape[-1])
        return logits_ops.token_probs(logits, *self[:3])


@dataclass(frozen=True)
class Sampler:
    """How a token is sampled, as people say it; ValueError for a value out of range.

    temperature: > 0, or 0 for the most probable token. top_k: 0 keeps all. top_p: 1
    keeps all. guidance: classifier-free scale, 1 is off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self):
        for name, expected, fits in (
            ("temperature", "0 to 1000", 0 <= self.temperature <= 1000),
            ("top_k", "0 (all) or more", self.top_k >= 0),
            ("top_p", "above 0, up to 1", 0 < self.top_p <= 1),
            ("guidance", "-1000 to 1000", abs(self.guidance) <= 1000),
        ):
            if not fits:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected {expected}"
                )

    def numbers(self) -> SamplerNumbers:
        """The numbers that matter, of one dtype each: 1 and 1.0 are one program."""
        guidance = None if self.guidance == 1 else np.float32(self.guidance)
        if self.temperature == 0:
            return SamplerNumbers(guidance=guidance)
        return SamplerNumbers(
            np.float32(self.temperature),
            np.int32(min(self.top_k, _MAX_INT32)) if self.top_k else None,
            np.float32(self.top_p) if self.top_p < 1 else None,
            guidance,
        )


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["allowed"],
    meta_fields=["first", "end"],
)
@dataclass(frozen=True)
class OutputIds:
    """The ids that a network scores, and which of them may be sampled.

    allowed: bool [n], of the ids `first` .. `first` + n - 1. end: an id that ends a
    sequence: what follows it is `end` too. None: a sequence ends with its last token.
    `first` and `end` are static.
    """

    allowed: Array
    first: int = 0
    end: int | None = None


class DecodeState(NamedTuple):
    """b sequences of m tokens, some of which are sampled already.

    With guidance the network has r = 2 b rows, those without their prompt last, else
    r = b. Two images of m = 4 codes, their first code forced to be 7, after two codes:

        In   step 2, tokens [[7, 3, -1, -1], [7, 9, -1, -1]], logits of the third code
        advance(..., stop_at=3) samples 5 and 1 by uniforms[:, 2]
        Out  step 3, tokens [[7, 3, 5, -1], [7, 9, 1, -1]], logits of the fourth code
    """

    step: Array  # int32, number of tokens that are there
    tokens: Array  # int32 [b, m]; to come: the token that is forced, or -1
    uniforms: Array  # float32 [b, m] in [0, 1), the number each token is sampled by
    done: Array  # bool [b], whether the sequence has reached its end
    logits: Array  # [r, v] of token `step`
    first_position: Array  # int32 [r] of the first token, or [r, m] of each
    visible: Array  # bool [p, t], which tokens of the prompts are no padding
    cache: list[Cache]  # keys and values of a layer each


def compiler_options() -> dict[str, str]:
    """For `jax.jit` of `advance`, on the default backend.

    A decode step is hundreds of small operations; on the CPU this pass doubles the
    number of reductions, which is 5 % of the step at batch 1.
    """
    if jax.default_backend() != "cpu":
        return {}
    return {"xla_disable_hlo_passes": "tree_reduction_rewriter"}


def image_keys(seed: int, first: int, count: int) -> Array:
    """Keys of images `first ..` of a seed, [count].

    An image owns its key, whatever batch it is sampled in and whatever its prompt.
    """
    # Outside of the program, where a seed may be as large as any.
    return _image_keys(jax.random.key(seed), first, count)


@functools.partial(jax.jit, static_argnums=2)
def _image_keys(key: Array, first: Array, count: int) -> Array:
    numbers = first + jnp.arange(count)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def prefill(
    model: ImageLM,
    params: Any,
    prompts: Prompts,
    keys: Array,
    forced: Array,
    *,
    guided: int = 0,
    window: int = 1,
) -> DecodeState:
    """Reads each prompt once, whatever number of sequences continues it.

    Args:
      params: of `scoring`, so that the ids to sample are scored and no others.
      prompts: q of t tokens; padding is behind the image if that comes first. Then so
        many empty prompts as `guided` says: 0, 1 for all or q, one for each.
      keys: [b], one a sequence, b / q for each prompt in turn; token i of a sequence is
        sampled by `fold_in(key, i)`.
      forced: int [b, m]; -1 where a token is to be sampled, otherwise the token.
      window: most tokens a call of the network later.

    Raises:
      ValueError: the prompts do not fit the number of keys or the sequence.
    """
    config, (prompt, num_padding, positions, next_position) = model.config, prompts
    length = prompt.shape[1]
    groups, of_row = shared(len(prompt), len(keys), guided)
    _check(config.sequence, length)
    real = _real(config.sequence, length, num_padding)  # [q, t]
    if positions is None:
        positions = jnp.maximum(jnp.arange(length) - num_padding[:, None], 0)
        next_position = length - num_padding
    sizes = len(prompt), length, len(of_row), forced.shape[1], window
    cache = make_cache(config, *sizes)
    weights = {"params": params}
    (logits,), cache = model.apply(weights, prompt, positions, real, cache, parts=LAST)
    return start_state(
        keys,
        forced,
        logits=logits[:, 0][of_row],
        first_position=next_position[of_row],
        visible=real[groups],
        cache=[_of_groups(layer, groups) for layer in cache],
    )


def shared(num_rows: int, batch: int, guided: int) -> tuple[np.ndarray, np.ndarray]:
    """(prompt of each group of rows int [p], prompt of each row int [r]).

    num_rows: of prompts, as many empty ones as `guided` says among them, as of
    `prefill`. ValueError if the others cannot share `batch` sequences.
    """
    num_prompts = num_rows - guided
    if num_prompts < 1 or batch % num_prompts or guided not in (0, 1, num_prompts):
        raise ValueError(f"{num_prompts} prompts cannot share {batch} sequences")
    groups = np.arange(num_prompts)
    if guided:
        groups = np.append(groups, num_prompts + groups % guided)
    return groups, np.repeat(groups, batch // num_prompts)


def positions_of(first: Array, tokens: Array | int) -> Array:
    """Positions of tokens behind the prompts: int32 [r, n].

    first: as `Prompts.next_position`. tokens: which, a number or int [n] or [r, n].
    """
    tokens = jnp.atleast_2d(tokens)
    if first.ndim == 1:
        return first[:, None] + tokens
    tokens = jnp.broadcast_to(tokens, (len(first), tokens.shape[1]))
    return jnp.take_along_axis(first, tokens, axis=1, mode="clip")


def start_state(keys: Array, forced: Array, **read: Any) -> DecodeState:
    """The state before the first token; read: the fields that reading a prompt gives.

    keys: [b]. forced: int [b, m], as of `prefill`.
    """
    return DecodeState(
        step=jnp.int32(0),
        tokens=forced.astype(jnp.int32),
        uniforms=_uniforms(keys, forced.shape[1]),
        done=jnp.zeros(len(keys), bool),
        **read,
    )


def advance(
    model: ImageLM,
    params: Any,
    state: DecodeState,
    stop_at: Array | int,
    *,
    ids: OutputIds,
    sampler: SamplerNumbers,
) -> DecodeState:
    """Samples tokens one by one until there are `stop_at`, a traced number.

    Args:
      params: as given to `prefill`, of `scoring` for these `ids`.
      sampler: of `Sampler.numbers`; guidance needs `guided` in `prefill`.

    The loop is over earlier when all sequences have ended.
    """
    last = jnp.minimum(stop_at, state.tokens.shape[1])

    def step(state):
        i = state.step
        logits = jnp.where(ids.allowed, sampler.guide(state.logits), -jnp.inf)
        forced, uniforms = state.tokens[:, i], state.uniforms[:, i]
        sampled = sampler.draw(uniforms, logits) + ids.first
        token = jnp.where(forced >= 0, forced, sampled)  # [b]
        done = state.done
        if ids.end is not None:
            token = jnp.where(done, ids.end, token)
            done |= token == ids.end
        rows = jnp.tile(token, len(state.logits) // len(token))[:, None]  # [r, 1]
        logits, cache = model.apply(
            {"params": params},
            rows,
            positions_of(state.first_position, i),
            state.visible,
            state.cache,
            place=i,
        )
        return state._replace(
            step=i + 1,
            tokens=state.tokens.at[:, i].set(token),
            done=done,
            logits=logits[:, 0],
            cache=cache,
        )

    state = jax.lax.while_loop(
        lambda state: (state.step < last) & ~jnp.all(state.done), step, state
    )
    if ids.end is None:
        return state
    tokens = jnp.where(state.done[:, None] & (state.tokens < 0), ids.end, state.tokens)
    return state._replace(tokens=tokens)


def sample_tokens(
    model: ImageLM,
    params: Any,
    prompts: Prompts,
    keys: Array,
    forced: Array,
    *,
    ids: OutputIds,
    sampler: SamplerNumbers,
) -> Array:
    """`prefill` and `advance` in one: int32 [b, m], ids of the unified vocabulary."""
    guided = sampler.guidance is not None
    state = prefill(model, params, prompts, keys, forced, guided=guided)
    state = advance(model, params, state, forced.shape[1], ids=ids, sampler=sampler)
    return state.tokens


compiled_prefill = jax.jit(
    prefill, static_argnums=0, static_argnames=("guided", "window")
)


def compiled_advance(*args, **settings) -> tuple[DecodeState, Array]:
    """`advance`, and its tokens as an array of their own: the state is given away."""
    return advance_program()(*args, **settings)


@functools.cache
def advance_program():
    """What `compiled_advance` runs, made when first called: the options depend on the
    backend, and importing this module must not start one.
    """

    def run(model, params, state, stop_at, **settings):
        state = advance(model, params, state, stop_at, **settings)
        return state, state.tokens

    return jax.jit(
        run, static_argnums=0, donate_argnums=2, compiler_options=compiler_options()
    )


def _check(sequence: Sequence, length: int) -> None:
    """A prompt ends where the last segment starts, or, of a text, behind that."""
    start, last = sequence.starts[-1], sequence.segments[-1]
    if length < start or (last.grid is not None and length > start):
        raise ValueError(f"a prompt of {length}, expected {start} tokens")


def _real(sequence: Sequence, length: int, num_padding: Array) -> Array:
    """bool [q, t]: which tokens of the prompts are no padding, which is text's."""
    slots = jnp.arange(length)
    if not sequence.starts_with_image:
        return slots >= num_padding[:, None]
    image = sequence.segments[0].length
    return (slots < image) | (slots >= image + num_padding[:, None])


def _of_groups(cache: Cache, groups: np.ndarray) -> Cache:
    names = "prefix_key", "prefix_value", "prefix_held", "prefix_pivot"
    there = {name: getattr(cache, name) for name in names}
    groups = {name: x[groups] for name, x in there.items() if x is not None}
    return replace(cache, **groups)


def _uniforms(keys: Array, count: int) -> Array:
    """A number for each of `count` tokens of each sequence: keys [b] -> [b, count]."""

    def one(key, step):
        return jax.random.uniform(jax.random.fold_in(key, step))

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(keys, jnp.arange(count))
