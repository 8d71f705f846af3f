"""From a transformer's last states to pixels: ERNIE-ViLG's reconstructor, section 3.2.

    z = Dense(gelu(Dense(states)))      the paper: a non-linear map to z_emb
    pixels = decoder(z)                 z laid out as the grid of codes

In place of looking the drawn codes up in a codebook. The paper does not say how deep
the map is: two layers here. The decoder is of a kind of `KINDS`, all of which have as
many vectors and pixels as the image tokenizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.dvae import DVAEDecoder, DVAEDecoderConfig
from cogjax.models.vqvae import Decoder, VQVAEConfig
from cogjax.ops import losses
from cogjax.parallel.axes import constrain

# Convolutions are split where they are large, see `parallel/rules.py`.
PARAM_AXES = (
    ("project_in/kernel", ("embed", "mlp")),
    ("project_in/bias", ("mlp",)),
    ("project_out/kernel", ("mlp", None)),
)


@dataclass(frozen=True)
class ReconstructorConfig:
    """What the tokenizer and the transformer do not decide.

    kind: of the decoder, the architecture of a tokenizer: "vqvae" has the image
    tokenizer's own sizes, "dvae" is DALL-E's. hidden: width of the map's inner layer,
    0 is the transformer's. width: channels at full size of the kinds that are not the
    tokenizer's own.
    states: of a code the one that predicts it, before it is drawn, or the one "at" its
    place, which has read it.
    """

    kind: Literal["vqvae", "dvae"] = "vqvae"
    hidden: int = 0
    width: int = 64
    states: Literal["predicting", "at"] = "predicting"

    def __post_init__(self):
        if self.hidden < 0 or self.width < 1:
            raise ValueError("hidden must be at least 0 and width at least 1")


class Kind(NamedTuple):
    """make: decoder of (tokenizer's config, settings). pixels: of its maps."""

    make: Callable[[Any, ReconstructorConfig], nn.Module]
    pixels: Callable[[Array], Array]


def _vqvae(tokenizer, config):
    del config
    if not isinstance(tokenizer, VQVAEConfig):
        raise ValueError("reconstructor kind 'vqvae' needs a VQ-VAE as the tokenizer")
    return Decoder(tokenizer, name="decoder")


def _dvae(tokenizer, config):
    sizes = tokenizer.image_size, tokenizer.grid, tokenizer.code_dim
    return DVAEDecoder(DVAEDecoderConfig(*sizes, config.width), name="decoder")


KINDS = {
    "vqvae": Kind(_vqvae, lambda maps: maps),
    "dvae": Kind(_dvae, lambda maps: losses.from_logit_laplace(maps[..., :3])),
}


class Reconstructor(nn.Module):
    """States [b, n, d] of the n codes of pictures -> maps [b, y, x, c].

    Maps are pixels, or with kind "dvae" the six of `losses.logit_laplace`.
    tokenizer: config of the image tokenizer, with image_size, grid and code_dim.
    """

    config: ReconstructorConfig
    tokenizer: Any

    @nn.compact
    def __call__(self, states: Array) -> Array:
        return self._decoder(self._vectors(states))

    def _vectors(self, states: Array) -> Array:
        """z_emb [b, grid, grid, code_dim], float32."""
        grid, inner = self.tokenizer.grid, self.config.hidden or states.shape[-1]
        h = nn.Dense(inner, name="project_in")(states.astype(jnp.float32))
        h = constrain(nn.gelu(h), "batch", None, "mlp")
        z = nn.Dense(self.tokenizer.code_dim, name="project_out")(h)
        return constrain(z, "batch", None, None).reshape(len(z), grid, grid, -1)

    def _decoder(self, z_byxc: Array) -> Array:
        return KINDS[self.config.kind].make(self.tokenizer, self.config)(z_byxc)

    def pixels(self, maps: Array) -> Array:
        """Maps [b, y, x, c] -> pixels [b, y, x, 3], about [0, 1] and not clipped."""
        return KINDS[self.config.kind].pixels(maps)


def param_shapes(
    config: ReconstructorConfig, tokenizer: Any, width: int
) -> dict[str, Any]:
    """Nested shapes of the parameters for states of `width`, without computing any."""
    states = jax.ShapeDtypeStruct((1, tokenizer.grid**2, width), jnp.float32)
    init = Reconstructor(config, tokenizer).init
    return jax.eval_shape(init, jax.random.key(0), states)["params"]
