"""Sampling tokens from the transformer: prefill, then the whole decode in one loop.

    state = prefill(...)                    each prompt once
    state = advance(..., state, until)      as often as someone wants to look

Prompts of different lengths share a batch by padding on the left. Slots of the cache
are the same for all rows, positions are counted from each row's first real token, so
a padded row computes what it would compute alone.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.models.image_lm import LAST, ImageLM
from cogjax.models.inference import make_cache, scoring
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
    """How a token is drawn, as people say it; ValueError for a value out of range.

    temperature: > 0, or 0 for the most probable token. top_k: 0 keeps all. top_p: 1
    keeps all. guidance: classifier-free scale, 1 is off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def __post_init__(self):
        for name, expected, fits in (
            ("temperature", "0 or more", 0 <= self.temperature < float("inf")),
            ("top_k", "0 (all) or more", self.top_k >= 0),
            ("top_p", "above 0, up to 1", 0 < self.top_p <= 1),
            ("guidance", "a number", abs(self.guidance) < float("inf")),
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


class Decoding(NamedTuple):
    """b sequences on the way; with guidance r = 2 b rows of the network, else b."""

    step: Array  # int32, tokens that are there
    tokens: Array  # int32 [b, m]; to come: the token that is forced, or -1
    uniforms: Array  # float32 [b, m], what each token is drawn by
    done: Array  # bool [b], the sequence has its last token
    logits: Array  # [r, v] of the next token
    first: Array  # int32 [r], position of the first token after the prompt
    visible: Array  # bool [p, t], tokens of the prompts that are no padding
    cache: list[Cache]


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

    An image owns its key, whatever batch it is drawn in and whatever its prompt.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.key(seed), jnp.arange(first, first + count)
    )


def prefill(
    model: ImageLM,
    params: Any,
    prompt: Array,
    num_padding: Array,
    keys: Array,
    forced: Array,
    *,
    id_range: tuple[int, int],
    guided: bool = False,
    window: int = 1,
    positions: Array | None = None,
    following: Array | None = None,
) -> Decoding:
    """Reads each prompt once, whatever number of sequences continues it.

    Args:
      params: trained, or faster those of `for_inference`.
      prompt: int [q, t], padded on the left by `num_padding` [q], behind the image if
        it comes first. If `guided` one row more, the empty prompt, last.
      keys: [b], one a sequence, b / q for each prompt in turn; token i of a sequence is
        drawn by `fold_in(key, i)`.
      forced: int [b, m]; -1 where a token is to be drawn, otherwise the token.
      id_range: static (start, stop) of the ids that are scored at all.
      window: most tokens a call of the network later.
      positions: int [q, t]; following: int [q], that of the next token. None counts
        from each prompt's first token.

    Raises:
      ValueError: the prompts do not fit the number of keys or the sequence.
    """
    config, length = model.config, prompt.shape[1]
    num_prompts, batch = len(prompt) - guided, len(keys)
    if num_prompts < 1 or batch % num_prompts:
        raise ValueError(f"{num_prompts} prompts cannot share {batch} sequences")
    _check(config.sequence, length)
    real = _real(config.sequence, length, num_padding)  # [q, t]
    if positions is None:
        positions = jnp.maximum(jnp.arange(length) - num_padding[:, None], 0)
        following = length - num_padding
    rows = batch * (1 + guided)
    cache = make_cache(config, len(prompt), length, rows, forced.shape[1], window)
    weights = {"params": scoring(params, id_range)}
    (logits,), cache = model.apply(weights, prompt, positions, real, cache, parts=LAST)
    groups = _groups(num_prompts, guided)
    of_row = np.repeat(groups, batch // num_prompts)
    return Decoding(
        step=jnp.int32(0),
        tokens=forced.astype(jnp.int32),
        uniforms=_uniforms(keys, forced.shape[1]),
        done=jnp.zeros(batch, bool),
        logits=logits[:, 0][of_row],
        first=following[of_row],
        visible=real[groups],
        cache=[_of_groups(layer, groups) for layer in cache],
    )


def advance(
    model: ImageLM,
    params: Any,
    state: Decoding,
    until: Array | int,
    *,
    allowed: Array,
    id_range: tuple[int, int],
    sampler: SamplerNumbers,
    stop: int | None = None,
) -> Decoding:
    """Draws tokens one by one until there are `until`, a traced number.

    Args:
      allowed: bool [stop - start], which ids of `id_range` may be drawn.
      id_range: as given to `prefill`. sampler: of `Sampler.numbers`; guidance needs
        `guided` there.
      stop: an id that ends a sequence: what follows it is `stop` too, and the loop is
        over when all have ended.
    """
    # Outside the loop, which would copy the part of the table at every token.
    scored = scoring(params, id_range)
    last = jnp.minimum(until, state.tokens.shape[1])

    def step(state):
        i = state.step
        logits = jnp.where(allowed, sampler.guide(state.logits), -jnp.inf)
        forced, uniforms = state.tokens[:, i], state.uniforms[:, i]
        drawn = sampler.draw(uniforms, logits) + id_range[0]
        token = jnp.where(forced >= 0, forced, drawn)
        done = state.done
        if stop is not None:
            token = jnp.where(done, stop, token)
            done |= token == stop
        ids = jnp.tile(token, len(state.logits) // len(token))[:, None]
        logits, cache = model.apply(
            {"params": scored},
            ids,
            state.first[:, None] + i,
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
    if stop is None:
        return state
    tokens = jnp.where(state.done[:, None] & (state.tokens < 0), stop, state.tokens)
    return state._replace(tokens=tokens)


def sample_tokens(
    model: ImageLM,
    params: Any,
    prompt: Array,
    num_padding: Array,
    keys: Array,
    *,
    forced: Array,
    allowed: Array,
    id_range: tuple[int, int],
    sampler: SamplerNumbers,
    stop: int | None = None,
) -> Array:
    """`prefill` and `advance` in one: int32 [b, m], ids of the unified vocabulary."""
    state = prefill(
        model,
        params,
        prompt,
        num_padding,
        keys,
        forced,
        id_range=id_range,
        guided=sampler.guidance is not None,
    )
    state = advance(
        model,
        params,
        state,
        forced.shape[1],
        allowed=allowed,
        id_range=id_range,
        sampler=sampler,
        stop=stop,
    )
    return state.tokens


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


def _groups(num_prompts: int, guided: bool) -> np.ndarray:
    """Which prompt each group of rows continues: int [p]."""
    groups = np.arange(num_prompts)
    return np.append(groups, np.full(num_prompts, num_prompts)) if guided else groups


def _of_groups(cache: Cache, groups: np.ndarray) -> Cache:
    return replace(
        cache,
        prefix_key=cache.prefix_key[groups],
        prefix_value=cache.prefix_value[groups],
    )


def _uniforms(keys: Array, count: int) -> Array:
    """A number for each of `count` tokens of each sequence: keys [b] -> [b, count]."""

    def one(key, step):
        return jax.random.uniform(jax.random.fold_in(key, step))

    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(keys, jnp.arange(count))
