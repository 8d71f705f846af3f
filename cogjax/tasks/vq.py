"""Training an image tokenizer: reconstruction, commitment and a codebook method.

The four methods are those that CogView compares (section 2.2, figure 2):

    straight_through  nearest code, codebook trained by gradient
    ema               nearest code, codebook is a moving average of its vectors
    gumbel            gumbel-softmax draw, straight-through, codebook by gradient
    fixed             nearest code, codebook stays at its random start

Every method keeps usage statistics, and the three that learn restart dead codes at
vectors of the current batch.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.vqvae import VQVAE, VQVAEConfig
from cogjax.ops import losses, quantize

METHODS = ("straight_through", "ema", "gumbel", "fixed")


@dataclass(frozen=True)
class VQConfig:
    """Objective of the tokenizer.

    commitment: weight of mean((sg(q) - z)^2). decay: of the usage statistics and of
    the EMA codebook. restart_below: a code is dead under this share of even use.
    temperature_start / _end: gumbel temperature, annealed exponentially over
    `anneal_steps`. kl_weight: weight of the gumbel KL (nats a position).
    """

    method: str = "ema"
    commitment: float = 0.25
    decay: float = 0.99
    restart_below: float = 0.05
    temperature_start: float = 1.0
    temperature_end: float = 0.1
    anneal_steps: int = 2000
    kl_weight: float = 1e-4

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {METHODS}")


class VQTask:
    """Task over batches {"image": uint8 [b, y, x, 3]}."""

    def __init__(self, model: VQVAEConfig, config: VQConfig):
        self.model = VQVAE(model)
        self.config = config

    def init(self, key: Array):
        """Returns (params, state): network and learnt codebook; usage statistics."""
        cfg = self.model.config
        net_key, code_key = jax.random.split(key)
        images = jnp.zeros((1, cfg.image_size, cfg.image_size, 3))
        params = {"net": self.model.init(net_key, images)["params"]}
        shape = (cfg.codebook_size, cfg.code_dim)
        state = {
            "stats": {"counts": jnp.zeros(cfg.codebook_size), "sums": jnp.zeros(shape)},
            "step": jnp.zeros((), jnp.int32),
        }
        start = jax.random.normal(code_key, shape)
        if self.config.method == "fixed":
            state["codebook"] = start
        elif self.config.method != "ema":
            params["codebook"] = start
            # A restart moves a code outside the optimiser: the codebook in use is
            # the trained array plus this offset.
            state["offset"] = jnp.zeros(shape)
        return params, state

    def codebook(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        if self.config.method == "ema":
            return quantize.codebook_from_stats(_stats(state))
        if self.config.method == "fixed":
            return state["codebook"]
        return params["codebook"] + state["offset"]

    def loss(self, params, state, batch, key: Array):
        """One training forward pass: (loss, (new state, metrics))."""
        images = batch["image"].astype(jnp.float32) / 255
        restart_key, gumbel_key = jax.random.split(key)
        z = self.model.apply({"params": params["net"]}, images, method="encode")
        flat = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]))
        state = self._restart(params, state, flat, restart_key)
        quantized, ids, extra = self._quantize(params, state, z, gumbel_key)
        decoded = self.model.apply(
            {"params": params["net"]}, quantized, method="decode"
        )
        mse = jnp.mean(jnp.square(decoded - images))
        stats = quantize.update_stats(
            _stats(state), flat, ids.reshape(-1), self.config.decay
        )
        new_state = {**state, "stats": stats._asdict(), "step": state["step"] + 1}
        metrics = {"l2": mse, **self._usage(stats, ids), **extra}
        return mse + extra["codebook_loss"], (new_state, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """Reconstruction through the nearest code: l2, psnr (dB), usage."""
        del key
        images = batch["image"].astype(jnp.float32) / 255
        codebook = self.codebook(params, state)
        z = self.model.apply({"params": params["net"]}, images, method="encode")
        ids = quantize.nearest_code(z, codebook)
        decoded = self.model.apply(
            {"params": params["net"]}, codebook[ids], method="decode"
        )
        error = jnp.square(jnp.clip(decoded, 0, 1) - images)
        per_image = losses.psnr(jnp.mean(error, axis=(1, 2, 3)))
        return {
            "l2": jnp.mean(error),
            "psnr": jnp.mean(per_image),
            **self._usage(_stats(state), ids),
        }

    def _restart(self, params, state, vectors, key):
        if self.config.method == "fixed":
            # Drawn once, where the first batch lies: around codes of another scale the
            # encoder finds only the nearest few, and never leaves them.
            codebook = jax.lax.cond(
                state["step"] == 0,
                lambda: quantize.normal_like(vectors, key, len(state["codebook"])),
                lambda: state["codebook"],
            )
            return {**state, "codebook": codebook}
        stats, dead, fresh = quantize.restart_dead(
            _stats(state), vectors, key, self.config.restart_below
        )
        stats = stats._asdict()
        if self.config.method == "ema":
            return {**state, "stats": stats}
        moved = fresh - jax.lax.stop_gradient(params["codebook"])
        offset = jnp.where(dead[:, None], moved, state["offset"])
        return {**state, "stats": stats, "offset": offset}

    def _quantize(self, params, state, z, key):
        cfg = self.config
        codebook = self.codebook(params, state)
        if cfg.method == "gumbel":
            progress = jnp.minimum(state["step"] / cfg.anneal_steps, 1.0)
            ratio = cfg.temperature_end / cfg.temperature_start
            temperature = cfg.temperature_start * ratio**progress
            quantized, ids, kl = quantize.gumbel_quantize(z, codebook, key, temperature)
            return quantized, ids, {"kl": kl, "codebook_loss": cfg.kl_weight * kl}
        ids = quantize.nearest_code(jax.lax.stop_gradient(z), codebook)
        chosen = codebook[ids]
        commitment = jnp.mean(jnp.square(jax.lax.stop_gradient(chosen) - z))
        codebook_loss = cfg.commitment * commitment
        if cfg.method == "straight_through":
            codebook_loss += jnp.mean(jnp.square(chosen - jax.lax.stop_gradient(z)))
        extra = {"commitment": commitment, "codebook_loss": codebook_loss}
        return quantize.straight_through(z, chosen), ids, extra

    def _usage(self, stats, ids):
        codebook_size = stats.counts.shape[0]
        share = stats.counts / jnp.maximum(jnp.sum(stats.counts), 1e-9)
        floor = self.config.restart_below / codebook_size
        return {
            "perplexity": quantize.perplexity(ids, codebook_size),
            "usage": jnp.mean(share >= floor),
        }


def _stats(state) -> quantize.CodebookStats:
    """The state holds plain dicts, which every checkpoint format keeps as they are."""
    return quantize.CodebookStats(**state["stats"])
