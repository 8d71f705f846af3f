"""Sampling tokens from the transformer: prefill, then the whole decode in one loop.

Prompts of different lengths share a batch by padding on the left. Slots of the cache
are the same for all rows, positions are counted from each row's first real token, so
a padded row computes what it would compute alone.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.image_lm import ImageLM, make_cache
from cogjax.ops import logits as logits_ops
from cogjax.ops.attention import padded_causal_mask


@dataclass(frozen=True)
class Sampler:
    """How a token is drawn: static, so that one compiled loop serves one choice.

    temperature: > 0, or 0 for the most probable token. top_k: 0 keeps all. top_p: 1
    keeps all. guidance: classifier-free scale, 1 is off.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 1.0

    def draw(self, keys: Array, logits: Array) -> Array:
        """One token for each row: keys [b], logits [b, v] -> int32 [b]."""
        if self.temperature == 0:
            return jnp.argmax(logits, axis=-1).astype(jnp.int32)
        return logits_ops.sample(
            keys,
            logits,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
        )


def image_keys(seed: int, first: int, count: int) -> Array:
    """Keys of images `first ..` of a seed, [count].

    An image owns its key, whatever batch it is drawn in and whatever its prompt.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        jax.random.key(seed), jnp.arange(first, first + count)
    )


def sample_tokens(
    model: ImageLM,
    params,
    prompt: Array,
    num_padding: Array,
    keys: Array,
    *,
    forced: Array,
    allowed: Array,
    id_range: tuple[int, int],
    sampler: Sampler,
) -> Array:
    """Continues each prompt by as many tokens as `forced` has columns.

    Args:
      prompt: int [r, p], padded on the left by `num_padding` [r]. With guidance the
        first b rows are the prompts and the last b rows their empty counterparts;
        otherwise r = b.
      keys: [b], one a row; token i of a row is drawn with `fold_in(key, i)`.
      forced: int [b, m]; -1 where a token is to be drawn, otherwise the token.
      allowed: bool [stop - start], which ids of `id_range` may be drawn.
      id_range: static (start, stop) of the ids that are scored at all.

    Returns:
      int32 [b, m], ids of the unified vocabulary.
    """
    rows, prompt_len = prompt.shape
    num_rows, num_tokens = forced.shape
    # The text alone where patterns mask the image.
    sparse = bool(model.config.patterns)
    key_slots = jnp.arange(prompt_len + (0 if sparse else num_tokens))
    start = id_range[0]

    def forward(ids, cache, slot):
        slots = jnp.broadcast_to(slot + jnp.arange(ids.shape[1]), ids.shape)
        mask = padded_causal_mask(slots, key_slots, num_padding)
        positions = jnp.maximum(slots - num_padding[:, None], 0)
        logits, cache = model.apply(
            {"params": params}, ids, positions, mask, cache, slot, vocab_range=id_range
        )
        return logits[:, -1], cache

    def step(carry, i):
        logits, cache = carry
        if sampler.guidance != 1:
            logits = logits_ops.guide(
                logits[:num_rows], logits[num_rows:], sampler.guidance
            )
        logits = jnp.where(allowed, logits, -jnp.inf)
        step_keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, i)
        drawn = sampler.draw(step_keys, logits) + start
        token = jnp.where(forced[:, i] >= 0, forced[:, i], drawn)
        ids = jnp.tile(token, rows // num_rows)[:, None]
        return forward(ids, cache, prompt_len + i), token

    cache = make_cache(model.config, rows, prompt_len + num_tokens)
    carry = forward(prompt, cache, 0)
    _, tokens = jax.lax.scan(step, carry, jnp.arange(num_tokens))
    return tokens.T.astype(jnp.int32)
