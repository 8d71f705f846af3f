"""How a codebook is trained, whatever the network around it.

The first four methods are those that CogView compares (section 2.2, figure 2), the
last is finite scalar quantisation (Mentzer et al. 2023, arXiv 2309.15505):

    straight_through  nearest code, codebook trained by gradient
    ema               nearest code, codebook is a moving average of its vectors
    gumbel            gumbel-softmax draw, straight-through, codebook by gradient
    fixed             nearest code, codebook stays at its random start
    fsq               nearest code of a grid with `levels` values a dimension

Every method keeps usage statistics, and those that learn by the nearest code restart
dead ones at vectors of the current batch.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.ops import losses, quantize

# By the optimiser.
_LEARNT = ("straight_through", "gumbel")
METHODS = ("straight_through", "ema", "gumbel", "fixed", "fsq")


@dataclass(frozen=True)
class CodebookConfig:
    """How the codebook is trained.

    method: of the codes and their vectors, "ema", "straight_through", "gumbel", "fixed"
    or "fsq". commitment: weight of mean((sg(q) - z)^2). beta: "legacy" gives that term
    the weight 1 and `commitment` to the codebook's term, taming's mistake with which
    the published VQGANs were trained. decay: of the usage statistics and of the EMA
    codebook. restart_below: a code is dead under this share of even use, 0 is off.
    temperature_start, temperature_end: of gumbel. anneal_steps: from one to the other.
    anneal: the curve between them. kl_weight: weight of the gumbel KL (nats a
    position). levels: of `fsq`, one a dimension of a code; their product is the number
    of codes.
    """

    method: str = "ema"
    commitment: float = 0.25
    beta: Literal["corrected", "legacy"] = "corrected"
    decay: float = 0.99
    restart_below: float = 0.05
    temperature_start: float = 1.0
    temperature_end: float = 0.1
    anneal_steps: int = 2000
    anneal: Literal["exponential", "cosine"] = "exponential"
    kl_weight: float = 1e-4
    levels: tuple[int, ...] = ()

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {METHODS}")
        if self.method == "ema" and not self.restart_below:
            raise ValueError("method 'ema' starts by restarts: set restart_below")
        if (self.method == "fsq") != bool(self.levels) or min(
            self.levels, default=2
        ) < 2:
            raise ValueError(
                f"levels are {self.levels}, expected 2 or more each with method 'fsq', "
                "and none with another"
            )
        if not 0 <= self.decay < 1:
            raise ValueError(f"decay is {self.decay}, expected 0 to below 1")
        for name in ("temperature_start", "temperature_end", "anneal_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected above 0")
        for name in ("commitment", "restart_below", "kl_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")


class Codebook:
    """Codes of a network with `encode`, `code_logits` and `decode`.

    Its state is {"stats", "step"} and, by method, "codebook" or "offset"; a learnt
    codebook is `params["codebook"]` [k, z].
    """

    def __init__(self, model: Any, config: CodebookConfig):
        self.model = model
        self.config = config
        # Codes that a network names have no place among the vectors to go back to.
        named = getattr(model.config, "form", "nearest") == "gumbel"
        self._threshold = 0.0 if named else config.restart_below
        if config.method == "fsq":
            _check_levels(config.levels, model.config)

    def init(self, key: Array) -> tuple[dict[str, Any], dict[str, Any]]:
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
        if self.config.method == "straight_through" and not self._threshold:
            # As taming; restarts need no start, all codes being dead at first.
            limit = 1 / cfg.codebook_size
            start = jax.random.uniform(code_key, shape, minval=-limit, maxval=limit)
        if self.config.method == "fixed":
            state["codebook"] = start
        elif self.config.method in _LEARNT:
            params["codebook"] = start
            # A restart moves a code outside the optimiser: the codebook in use is
            # the trained array plus this offset.
            state["offset"] = jnp.zeros(shape)
        return params, state

    def start_at(self, net: Any, codebook: Array, batch_size: int):
        """What a trained network and codebook [k, z] replace of `init`'s.

        Returns entries of (params, state). batch_size: pictures a call of `quantize`.
        No code is dead at first.
        """
        params = {"net": net}
        even = batch_size * self.model.config.grid**2 / len(codebook)
        counts = jnp.full(len(codebook), even)
        state = {"stats": {"counts": counts, "sums": even * codebook}}
        if self.config.method == "fixed":
            # Not the first step, which would draw it anew.
            state |= {"codebook": codebook, "step": jnp.ones((), jnp.int32)}
        elif self.config.method in _LEARNT:
            params["codebook"] = codebook
        return params, state

    def vectors(self, params, state) -> Array:
        """The codebook in use, [k, z]."""
        if self.config.method == "ema":
            return quantize.codebook_from_stats(_stats(state))
        if self.config.method == "fixed":
            return state["codebook"]
        if self.config.method == "fsq":
            return quantize.grid_codes(self.config.levels)
        return params["codebook"] + state["offset"]

    def quantize(self, params, state, z: Array, key: Array):
        """Codes of z [b, y, x, z], after restarts, with the statistics moved on.

        Returns (quantized like z, new state, metrics); the metric `codebook_loss` is
        to be added to the loss.
        """
        restart_key, gumbel_key = jax.random.split(key)
        flat = jax.lax.stop_gradient(z.reshape(-1, z.shape[-1]))
        state = self._restart(params, state, flat, restart_key)
        quantized, ids, extra = self._quantize(params, state, z, gumbel_key)
        stats = quantize.update_stats(
            _stats(state), flat, ids.reshape(-1), self.config.decay
        )
        new_state = {**state, "stats": stats._asdict(), "step": state["step"] + 1}
        return quantized, new_state, {**self._usage(stats, ids), **extra}

    def reconstruct(self, params, state, images: Array) -> tuple[Array, dict]:
        """Pixels in [0, 1] through the best code of each place, without noise.

        Returns (pixels clipped to [0, 1], metrics l2, psnr (dB) and of usage).
        """
        codebook, net = self.vectors(params, state), {"params": params["net"]}
        z = self.model.apply(net, images, method="encode")
        ids = self._best(params, z, codebook)
        decoded = self.model.apply(net, codebook[ids], method="decode")
        decoded = jnp.clip(decoded, 0, 1)
        error = jnp.square(decoded - images)
        per_image = losses.psnr(jnp.mean(error, axis=(1, 2, 3)))
        metrics = {"l2": jnp.mean(error), "psnr": jnp.mean(per_image)}
        return decoded, {**metrics, **self._usage(_stats(state), ids)}

    def _logits(self, params, z: Array, codebook: Array) -> Array:
        net = {"params": params["net"]}
        return self.model.apply(net, z, codebook, method="code_logits")

    def _best(self, params, z: Array, codebook: Array) -> Array:
        return jnp.argmax(self._logits(params, z, codebook), axis=-1)

    def _restart(self, params, state, vectors, key):
        if self.config.method == "fsq":
            return state
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
            _stats(state), vectors, key, self._threshold
        )
        stats = stats._asdict()
        if self.config.method == "ema":
            return {**state, "stats": stats}
        moved = fresh - jax.lax.stop_gradient(params["codebook"])
        offset = jnp.where(dead[:, None], moved, state["offset"])
        return {**state, "stats": stats, "offset": offset}

    def _temperature(self, step: Array) -> Array:
        cfg = self.config
        progress = jnp.minimum(step / cfg.anneal_steps, 1.0)
        if cfg.anneal == "exponential":
            ratio = cfg.temperature_end / cfg.temperature_start
            return cfg.temperature_start * ratio**progress
        share = (1 + jnp.cos(jnp.pi * progress)) / 2
        return cfg.temperature_end + share * (
            cfg.temperature_start - cfg.temperature_end
        )

    def _quantize(self, params, state, z, key):
        cfg = self.config
        codebook = self.vectors(params, state)
        if cfg.method == "gumbel":
            logits = self._logits(params, z, codebook)
            temperature = self._temperature(state["step"])
            found = quantize.gumbel_quantize(logits, codebook, key, temperature)
            quantized, ids, kl = found
            return quantized, ids, {"kl": kl, "codebook_loss": cfg.kl_weight * kl}
        ids = self._best(params, jax.lax.stop_gradient(z), codebook)
        chosen = codebook[ids]
        commitment = jnp.mean(jnp.square(jax.lax.stop_gradient(chosen) - z))
        own, others = cfg.commitment, 1.0
        if cfg.beta == "legacy":
            own, others = others, own
        codebook_loss = own * commitment
        if cfg.method == "straight_through":
            moved = jnp.mean(jnp.square(chosen - jax.lax.stop_gradient(z)))
            codebook_loss += others * moved
        extra = {"commitment": commitment, "codebook_loss": codebook_loss}
        return quantize.straight_through(z, chosen), ids, extra

    def _usage(self, stats, ids):
        codebook_size = stats.counts.shape[0]
        share = stats.counts / jnp.maximum(jnp.sum(stats.counts), 1e-9)
        floor = self.config.restart_below / codebook_size
        return {
            "perplexity": quantize.perplexity(ids, codebook_size),
            "usage": jnp.mean(share > floor),
        }


def _check_levels(levels: tuple[int, ...], network: Any) -> None:
    if len(levels) != network.code_dim or math.prod(levels) != network.codebook_size:
        raise ValueError(
            f"levels {levels} make {math.prod(levels)} codes of {len(levels)} numbers; "
            f"the network has {network.codebook_size} codes of {network.code_dim}"
        )


def _stats(state) -> quantize.CodebookStats:
    """The state holds plain dicts, which every checkpoint format keeps as they are."""
    return quantize.CodebookStats(**state["stats"])
