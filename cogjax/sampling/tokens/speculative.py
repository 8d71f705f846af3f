"""Speculative Jacobi decoding: several image tokens a call, the same distribution.

A window of drafts is scored in one call. Each draft is kept with probability
min(1, p / q): p is the model's given the drafts before it, q what it was sampled from.
The first that is refused is sampled again from max(0, p - q), all behind it from their
p, as the drafts of the next call. Teng et al. 2024, arXiv 2410.01699.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import ImageLM
from cogjax.ops import logits as logits_ops
from cogjax.ops.cache import Cache
from cogjax.sampling.tokens.autoregressive import (
    DecodeState,
    OutputIds,
    SamplerNumbers,
    positions_of,
)


class _Drafts(NamedTuple):
    """count: int32 [b], tokens that are final; behind them drafts, from `probs`."""

    calls: Array  # int32
    count: Array
    tokens: Array  # int32 [b, m + window], ids counted from `first`
    probs: Array  # float32 [b, window, v]
    cache: list[Cache]


def speculate(
    model: ImageLM,
    params: Any,
    state: DecodeState,
    keys: Array,
    *,
    ids: OutputIds,
    sampler: SamplerNumbers,
    window: int,
) -> tuple[Array, Array]:
    """Samples all tokens of a state that was prefilled with the same `window`.

    Args:
      keys: [b], one a sequence; other arguments as those of `advance`.
      window: drafts a call, at least 2.

    Returns:
      (int32 [b, m] ids, int32 calls of the network after the prompt).
    """
    run = _Run(model, params, state, keys, ids, sampler)
    num_tokens = state.tokens.shape[1]
    end = jax.lax.while_loop(
        lambda drafts: jnp.any(drafts.count < num_tokens), run.step, run.start(window)
    )
    return end.tokens[:, :num_tokens] + ids.first, end.calls - 1


class _Run(NamedTuple):
    """What stays the same over the calls."""

    model: ImageLM
    params: Any
    state: DecodeState
    keys: Array
    ids: OutputIds
    sampler: SamplerNumbers

    def start(self, window: int) -> _Drafts:
        """The first token, and drafts from the same distribution."""
        tokens = self.state.tokens
        batch, zero = len(tokens), jnp.zeros(len(tokens), jnp.int32)
        probs = self._probs(self.state.logits[:, None])
        probs = jnp.broadcast_to(probs, (batch, window, probs.shape[-1]))
        numbers = _uniforms(self.keys, jnp.int32(0), (2, window))
        first, _ = self._fixed(_sample(numbers[:, 0], probs), zero)
        ahead, _ = self._fixed(_sample(numbers[:, 1], probs), zero + 1)
        drafts = jnp.zeros((batch, tokens.shape[1] + window), jnp.int32)
        drafts = drafts.at[:, 1 : window + 1].set(ahead).at[:, 0].set(first[:, 0])
        return _Drafts(jnp.int32(1), zero + 1, drafts, probs, self.state.cache)

    def step(self, drafts: _Drafts) -> _Drafts:
        """One call of the network."""
        start, window = drafts.count, drafts.probs.shape[1]
        logits, cache = self._network(drafts, window)
        numbers = _uniforms(self.keys, drafts.calls, (3, window))
        probs, guesses = self._probs(logits), _look(drafts.tokens, start, window)
        _, forced = self._fixed(guesses, start)
        tokens, kept = _verify(guesses, drafts.probs, probs, forced, numbers)
        tokens, _ = self._fixed(tokens, start)
        # Rows that have all their tokens stay where they are.
        count = jnp.minimum(start + kept, self.state.tokens.shape[1])
        # What is new in the window takes the farthest distribution there is.
        ahead = kept[:, None] + jnp.arange(window)
        index = jnp.minimum(ahead, window - 1)
        probs = jnp.take_along_axis(probs, index[:, :, None], axis=1)
        moved = jnp.take_along_axis(tokens, index, axis=1)
        new = jnp.where(ahead < window, moved, _sample(numbers[:, 2], probs))
        new, _ = self._fixed(new, count)
        tokens = _put(_put(drafts.tokens, tokens, start), new, count)
        return _Drafts(drafts.calls + 1, count, tokens, probs, cache)

    def _network(self, drafts: _Drafts, window: int):
        """Logits [r, w, v] of the drafts: each from the tokens before it."""
        before = drafts.count - 1
        ids = _look(drafts.tokens, before, window) + self.ids.first
        copies = len(self.state.logits) // len(before)
        position = jnp.tile(before, copies)
        return self.model.apply(
            {"params": self.params},
            jnp.tile(ids, (copies, 1)),
            positions_of(
                self.state.first_position, position[:, None] + jnp.arange(window)
            ),
            self.state.visible,
            drafts.cache,
            place=position,
        )

    def _probs(self, logits: Array) -> Array:
        """[r, w, v] -> probabilities [b, w, v]."""
        logits = jnp.where(self.ids.allowed, self.sampler.guide(logits), -jnp.inf)
        flat = logits.reshape(-1, logits.shape[-1])
        return self.sampler.probs(flat).reshape(logits.shape)

    def _fixed(self, tokens: Array, start: Array) -> tuple[Array, Array]:
        """(tokens [b, w] from `start` on, forced ones in place; which those are)."""
        wanted = jnp.pad(
            self.state.tokens, ((0, 0), (0, tokens.shape[1])), constant_values=-1
        )
        wanted = _look(wanted, start, tokens.shape[1])
        return jnp.where(wanted >= 0, wanted - self.ids.first, tokens), wanted >= 0


def _look(tokens: Array, start: Array, count: int) -> Array:
    """Each row's `count` tokens from its own start on: [b, count]."""
    part = jax.lax.dynamic_slice
    return jax.vmap(lambda row, i: part(row, (i,), (count,)))(tokens, start)


def _put(tokens: Array, new: Array, start: Array) -> Array:
    """Each row with new tokens from its own start on."""
    update = jax.lax.dynamic_update_slice
    return jax.vmap(lambda row, x, i: update(row, x, (i,)))(tokens, new, start)


def _verify(guesses, sampled_from, probs, is_forced, numbers) -> tuple[Array, Array]:
    """(tokens [b, w], how many of them are final, at least 1)."""
    p, q = (
        jnp.take_along_axis(x, guesses[..., None], axis=-1)[..., 0]
        for x in (probs, sampled_from)
    )
    accepted = is_forced | (numbers[:, 0] * q < p)
    run = jnp.sum(jnp.cumprod(accepted, axis=1), axis=1, dtype=jnp.int32)
    refused = jnp.arange(guesses.shape[1]) == run[:, None]
    rest = jnp.maximum(probs - sampled_from, 0)
    # Where p = q nothing is refused, save by rounding.
    rest = jnp.where(jnp.sum(rest, axis=-1, keepdims=True) > 0, rest, probs)
    again = _sample(numbers[:, 1], jnp.where(refused[..., None], rest, probs))
    before = jnp.arange(guesses.shape[1]) < run[:, None]
    return jnp.where(before, guesses, again), jnp.minimum(run + 1, guesses.shape[1])


def _sample(numbers: Array, probs: Array) -> Array:
    """numbers [b, w], probs [b, w, v] -> int32 [b, w]."""
    flat = probs.reshape(-1, probs.shape[-1])
    return logits_ops.sample_probs(numbers.reshape(-1), flat).reshape(numbers.shape)


def _uniforms(keys: Array, call: Array, shape: tuple[int, ...]) -> Array:
    """Fresh numbers [b, *shape] for a call, apart from those of `prefill`."""
    return jax.vmap(
        lambda key: jax.random.uniform(
            jax.random.fold_in(jax.random.fold_in(key, 0x5D), call), shape
        )
    )(keys)


compiled_speculate = jax.jit(speculate, static_argnums=0, static_argnames="window")
