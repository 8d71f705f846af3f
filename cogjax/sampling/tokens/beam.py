"""Beam search: the most probable text, as far as k unfinished ones a prompt can see.

    live       the k most probable beginnings
    finished   the k best texts with an end, by log-probability / length ** penalty

A step continues the live ones by every token and keeps the best 2k of them: as many as
that, because k may end here. It is over when nothing that is live can become better
than the finished ones that are asked for: log-probabilities only fall, lengths are
bounded. What is asked for is therefore the same whatever other prompts are beside.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import ImageLM
from cogjax.ops.cache import Cache
from cogjax.sampling.tokens.autoregressive import DecodeState, OutputIds


class _Beams(NamedTuple):
    """k beams of q prompts; rows of the network are prompt by prompt, r = q k."""

    step: Array  # int32, tokens that are there
    tokens: Array  # int32 [q, k, m], of what is live
    scores: Array  # float32 [q, k], log-probability
    finished: Array  # int32 [q, k, m], `end` from the end on
    best: Array  # float32 [q, k], what finished ones are compared by
    logits: Array  # [r, v] of the next token of what is live
    cache: list[Cache]


def beam_search(
    model: ImageLM,
    params: Any,
    state: DecodeState,
    *,
    ids: OutputIds,
    beams: int,
    length_penalty: Array | float = 1.0,
    wanted: int = 1,
) -> tuple[Array, Array]:
    """The best texts after each prompt, best first.

    Args:
      params: as given to `prefill`, of `scoring` for these `ids`, which have an end.
      state: of `prefill` with `beams` sequences a prompt, nothing forced or guided.
      beams: 1 is greedy where `length_penalty` is 0.
      length_penalty: 0 or more. 0 compares whole texts, which favours short ones, 1
        the mean of a token, its end counted.
      wanted: 1 to `beams`, of how many texts the search is to be sure.

    Returns:
      (int32 [q, wanted, m], `end` from the end of a text on; float32 [q, wanted],
      their log-probabilities / length ** length_penalty, -inf of a place that no text
      has taken): the best that so many beams can find. A text that reached m tokens
      may have no end.
    """
    rows, length = state.tokens.shape

    def step(now: _Beams) -> _Beams:
        i = now.step
        logits = jnp.where(ids.allowed, now.logits, -jnp.inf).astype(jnp.float32)
        chosen, parent = _choose(now, logits, ids, length_penalty)
        logits, cache = model.apply(
            {"params": params},
            chosen.tokens[:, :, i].reshape(rows, 1),
            state.first_position[:, None] + i,
            state.visible,
            [_of_parents(layer, parent) for layer in now.cache],
            place=i,
        )
        return chosen._replace(step=i + 1, logits=logits[:, 0], cache=cache)

    def may_improve(now: _Beams) -> Array:
        hope = now.scores.max(1) / length**length_penalty
        return (now.step < length) & jnp.any(hope > now.best[:, wanted - 1])

    end = jax.lax.while_loop(may_improve, step, _start(state, beams, ids.end))
    return end.finished[:, :wanted], end.best[:, :wanted]


def _start(state: DecodeState, beams: int, end: int) -> _Beams:
    """Prompts that were read: the first beam of each is live, the rest are copies."""
    rows, length = state.tokens.shape
    shape = rows // beams, beams
    nothing = jnp.full((*shape, length), end, jnp.int32)
    live = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
    return _Beams(
        state.step,
        nothing,
        jnp.broadcast_to(live, shape),
        nothing,
        jnp.full(shape, -jnp.inf),
        state.logits,
        state.cache,
    )


def _choose(now: _Beams, logits: Array, ids: OutputIds, length_penalty):
    """(beams with one token more, which int [q, k] of the beams each continues).

    logits: float32 [r, v] of the tokens `ids`.
    """
    (num_prompts, beams, length), i = now.tokens.shape, now.step
    total = jax.nn.log_softmax(logits).reshape(num_prompts, beams, -1)
    total = (total + now.scores[..., None]).reshape(num_prompts, -1)
    scores, which = jax.lax.top_k(total, min(2 * beams, total.shape[1]))
    parent, token = which // logits.shape[1], ids.first + which % logits.shape[1]
    tokens = jnp.take_along_axis(now.tokens, parent[..., None], axis=1)
    tokens = tokens.at[:, :, i].set(token)
    ends = (token == ids.end) | (i + 1 == length)
    ended = jnp.where(ends, scores / (i + 1.0) ** length_penalty, -jnp.inf)
    best, finished = _keep(
        jnp.concatenate([now.best, ended], axis=1),
        jnp.concatenate([now.finished, tokens], axis=1),
        beams,
    )
    live = jnp.where(ends, -jnp.inf, scores)
    scores, (tokens, parent) = _keep(live, (tokens, parent), beams)
    chosen = now._replace(tokens=tokens, scores=scores, finished=finished, best=best)
    return chosen, parent


def _keep(scores: Array, items: Any, count: int) -> tuple[Array, Any]:
    """The `count` best of scores [q, n], best first, and what belongs to them."""
    scores, which = jax.lax.top_k(scores, count)

    def pick(leaf):
        return jnp.take_along_axis(
            leaf, which.reshape(*which.shape, *(1,) * (leaf.ndim - 2)), axis=1
        )

    return scores, jax.tree.map(pick, items)


def _of_parents(cache: Cache, parent: Array) -> Cache:
    """The cache of rows that continue the beams int [q, k] of their prompts."""
    num_prompts, beams = parent.shape
    if beams == 1:
        return cache
    rows = (jnp.arange(num_prompts)[:, None] * beams + parent).reshape(-1)
    return replace(cache, key=cache.key[rows], value=cache.value[rows])


compiled_beam_search = jax.jit(
    beam_search, static_argnums=0, static_argnames=("beams", "wanted")
)
