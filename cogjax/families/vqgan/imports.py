"""VQGANs under taming-transformers' names: f16 and f8, nearest code or gumbel.

The sizes are those of the tensors. The size of images is the `resolution` of a config
file beside them, 256 without one; it only says at which sides the levels attend.
"""

from collections.abc import Mapping
from typing import Any

from cogjax.interop import vqgan
from cogjax.interop.importer import Conversion, Import, Importer
from cogjax.interop.source import Source

_LICENCE = "as of the release; taming-transformers' own are MIT"


def _detect(source: Source) -> bool:
    return all(map(vqgan.is_tokenizer, source.weights.values()))


def _plan(source: Source) -> Import:
    tensors = source.tensors
    settings = _settings(source)
    config = vqgan.config_of(tensors, settings.get("resolution", vqgan.RESOLUTION))
    vqgan.check_settings(config, settings)
    conversion = Conversion(
        config, list(vqgan.rules_of(config)), tensors, vqgan.DROPPED
    )
    notes = []
    if not settings:
        notes.append(
            f"no config file: images are taken to be of {vqgan.RESOLUTION} px, as "
            "those of the released models"
        )
    if config.form == "gumbel":
        notes.append("codes are the best ones: the public code adds noise to them")
    return Import("", {"tokenizer": conversion}, _LICENCE, notes=notes)


def _settings(source: Source) -> dict[str, Any]:
    """`ddconfig`, `n_embed` and `embed_dim` of a YAML file; {} without one."""
    model = source.config("model").get("model")
    params = model.get("params") if isinstance(model, Mapping) else None
    sizes = params.get("ddconfig") if isinstance(params, Mapping) else None
    if not isinstance(sizes, Mapping):
        return {}
    return {**sizes, **{key: params.get(key) for key in ("n_embed", "embed_dim")}}


VQGAN = Importer("VQGAN of taming-transformers", _detect, _plan)
