"""Model folders of format 1, whose config.json had a family's settings.

    {"format": 1, "family": ..., "tokenizer": {"kind": ..., ...}, "transformer": {...},
     "reconstructor": {...}, "sampler": {...}, "card": {...}}

Without "transformer" it is an image tokenizer alone.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax.catalogue import families, resolve
from cogjax.config import section
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError, shown
from cogjax.models.reconstructor import ReconstructorConfig, ReconstructorNetworkConfig
from cogjax.models.registry import config_class, kind_of


def upgrade(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of format 1 as format 2 has it, without the digests of the files."""
    tokenizer = _tokenizer(config.get("tokenizer", {}))
    configs = {"tokenizer": tokenizer}
    found = {"family": "", "layout": None}
    if "transformer" in config:
        format_1 = families()[config["family"]].format_1
        if not format_1:
            raise UserError(
                f"family {shown(config['family'])} has no folders of format 1"
            )
        text = TextTokenizer.load(folder / "text.model")
        sizes = tokenizer, text.size
        layout, network = resolve(format_1)(config["transformer"], *sizes)
        configs["transformer"] = network
        found = {
            "family": config["family"],
            "layout": dataclasses.asdict(layout),
            "text": hashlib.sha256(text.serialized).hexdigest(),
        }
        if "reconstructor" in config:
            settings = config["reconstructor"]
            settings = section(ReconstructorConfig, settings, "reconstructor")
            configs["reconstructor"] = ReconstructorNetworkConfig(
                settings, tokenizer, network.width
            )
    components = {
        name: {"kind": kind_of(one), "config": dataclasses.asdict(one)}
        for name, one in configs.items()
    }
    same = {key: config[key] for key in ("sampler", "card") if key in config}
    return {"format": 1, "components": components, **found, **same}


def _tokenizer(values: Mapping[str, Any]) -> Any:
    values = dict(values)
    # Folders that are older than the second kind do not name their kind.
    kind = values.pop("kind", "vqvae")
    return section(config_class(kind), values, "tokenizer")
