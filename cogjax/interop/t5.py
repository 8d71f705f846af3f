"""A folder of a T5 as Hugging Face writes it: config.json, weights, spiece.model."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax.config import load_json, section
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError, shown
from cogjax.interop.networks import load_weights
from cogjax.models.t5 import T5Config, T5Encoder

_SIZES = {
    "width": "d_model",
    "depth": "num_layers",
    "heads": "num_heads",
    "head_dim": "d_kv",
    "mlp_dim": "d_ff",
    "vocab_size": "vocab_size",
    "num_buckets": "relative_attention_num_buckets",
}
_EPSILON = 1e-6
_GATED = {"relu": False, "gated-gelu": True}


def is_t5(folder: str | os.PathLike) -> bool:
    """Whether a folder has the config.json of a T5."""
    path = Path(folder) / "config.json"
    return path.is_file() and load_json(path).get("model_type") == "t5"


def read_t5(
    folder: str | os.PathLike,
) -> tuple[T5Config, dict[str, Any], TextTokenizer]:
    """(config, parameters, text tokenizer) of the encoder; a decoder is left out.

    UserError for what is missing, damaged, or no T5 of version 1.0 or 1.1.
    """
    folder = Path(folder)
    config = config_of(load_json(folder / "config.json"), f"{folder}/config.json")
    weights = sorted(folder.glob("model*.safetensors"))
    weights = weights or sorted(folder.glob("pytorch_model*.bin"))
    if not weights:
        raise UserError(
            f"{folder} has no weights: model.safetensors or pytorch_model.bin is "
            "expected"
        )
    text = TextTokenizer.load(folder / "spiece.model")
    return config, load_weights(T5Encoder(config), weights), text


def config_of(stored: Mapping[str, Any], what: str) -> T5Config:
    """The encoder's config of a config.json; UserError, which names `what`, for others.

    stored: its contents.
    """
    form = stored.get("feed_forward_proj", "relu")
    missing = [name for name in _SIZES.values() if name not in stored]
    if missing or form not in tuple(_GATED):
        found = f"no {', '.join(missing)}"
        found = found if missing else f"feed_forward_proj {shown(form)}"
        raise UserError(f"{what} has {found}: a T5 of version 1.0 or 1.1 is expected")
    epsilon = stored.get("layer_norm_epsilon", _EPSILON)
    if epsilon != _EPSILON:
        raise UserError(
            f"{what} has layer_norm_epsilon {shown(epsilon)}: only {_EPSILON} is here"
        )
    sizes = {ours: stored[theirs] for ours, theirs in _SIZES.items()}
    # Configs of before 2022 do not say it: it was no setting.
    farthest = stored.get("relative_attention_max_distance", 128)
    sizes |= {"gated": _GATED[form], "max_distance": farthest}
    try:
        return section(T5Config, sizes)
    except UserError as error:
        raise UserError(f"{what}: {error}") from error


def stored_config(config: T5Config) -> dict[str, Any]:
    """The contents of a config.json of an encoder, of which `config_of` is made."""
    [form] = [name for name, gated in _GATED.items() if gated == config.gated]
    return {
        "model_type": "t5",
        "architectures": ["T5EncoderModel"],
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "relative_attention_max_distance": config.max_distance,
        "layer_norm_epsilon": _EPSILON,
        "feed_forward_proj": form,
        "is_encoder_decoder": False,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
