"""Training the dVAE (section 2.1 and appendix A.2): the evidence lower bound, relaxed.

    loss = NLL + beta / (3 f^2) KL                          nats a value of a pixel
    NLL  = -ln p(image | y codebook),  y = softmax((logits + gumbel) / temperature)
    KL   = of softmax(logits) to the even prior, the mean over the grid

f is the side of the square that a code stands for: an image has 3 f^2 values a code, so
that beta weighs the KL of an image against the NLL of an image, whatever their size.
beta = 1 would be the bound. The KL is that of the logits, not of the relaxed draw (its
authors in openai/DALL-E, issue 26). Temperature and beta follow half a cosine.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.dvae import DVAE, DVAEConfig
from cogjax.nn.conv import conv_axes
from cogjax.ops import losses, quantize
from cogjax.tasks.tokenizer import image_spec
from cogjax.train.task import Task

# Decay of the counts of codes, and the share of even use below which a code is not in
# use: as those of the other tokenizers (`tasks/codebook.py`).
_DECAY, _USED = 0.99, 0.05


@dataclass(frozen=True)
class RelaxedConfig:
    """Settings of the objective; defaults are the paper's, for f = 8.

    temperature_start, temperature_end: of the draw. temperature_steps: from one to the
    other. kl_start, kl_weight: beta at first, and after `kl_steps`; 1.65 weighs a code
    alike at f = 4. kl_steps: over which beta rises.
    least_log_scale: no ln b is below it. Flat grounds, which photographs do not have,
    would drive ln b and the loss to -infinity. Ours.
    """

    temperature_start: float = 1.0
    temperature_end: float = 1 / 16
    temperature_steps: int = 150_000
    kl_start: float = 0.0
    kl_weight: float = 6.6
    kl_steps: int = 5_000
    least_log_scale: float = -7.0

    def __post_init__(self):
        above = "temperature_start", "temperature_end", "temperature_steps", "kl_steps"
        for name in above:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected above 0")
        for name in ("kl_start", "kl_weight"):
            if getattr(self, name) < 0:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, expected 0 or more")


class RelaxedTask(Task):
    """Task over batches {"image": uint8 [b, y, x, 3]}.

    Parameters are the network's, "net", and the "codebook" [k, z]. The state counts
    updates and the use of each code.
    """

    counters = ("step",)
    matrix_axes = staticmethod(conv_axes)

    def __init__(self, model: DVAEConfig, config: RelaxedConfig):
        self.model, self.config = DVAE(model), config

    def init(self, key: Array):
        """Returns (params, state) of a new run."""
        cfg = self.model.config
        net_key, code_key = jax.random.split(key)
        images = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))
        shape = cfg.codebook_size, cfg.code_dim
        # The release starts it as a kernel of k inputs, with 1 / sqrt(k). But one is 1
        # and the others are 0: so little hardly tells the decoder which.
        codebook = jax.random.normal(code_key, shape)
        params = {"net": self.model.init(net_key, images)["params"]}
        params["codebook"] = codebook
        counts = jnp.zeros(cfg.codebook_size)
        return params, {"counts": counts, "step": jnp.zeros((), jnp.int32)}

    def start_at(self, net: Any, codebook: Array, batch_size: int):
        """What a trained network and codebook replace of `init`'s (params, state)."""
        even = batch_size * self.model.config.grid**2 / len(codebook)
        counts = jnp.full(len(codebook), even)
        return {"net": net, "codebook": codebook}, {"counts": counts}

    def codebook(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        del state
        return params["codebook"]

    def network(self, params, state) -> Any:
        """Parameters of the tokenizer's network."""
        del state
        return params["net"]

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        images, step = batch["image"].astype(jnp.float32) / 255, state["step"]
        logits = self._logits(params, images)  # [b, grid, grid, k]
        temperature, beta = self._schedules(step)
        relaxed = quantize.gumbel_softmax(logits, key, temperature)
        nll, metrics = self._nll(params, images, relaxed @ params["codebook"])
        kl, ids = quantize.kl_to_uniform(logits), jnp.argmax(logits, axis=-1)
        size, grid = self.model.config.image_size, self.model.config.grid
        loss = nll + beta / (3 * (size / grid) ** 2) * kl
        counts = jnp.bincount(ids.reshape(-1), length=logits.shape[-1])
        counts = _DECAY * state["counts"] + (1 - _DECAY) * counts
        metrics |= {"kl": kl, "temperature": temperature, "beta": beta}
        metrics |= self._usage(counts, ids)
        return loss, ({"counts": counts, "step": step + 1}, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """nll, at_bound, l2, psnr (dB) and usage of the best codes, without noise."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        ids = jnp.argmax(self._logits(params, images), axis=-1)
        codes = params["codebook"][ids]
        _, metrics = self._nll(params, images, codes)
        decoded = self.model.apply({"params": params["net"]}, codes, method="decode")
        error = jnp.square(jnp.clip(decoded, 0, 1) - images)
        psnr = jnp.mean(losses.psnr(jnp.mean(error, axis=(1, 2, 3))))
        metrics |= {"l2": jnp.mean(error), "psnr": psnr}
        return metrics | self._usage(state["counts"], ids)

    def batch_spec(self, size: int):
        """Images of the network's size."""
        return image_spec(size, self.model.config.image_size)

    def _logits(self, params, images: Array) -> Array:
        return self.model.apply({"params": params["net"]}, images, method="encode")

    def _nll(self, params, images: Array, codes: Array):
        """(nats a value, metrics) of vectors [b, grid, grid, z].

        at_bound: share of the values whose ln b the network wants below the bound. A
        softplus keeps the bound, whose slope lets b grow again.
        """
        net, least = {"params": params["net"]}, self.config.least_log_scale
        mean, wanted = self.model.apply(net, codes, method="decode_maps")
        log_scale = least + jax.nn.softplus(wanted - least)
        nll = jnp.mean(losses.logit_laplace(images, mean, log_scale))
        return nll, {"nll": nll, "at_bound": jnp.mean(wanted < least)}

    def _schedules(self, step: Array) -> tuple[Array, Array]:
        """(temperature, beta) of an update."""
        cfg = self.config
        fallen = _half_cosine(step / cfg.temperature_steps)
        start, end = cfg.temperature_start, cfg.temperature_end
        change = cfg.kl_weight - cfg.kl_start
        beta = cfg.kl_start + change * _half_cosine(step / cfg.kl_steps)
        return start + (end - start) * fallen, beta

    def _usage(self, counts: Array, ids: Array) -> dict[str, Array]:
        """usage: share of codes in use; perplexity: of the codes of the batch."""
        size = len(counts)
        share = counts / jnp.maximum(jnp.sum(counts), 1e-9)
        return {
            "perplexity": quantize.perplexity(ids, size),
            "usage": jnp.mean(share > _USED / size),
        }


def _half_cosine(progress: Array) -> Array:
    """0 at 0, 1 from 1 on, and half a cosine between them."""
    return (1 - jnp.cos(jnp.pi * jnp.minimum(progress, 1.0))) / 2
