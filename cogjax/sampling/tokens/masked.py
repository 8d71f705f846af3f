"""Masked parallel decoding: all codes at once, again and again (MaskGIT, section 3.2).

    step   all masked codes are sampled, each by itself
           those of the least confidence are masked again, as many as the schedule says

Confidence is the log-probability of the sampled code, with noise that falls to 0 at the
last step. Chang et al. 2022, arXiv 2202.04200; the noise is in their release.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.data.sequences import Prompts
from cogjax.models.image_lm import ImageLM
from cogjax.sampling.tokens.autoregressive import SamplerNumbers

# The paper takes 8 steps for 16 x 16 codes; the temperature is its release's.
STEPS, CHOICE_TEMPERATURE = 8, 4.5


class Unmasking(NamedTuple):
    """The steps of b images; how many there are is static.

    mask_id: id of [MASK]. left: int32 [steps, b], codes that are masked after each
    step. noise: float32 [steps], factor of the Gumbel noise on the confidence.
    """

    mask_id: int
    left: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(
        cls, mask_id: int, steps: int, choice_temperature: float, masked: np.ndarray
    ) -> "Unmasking":
        """masked: int [b], codes that are to be sampled of each image.

        choice_temperature: 0 or more, how much of the choice of codes is by chance.
        """
        progress = np.arange(1, steps + 1) / steps
        noise = choice_temperature * (1 - progress)
        return cls(mask_id, schedule(steps, masked), noise.astype(np.float32))


def masked_share(progress: np.ndarray | float) -> np.ndarray:
    """The cosine schedule: share of codes that are masked, float64, 1 at 0, 0 at 1."""
    return np.cos(np.pi / 2 * np.asarray(progress, np.float64))


def schedule(steps: int, masked: np.ndarray) -> np.ndarray:
    """Codes of each image that are masked after each step, int32 [steps, b].

    masked: int [b], before the first. At least one code is unmasked a step, if there is
    one, and all are by the last.
    """
    left = masked = np.asarray(masked)
    found = []
    for step in range(1, steps + 1):
        wanted = np.floor(masked * masked_share(step / steps)).astype(np.int32)
        left = np.clip(np.minimum(wanted, left - 1), 0, None)
        found.append(left)
    return np.stack(found).astype(np.int32)


def sample_masked(
    model: ImageLM,
    params: Any,
    prompts: Prompts,
    keys: Array,
    forced: Array,
    *,
    unmasking: Unmasking,
    sampler: SamplerNumbers,
) -> Array:
    """Samples the codes of b images: int32 [b, n].

    Args:
      model: codes see each other and their prompt.
      params: of `scoring` for the codes, which are the ids from 0 on.
      prompts: q of t tokens, b / q images of each in turn; with guidance one row more,
        the empty prompt, last.
      keys: [b], one an image: its codes do not depend on its company.
      forced: int [b, n], codes that stay, -1 where one is to be sampled.
      unmasking: of the images' masked codes.
      sampler: how a code is sampled. Confidence is by the guided logits, before
        temperature, top-k and top-p.
    """
    predict = _predictor(model, params, prompts, forced, unmasking.mask_id, sampler)

    def step(tokens, numbers):
        index, left, noise = numbers
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, index)  # [b]
        drawn, confidence = _draw(own, predict(tokens), noise, sampler)
        masked = tokens < 0
        confidence = jnp.where(masked, confidence, jnp.inf)
        rank = jnp.argsort(jnp.argsort(confidence, axis=1), axis=1)  # [b, n]
        drawn = jnp.where(masked, drawn, tokens)
        return jnp.where(rank < left[:, None], -1, drawn), None

    steps = jnp.arange(len(unmasking.left)), unmasking.left, unmasking.noise
    return jax.lax.scan(step, forced.astype(jnp.int32), steps)[0]


def _predictor(
    model: ImageLM, params, prompts: Prompts, forced, mask_id, sampler: SamplerNumbers
) -> Callable[[Array], Array]:
    """Function of tokens [b, n], -1 where masked -> guided logits [b, n, v]."""
    batch, num_codes = forced.shape
    guided = sampler.guidance is not None
    count = len(prompts.ids) - guided
    of_row = np.repeat(np.arange(count), batch // count)  # [b], each image's prompt
    if guided:
        of_row = np.append(of_row, np.full(batch, count))  # [r]
    text = prompts.ids[of_row]  # [r, t]
    visible = jnp.arange(text.shape[1]) >= prompts.num_padding[of_row][:, None]
    codes = prompts.next_position[of_row][:, None] + jnp.arange(num_codes)
    positions = jnp.concatenate([prompts.positions[of_row], codes], axis=1)

    def predict(tokens: Array) -> Array:
        rows = jnp.tile(jnp.where(tokens < 0, mask_id, tokens), (1 + guided, 1))
        ids = jnp.concatenate([text, rows], axis=1)
        parts = ((slice(text.shape[1], None), slice(None)),)
        weights = {"params": params}
        (logits,), _ = model.apply(weights, ids, positions, visible, parts=parts)
        return sampler.guide(logits)

    return predict


def _draw(keys: Array, logits: Array, noise: Array, sampler: SamplerNumbers):
    """A code for each place and how sure it is: two [b, n] of logits [b, n, v]."""
    shape = logits.shape[:2]
    pairs = jax.vmap(jax.random.split)(keys)  # [b, 2]
    uniforms = jax.vmap(lambda key: jax.random.uniform(key, shape[1:]))(pairs[:, 0])
    gumbel = jax.vmap(lambda key: jax.random.gumbel(key, shape[1:]))(pairs[:, 1])
    flat = logits.reshape(-1, logits.shape[-1])
    drawn = sampler.draw(uniforms.reshape(-1), flat).reshape(shape)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    sure = jnp.take_along_axis(log_probs, drawn[..., None], axis=-1)[..., 0]
    return drawn, sure + noise * gumbel


compiled_sample_masked = jax.jit(sample_masked, static_argnums=0)
