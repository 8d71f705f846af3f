"""All keys that the config of a task may have."""

from collections.abc import Mapping
from typing import Any

from cogjax.config import SECTIONS, check_section
from cogjax.config_keys import REQUIRED, Key, keys_of
from cogjax.errors import UserError
from cogjax.stages.sections import SECTION_CLASSES
from cogjax.stages.stage import Stage

_SAMPLER = "sample.sampler"


def keys_of_stage(stage: Stage) -> list[Key]:
    """The keys of every section in the order of a config."""
    classes = _classes(stage)
    found = [Key("task.name", "text", REQUIRED, "the kind of run")]
    for name in SECTIONS:
        if classes[name] is not None:
            found += keys_of(classes[name], name)
    own = [key for key in found if key.name != _SAMPLER]
    return own + keys_of(stage.sampler, _SAMPLER)


def check_keys(stage: Stage, config: Mapping[str, Any]) -> None:
    """UserError for a key that the stage does not know, or a value that does not fit.

    A key that is required may be missing.
    """
    classes = _classes(stage)
    for name, given in config.items():
        own = {k: v for k, v in given.items() if (name, k) != ("task", "name")}
        if classes[name] is not None:
            check_section(classes[name], own, name)
        elif own:
            raise UserError(
                f"config key '{name}.{min(own)}': this task takes none in '{name}', "
                "its network is that of another model"
            )
    sampler = config.get("sample", {}).get("sampler", {})
    check_section(stage.sampler, sampler, _SAMPLER)


def _classes(stage: Stage) -> dict[str, type | None]:
    """What types each section of a config."""
    return {"task": stage.settings, "model": stage.model_section, **SECTION_CLASSES}
