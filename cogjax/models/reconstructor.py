"""From a transformer's last states to pixels: ERNIE-ViLG's reconstructor, section 3.2.

    z = Dense(f(Dense(states)))         the paper: a non-linear map to z_emb
    pixels = decoder(z)                 z laid out as the grid of codes

The decoder reads z in place of the codebook vectors of sampled codes. The paper does
not say how deep the map is (two layers here) nor which function f is: GELU, or a
softmax over as many values as there are codes, which may start as the transformer's
head before the codebook (`expected_codes`): z is then the expected vector of the code.
The decoder is of a kind of `DECODERS`, all of which have as many vectors and pixels as
the image tokenizer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cogjax.models.dvae import DVAEDecoder, DVAEDecoderConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqgan import Decoder as VQGANOnly
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import Decoder, VQVAEConfig
from cogjax.nn.conv import Conv
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
    """The settings that the tokenizer and the transformer do not decide.

    kind: of the decoder, the architecture of a tokenizer, of the image tokenizer's own
    sizes if that is of this kind ("vqvae" must be); "dvae" is DALL-E's. hidden: width
    of the map's inner layer, 0 is the transformer's. width: channels at full size of a
    decoder whose sizes are not the tokenizer's.
    states: of a code the one that predicts it, before it is sampled, or that "at" its
    place, which has read it. activation: of the inner layer; "softmax" is over as many
    values as there are codes, of states that predict them.
    """

    kind: Literal["vqvae", "dvae", "vqgan"] = "vqvae"
    hidden: int = 0
    width: int = 64
    states: Literal["predicting", "at"] = "predicting"
    activation: Literal["gelu", "softmax"] = "gelu"

    def __post_init__(self):
        if self.hidden < 0 or self.width < 1:
            raise ValueError("hidden must be at least 0 and width at least 1")
        if self.hidden and self.activation == "softmax":
            raise ValueError(
                "activation 'softmax' is over the codes of the tokenizer: set hidden "
                f"to 0, got {self.hidden}"
            )
        if self.states == "at" and self.activation == "softmax":
            raise ValueError(
                "activation 'softmax' reads what predicts a code: set states to "
                "'predicting'"
            )


@dataclass(frozen=True)
class ReconstructorNetworkConfig:
    """The settings, with an image tokenizer and the width of the states."""

    settings: ReconstructorConfig
    tokenizer: TokenizerConfig
    states_width: int


class VQVAEDecoder(Decoder):
    """The VQ-VAE's decoder, its pixels about [-1, 1]."""

    def __call__(self, z_byxc: Array) -> tuple[Array, Array]:
        last, pixels = super().__call__(z_byxc)
        return last, 2 * pixels - 1


class VQGANDecoder(nn.Module):
    """VQGAN's decoder behind its 1x1 convolution, see `models/vqgan.py`."""

    config: VQGANConfig

    @nn.compact
    def __call__(self, z_byxc: Array) -> tuple[Array, Array]:
        x = Conv(self.config.z_dim, (1, 1), name="post_quant_conv")(z_byxc)
        return VQGANOnly(self.config, name="decoder")(x)


class Kind(NamedTuple):
    """make: decoder of (tokenizer's config, settings). pixels: of its maps.

    side: of the kernel of its last convolution, by the tokenizer's config; None if the
    decoder returns maps alone.
    """

    make: Callable[[TokenizerConfig, ReconstructorConfig], nn.Module]
    pixels: Callable[[Array], Array]
    side: Callable[[TokenizerConfig], int] | None


def _vqvae(tokenizer, config):
    del config
    if not isinstance(tokenizer, VQVAEConfig):
        raise ValueError("reconstructor kind 'vqvae' needs a VQ-VAE as the tokenizer")
    return VQVAEDecoder(tokenizer, name="decoder")


def _dvae(tokenizer, config):
    sizes = tokenizer.image_size, tokenizer.grid, tokenizer.code_dim
    return DVAEDecoder(DVAEDecoderConfig(*sizes, config.width), name="decoder")


def _vqgan(tokenizer, config):
    if isinstance(tokenizer, VQGANConfig):
        return VQGANDecoder(tokenizer, name="decoder")
    halvings = math.log2(tokenizer.image_size / tokenizer.grid)
    if not halvings.is_integer():
        raise ValueError(
            f"reconstructor kind 'vqgan' needs a power of 2 between image_size "
            f"{tokenizer.image_size} and grid {tokenizer.grid}"
        )
    multipliers = tuple(min(2**level, 4) for level in range(int(halvings) + 1))
    sizes = VQGANConfig(
        image_size=tokenizer.image_size,
        width=config.width,
        multipliers=multipliers,
        attention=(),
        z_dim=4 * config.width,
        groups=math.gcd(config.width, 32),
    )
    return VQGANDecoder(sizes, name="decoder")


DECODERS = {
    "vqvae": Kind(_vqvae, lambda maps: (maps + 1) / 2, lambda cfg: cfg.last_side),
    "dvae": Kind(_dvae, lambda maps: losses.from_logit_laplace(maps[..., :3]), None),
    "vqgan": Kind(_vqgan, lambda maps: (maps + 1) / 2, lambda cfg: 3),
}


def decoder_of(tokenizer: TokenizerConfig, params: Any) -> Any:
    """The decoder of an image tokenizer's parameters, as a reconstructor has it."""
    if isinstance(tokenizer, VQGANConfig):
        return {name: params[name] for name in ("post_quant_conv", "decoder")}
    return params["decoder"]


def without_decoder(tokenizer: TokenizerConfig, params: Any) -> Any:
    """The part of an image tokenizer's parameters that `decoder_of` leaves out."""
    decoder = with_decoder(tokenizer, {}, decoder_of(tokenizer, params))
    return {name: leaf for name, leaf in params.items() if name not in decoder}


def with_decoder(tokenizer: TokenizerConfig, params: Any, decoder: Any) -> Any:
    """An image tokenizer's parameters with a decoder, which `decoder_of` gives back."""
    if isinstance(tokenizer, VQGANConfig):
        return {**params, **decoder}
    return {**params, "decoder": decoder}


def expected_codes(head: Array, codebook: Array) -> dict[str, dict[str, Array]]:
    """Start of the map with the activation "softmax": the codebook's mean under p.

    head: [k, d], the transformer's, whose logits are those of p. codebook: [k, c].
    """
    return {
        "project_in": {"kernel": jnp.asarray(head).T, "bias": jnp.zeros(len(head))},
        "project_out": {
            "kernel": jnp.asarray(codebook),
            "bias": jnp.zeros(codebook.shape[1]),
        },
    }


class Reconstructor(nn.Module):
    """States [b, n, d] of the n codes of images -> (last, maps [b, y, x, c]).

    Maps are what `pixels` reads: with "dvae" the six of `losses.logit_laplace`, and
    `last` is None; else about [-1, 1], and `last` is the inputs of the last
    convolution.
    """

    config: ReconstructorNetworkConfig

    @nn.compact
    def __call__(self, states: Array) -> tuple[Array | None, Array]:
        found = self._decoder(self._vectors(states))
        return found if DECODERS[self.config.settings.kind].side else (None, found)

    def _vectors(self, states: Array) -> Array:
        """z_emb [b, grid, grid, code_dim], float32."""
        settings, tokenizer = self.config.settings, self.config.tokenizer
        grid, inner = tokenizer.grid, settings.hidden or states.shape[-1]
        activation = nn.gelu
        if settings.activation == "softmax":
            inner, activation = tokenizer.codebook_size, nn.softmax
        h = nn.Dense(inner, name="project_in")(states.astype(jnp.float32))
        h = constrain(activation(h), "batch", None, "mlp")
        z = nn.Dense(tokenizer.code_dim, name="project_out")(h)
        return constrain(z, "batch", None, None).reshape(len(z), grid, grid, -1)

    def _decoder(self, z_byxc: Array) -> Array | tuple[Array, Array]:
        settings = self.config.settings
        return DECODERS[settings.kind].make(self.config.tokenizer, settings)(z_byxc)

    def pixels(self, maps: Array) -> Array:
        """Maps [b, y, x, c] -> pixels [b, y, x, 3], about [0, 1] and not clipped."""
        return DECODERS[self.config.settings.kind].pixels(maps)


def param_shapes(config: ReconstructorNetworkConfig) -> dict[str, Any]:
    """Nested shapes of the parameters, without computing any.

    Raises ValueError for a decoder that does not fit the tokenizer.
    """
    shape = 1, config.tokenizer.grid**2, config.states_width
    states = jax.ShapeDtypeStruct(shape, jnp.float32)
    init = Reconstructor(config).init
    return jax.eval_shape(init, jax.random.key(0), states)["params"]
