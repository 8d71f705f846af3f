"""The families: what each paper brings, named by strings so that nothing is imported.

A package outside adds a family by an entry point of the group `cogjax.families` that
loads to a `Family`; `families` finds it.
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cogjax.errors import UserError


@dataclass(frozen=True)
class Network:
    """A kind of network; names are "module:name".

    config: frozen dataclass that describes the network completely. network: makes a
    network from a config. params: gives the nested shapes of the parameters for a
    config, without computing any; state: those of what is stored beside them, such as a
    codebook, empty for nothing. case: how its outputs are compared (`models/cases.py`).
    """

    config: str
    network: str
    params: str
    state: str = ""
    case: str = ""


@dataclass(frozen=True)
class Family:
    """A paper; names are "module:name", empty for what it does not have.

    layout: dataclass of its sequence layout. pipeline: called with a `Model`, gives
    what `cogjax.load` returns. format_1: turns the settings in folders of format 1 into
    (layout, config of the transformer). networks: kinds of networks that only this
    family has. stages: kinds of training runs, by the name of the task. importers: of
    released weights (`interop/importer.py`), by the name of what they import.
    tokenizer: config of the released image tokenizer.
    """

    name: str
    about: str
    layout: str = ""
    pipeline: str = ""
    format_1: str = ""
    networks: Mapping[str, Network] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    importers: Mapping[str, str] = field(default_factory=dict)
    tokenizer: str = ""


FAMILIES = {
    "cogview": Family(
        "cogview",
        "CogView (Ding et al. 2021, arXiv 2105.13290)",
        layout="cogjax.families.cogview.layout:Layout",
        pipeline="cogjax.pipelines.masked:of_layout",
        format_1="cogjax.families.cogview.presets:format_1",
        stages={
            "vq": "cogjax.families.cogview.stage:VQ",
            "lm": "cogjax.families.cogview.stage:LM",
            "masked": "cogjax.families.cogview.stage:MASKED",
            "super": "cogjax.families.cogview.stage:SUPER",
        },
        importers={"cogview": "cogjax.families.cogview.imports:COGVIEW"},
        tokenizer="cogjax.families.cogview.presets:RELEASED",
    ),
    "dalle": Family(
        "dalle",
        "DALL-E (Ramesh et al. 2021, arXiv 2102.12092)",
        layout="cogjax.families.dalle.layout:Layout",
        pipeline="cogjax.pipelines.pairs:of_layout",
        stages={
            "dvae": "cogjax.families.dalle.stage:DVAE",
            "dalle": "cogjax.families.dalle.stage:LM",
        },
        importers={"openai-dvae": "cogjax.families.dalle.imports:DVAE"},
        tokenizer="cogjax.families.dalle.presets:RELEASED",
    ),
    "dalle_mini": Family(
        "dalle_mini",
        "DALL-E mini and mega (Dayma et al. 2021, borisdayma/dalle-mini)",
        layout="cogjax.families.dalle_mini.layout:Layout",
        pipeline="cogjax.pipelines.encoder_decoder:EncoderDecoderPipeline",
        stages={"dalle_mini": "cogjax.families.dalle_mini.stage:STAGE"},
        importers={"dalle-mini": "cogjax.families.dalle_mini.imports:DALLE_MINI"},
        tokenizer="cogjax.families.vqgan.presets:F16",
    ),
    "ernie_vilg": Family(
        "ernie_vilg",
        "ERNIE-ViLG (Zhang et al. 2021, arXiv 2112.15283)",
        layout="cogjax.families.ernie_vilg.layout:TwoWayLayout",
        pipeline="cogjax.pipelines.tokens:TokensPipeline",
        format_1="cogjax.families.ernie_vilg.presets:format_1",
        stages={
            "ernie_vilg": "cogjax.families.ernie_vilg.stage:BIDIRECTIONAL",
            "end_to_end": "cogjax.families.ernie_vilg.stage:END_TO_END",
        },
    ),
    "llamagen": Family(
        "llamagen",
        "LlamaGen (Sun et al. 2024, arXiv 2406.06525)",
        layout="cogjax.families.llamagen.layout:Layout",
        pipeline="cogjax.pipelines.decoder:of_layout",
        stages={
            "llamagen": "cogjax.families.llamagen.stage:CLASSES_STAGE",
            "llamagen_captions": "cogjax.families.llamagen.stage:CAPTIONS_STAGE",
        },
        importers={"llamagen": "cogjax.families.llamagen.imports:LLAMAGEN"},
        tokenizer="cogjax.families.llamagen.vq:RELEASED",
    ),
    "mindalle": Family(
        "mindalle",
        "minDALL-E (Kim et al. 2021, github.com/kakaobrain/minDALL-E)",
        layout="cogjax.families.mindalle.layout:Layout",
        pipeline="cogjax.pipelines.decoder:DecoderPipeline",
        stages={"mindalle": "cogjax.families.mindalle.stage:LM"},
        importers={"mindalle": "cogjax.families.mindalle.imports:MINDALLE"},
        tokenizer="cogjax.families.vqgan.presets:F16",
    ),
    "rudalle": Family(
        "rudalle",
        "ru-DALL-E (Shonenkov et al. 2021, github.com/ai-forever/ru-dalle)",
        layout="cogjax.families.rudalle.layout:Layout",
        pipeline="cogjax.pipelines.decoder:of_shift",
        stages={"rudalle": "cogjax.families.rudalle.stage:LM"},
        importers={"rudalle": "cogjax.families.rudalle.imports:RUDALLE"},
        tokenizer="cogjax.families.vqgan.presets:F8",
    ),
    "imagen": Family(
        "imagen",
        "Imagen (Saharia et al. 2022, arXiv 2205.11487)",
        layout="cogjax.families.imagen.layout:Cascade",
        pipeline="cogjax.pipelines.cascade:CascadePipeline",
        stages={
            "t5": "cogjax.stages.text_encoder:T5",
            "imagen": "cogjax.families.imagen.stage:BASE",
            "imagen_super": "cogjax.families.imagen.stage:SUPER",
            "imagen_distill": "cogjax.families.imagen.stage:DISTILLED",
            "imagen_super_distill": "cogjax.families.imagen.stage:DISTILLED_SUPER",
        },
        importers={"t5": "cogjax.families.imagen.imports:T5"},
    ),
    "vqgan": Family(
        "vqgan",
        "VQGAN (Esser et al. 2021, arXiv 2012.09841)",
        stages={
            "vqgan": "cogjax.families.vqgan.stage:VQGAN",
            "decoder": "cogjax.stages.tokenizer:DECODER",
        },
        importers={"vqgan": "cogjax.families.vqgan.imports:VQGAN"},
        tokenizer="cogjax.families.vqgan.presets:F16",
    ),
    "clip": Family(
        "clip",
        "CLIP (Radford et al. 2021, arXiv 2103.00020)",
        pipeline="cogjax.pipelines.clip:ClipPipeline",
        stages={"clip": "cogjax.families.clip.stage:CONTRASTIVE"},
        importers={"clip": "cogjax.families.clip.imports:CLIP"},
    ),
}


@functools.cache
def families() -> dict[str, Family]:
    """All families by name, with those of installed packages.

    Raises UserError for an entry point that is no Family or whose name is taken.
    """
    import importlib.metadata  # Slow, and no --help needs it.

    found = dict(FAMILIES)
    for point in importlib.metadata.entry_points(group="cogjax.families"):
        family = resolve(point.value)
        if not isinstance(family, Family) or family.name in found:
            raise UserError(
                f"the entry point {point.name!r} = {point.value!r} of cogjax.families "
                "gives no Family with a name of its own: remove or mend its package"
            )
        found[family.name] = family
    return found


def stages() -> dict[str, str]:
    """The kinds of training runs of all families: {task: "module:name"}.

    Raises UserError for a task that two families have.
    """
    return _joined("stages", "a task")


def importers() -> dict[str, str]:
    """The importers of all families: {name: "module:name"}.

    Raises UserError for a name that two families have.
    """
    return _joined("importers", "an importer")


def _joined(field_name: str, what: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for family in families().values():
        for name, spec in getattr(family, field_name).items():
            if name in found:
                raise UserError(
                    f"family {family.name!r} has {what} {name!r}, which another has "
                    "too: give it another name"
                )
            found[name] = spec
    return found


def resolve(spec: str) -> Any:
    """What "module:name" names; UserError if there is no such thing."""
    module, _, name = spec.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"cannot import {spec!r}: {error}") from error
