"""The table of networks that a model may be made of: kind -> how to make it.

A model's config.json names the kind of each component; a family from outside adds its
own (`catalogue.Family.networks`). Nothing is imported before it is asked for.
"""

import functools
from typing import Any

import flax.linen as nn
import jax

from cogjax.catalogue import Network, families, resolve
from cogjax.errors import UserError, shown

_TOKENIZER = {
    "params": "cogjax.models.tokenizers:param_shapes",
    "state": "cogjax.models.tokenizers:state_shapes",
    "case": "cogjax.models.cases:TOKENIZER",
}
NETWORKS = {
    "vqvae": Network(
        "cogjax.models.vqvae:VQVAEConfig", "cogjax.models.vqvae:VQVAE", **_TOKENIZER
    ),
    "vqgan": Network(
        "cogjax.models.vqgan:VQGANConfig", "cogjax.models.vqgan:VQGAN", **_TOKENIZER
    ),
    "dvae": Network(
        "cogjax.models.dvae:DVAEConfig", "cogjax.models.dvae:DVAE", **_TOKENIZER
    ),
    "image_lm": Network(
        "cogjax.models.image_lm_config:ImageLMConfig",
        "cogjax.models.image_lm:ImageLM",
        "cogjax.models.image_lm:param_shapes",
        case="cogjax.models.cases:IMAGE_LM",
    ),
    "encoder_decoder": Network(
        "cogjax.models.encoder_decoder_config:EncoderDecoderConfig",
        "cogjax.models.encoder_decoder:EncoderDecoder",
        "cogjax.models.encoder_decoder:param_shapes",
        case="cogjax.models.cases:ENCODER_DECODER",
    ),
    "reconstructor": Network(
        "cogjax.models.reconstructor:ReconstructorNetworkConfig",
        "cogjax.models.reconstructor:Reconstructor",
        "cogjax.models.reconstructor:param_shapes",
    ),
    "unet": Network(
        "cogjax.models.unet:UNetConfig",
        "cogjax.models.unet:UNet",
        "cogjax.models.unet:param_shapes",
    ),
    "efficient_unet": Network(
        "cogjax.models.efficient_unet:EfficientUNetConfig",
        "cogjax.models.efficient_unet:EfficientUNet",
        "cogjax.models.efficient_unet:param_shapes",
    ),
    "clip": Network(
        "cogjax.models.clip:ClipConfig",
        "cogjax.models.clip:Clip",
        "cogjax.models.clip:param_shapes",
        case="cogjax.models.cases:CLIP",
    ),
    "bert": Network(
        "cogjax.models.bert:BertConfig",
        "cogjax.models.bert:BertEncoder",
        "cogjax.models.bert:param_shapes",
    ),
    "t5": Network(
        "cogjax.models.t5:T5Config",
        "cogjax.models.t5:T5Encoder",
        "cogjax.models.t5:param_shapes",
        case="cogjax.models.cases:T5",
    ),
}


def networks() -> dict[str, Network]:
    """All rows, with those of the families."""
    own = [family.networks for family in families().values()]
    return {kind: row for rows in (*own, NETWORKS) for kind, row in rows.items()}


def config_class(kind: str) -> type:
    """The class of a kind's configs; UserError for an unknown kind."""
    rows = networks()
    if kind not in rows:
        raise UserError(f"kind is {shown(kind)}, expected one of {', '.join(rows)}")
    return resolve(rows[kind].config)


def kind_of(config: Any) -> str:
    """The kind whose config this is; ValueError if there is none."""
    name = f"{type(config).__module__}:{type(config).__qualname__}"
    for kind, row in networks().items():
        if row.config == name:
            return kind
    raise ValueError(f"{name} is the config of no network in the table of networks")


def network_of(config: Any) -> nn.Module:
    """The network of a config."""
    return resolve(networks()[kind_of(config)].network)(config)


def shapes_of(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested shapes of (parameters, state), without computing any.

    Raises ValueError for a config whose sizes make no network.
    """
    # Dicts of the caller's own: those that are kept stay as they are.
    return jax.tree.map(lambda leaf: leaf, _traced(config))


# A network is traced for its shapes, and the same is asked for again and again.
@functools.lru_cache(maxsize=16)
def _traced(config: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    row = networks()[kind_of(config)]
    state = resolve(row.state)(config) if row.state else {}
    try:
        return resolve(row.params)(config), state
    except (TypeError, ZeroDivisionError) as error:
        # JAX raises these for sizes of 0 and below.
        raise ValueError("these sizes make no network") from error
