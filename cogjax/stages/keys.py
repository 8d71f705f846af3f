"""All keys that the config of a task may have."""

from cogjax.config import SECTIONS
from cogjax.config_keys import REQUIRED, Key, keys_of
from cogjax.stages.sections import SECTION_CLASSES
from cogjax.stages.stage import Stage

_SAMPLER = "sample.sampler"


def keys_of_stage(stage: Stage) -> list[Key]:
    """The keys of every section in the order of a config."""
    classes = {"task": stage.settings, "model": stage.model_section, **SECTION_CLASSES}
    found = [Key("task.name", "text", REQUIRED, "the kind of run")]
    for name in SECTIONS:
        if classes[name] is not None:
            found += keys_of(classes[name], name)
    own = [key for key in found if key.name != _SAMPLER]
    return own + keys_of(stage.sampler, _SAMPLER)
