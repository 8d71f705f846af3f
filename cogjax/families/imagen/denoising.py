"""Training one stage of the cascade: images from noise, alone or beside a small image.

    t ~ U(0, 1), z = alpha x + sigma noise, loss = mean((prediction - target)^2)

The paper's stages predict the noise (section 2.1); `v` is the default here, with which
few steps are safe. A tenth of the texts is left out, for guidance (2.2). A stage of
super-resolution sees the small image with noise of a random level, and that level
(noise-conditioning augmentation, 2.4 and appendix A.1).
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.config import check_ranges
from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.registry import network_of
from cogjax.models.unet import UNetConfig
from cogjax.nn.unet import Text, inputs, matrix_axes
from cogjax.ops import diffusion
from cogjax.ops.image import signed
from cogjax.train.task import Cost, Extra, Task

NetworkConfig = UNetConfig | EfficientUNetConfig


@dataclass(frozen=True)
class DenoisingConfig:
    """The objective of a stage.

    prediction: what the network says. schedule: "cosine", or "linear" as the paper has
    it for 1,024 pixels. text_dropout: share of texts that are left out. augmentation:
    schedule of the noise on the small image, whose level is a time of it, from 0 to
    most_augmentation. most_augmentation: 1 is nearly noise alone. crop: side of the
    squares that a super-resolution stage is trained on, 0 is all.
    """

    prediction: diffusion.Prediction = "v"
    schedule: str = "cosine"
    text_dropout: float = 0.1
    augmentation: str = "linear"
    most_augmentation: float = 1.0
    crop: int = 0

    def __post_init__(self):
        if self.prediction not in ("eps", "x0", "v"):
            raise ValueError(f"prediction is {self.prediction!r}, not eps, x0 or v")
        for name in ("schedule", "augmentation"):
            if getattr(self, name) not in diffusion.SCHEDULES:
                known = ", ".join(diffusion.SCHEDULES)
                raise ValueError(f"{name} is {getattr(self, name)!r}, not {known}")
        check_ranges(self, text_dropout=(0, 1), most_augmentation=(0, 1))


class Noisy(NamedTuple):
    """x, noise, z: [b, y, x, 3]. condition: text, then a small image and its level."""

    x: Array
    noise: Array
    z: Array
    condition: tuple[Any, ...]


class DenoisingTask(Task):
    """Over {"image": uint8 [b, y, x, 3], "tokens": [b, n, d], "mask": bool [b, n]}.

    Super-resolution also has {"small": uint8 [b, y', x', 3]}, the same images as the
    stage below was trained on.
    """

    matrix_axes = staticmethod(matrix_axes)

    def __init__(self, model: NetworkConfig, config: DenoisingConfig, text_len: int):
        self.model, self.config = network_of(model), config
        self.text_len = text_len
        self._enlarges = model.small_size > 0
        if config.crop:
            _check_crop(config.crop, model)

    def init(self, key: Array):
        """(parameters, no state)."""
        shapes = inputs(self.model.config, self._enlarges)
        example = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
        return self.model.init(key, *example)["params"], {}

    def loss(self, params, state, batch, key: Array):
        """Mean squared error of the prediction at random times."""
        keys = jax.random.split(key, 2)
        t = jax.random.uniform(keys[0], (len(batch["image"]),))
        return self._error(params, batch, t, keys[1]), (state, {})

    def eval_metrics(self, params, state, batch, key: Array):
        """The same at evenly spread times, without dropout of texts."""
        del state
        count = len(batch["image"])
        t = (jnp.arange(count) + 0.5) / count
        return {"loss": self._error(params, batch, t, key, dropout=0.0)}

    def batch_spec(self, size: int):
        """Images of the network's size, and padded embeddings."""
        config = self.model.config
        side, shape = config.image_size, (size, self.text_len, config.text_dim)
        images = {"image": (size, side, side, 3)}
        if self._enlarges:
            images["small"] = (size, config.small_size, config.small_size, 3)
        return {
            **{n: jax.ShapeDtypeStruct(s, jnp.uint8) for n, s in images.items()},
            "tokens": jax.ShapeDtypeStruct(shape, jnp.bfloat16),
            "mask": jax.ShapeDtypeStruct(shape[:2], jnp.bool_),
        }

    def cost(self) -> Cost:
        """All of it is traced: a U-Net has no closed form."""
        params, _ = jax.eval_shape(self.init, jax.random.key(0))

        def loss(params, batch):
            return self.loss(params, {}, batch, jax.random.key(0))[0]

        return Cost(extra=Extra(loss, (params, self.batch_spec(1)), (0,)))

    def _error(self, params, batch, t: Array, key: Array, dropout=None) -> Array:
        log_snr = diffusion.SCHEDULES[self.config.schedule](t)
        dropout = self.config.text_dropout if dropout is None else dropout
        made = self.noisy(batch, log_snr, key, dropout)
        predicted = self.predict(params, made.z, log_snr, made.condition)
        wanted = diffusion.target(self.config.prediction, made.x, made.noise, log_snr)
        return jnp.mean(jnp.square(predicted - wanted))

    def predict(self, params, z: Array, log_snr: Array, condition) -> Array:
        """What the network says of z."""
        return self.model.apply({"params": params}, z, log_snr, *condition)

    def noisy(self, batch, log_snr: Array, key: Array, dropout: float) -> "Noisy":
        """Images of a batch at log-SNRs [b], and what goes with them."""
        noise_key, drop_key, small_key, crop_key = jax.random.split(key, 4)
        x = signed(batch["image"])
        small = self._small(batch["small"], small_key) if self._enlarges else ()
        if self.config.crop:
            x, small = self._crop(x, small, crop_key)
        noise = jax.random.normal(noise_key, x.shape)
        z = diffusion.add_noise(x, noise, log_snr)
        text = Text(batch["tokens"].astype(jnp.float32), batch["mask"])
        dropped = jax.random.bernoulli(drop_key, dropout, (len(x),))
        return Noisy(x, noise, z, (without(text, dropped), *small))

    def _small(self, images: Array, key: Array) -> tuple[Array, Array]:
        """(small images uint8 enlarged, with noise; its log-SNRs [b])."""
        level_key, noise_key = jax.random.split(key)
        t = jax.random.uniform(level_key, (len(images),))
        t *= self.config.most_augmentation
        log_snr = diffusion.SCHEDULES[self.config.augmentation](t)
        x = enlarged(signed(images), self.model.config.image_size)
        noise = jax.random.normal(noise_key, x.shape)
        return diffusion.add_noise(x, noise, log_snr), log_snr

    def _crop(self, x: Array, small: tuple[Array, Array], key: Array):
        """The same random square of each image and of its enlarged small one."""
        side = self.config.crop
        corners = jax.random.randint(key, (len(x), 2), 0, x.shape[1] - side + 1)

        def cut(image, corner):
            return jax.lax.dynamic_slice(image, (*corner, 0), (side, side, 3))

        cut_all = jax.vmap(cut)
        return cut_all(x, corners), (cut_all(small[0], corners), small[1])


def without(text: Text, dropped: Array) -> Text:
    """Texts with the dropped rows [b] empty: one token of zeros (section 2.2)."""
    first = jnp.arange(text.mask.shape[1]) == 0
    tokens = jnp.where(dropped[:, None, None], 0, text.tokens)
    return Text(tokens, jnp.where(dropped[:, None], first, text.mask))


def enlarged(x: Array, size: int) -> Array:
    """Images at `size` pixels a side, bilinear; the paper does not say how."""
    return jax.image.resize(x, (len(x), size, size, x.shape[-1]), "linear")


def _check_crop(crop: int, model: NetworkConfig) -> None:
    """ValueError unless the network can be trained on squares of this side."""
    if not isinstance(model, EfficientUNetConfig) or model.attention == "both":
        raise ValueError(
            "crop is for super-resolution without attention over the image: set it to 0"
        )
    least = 2 ** len(model.widths)
    if crop % least or not 0 < crop <= model.image_size:
        raise ValueError(
            f"crop is {crop}, expected a multiple of {least} up to {model.image_size}"
        )
