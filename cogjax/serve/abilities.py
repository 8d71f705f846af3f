"""The models that are served, and what each can do.

A model is asked with small examples: no family is known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cogjax.data.aspects import spelled
from cogjax.errors import UserError, did_you_mean, shown
from cogjax.pipelines.contracts import Codec, Embedder, Generator, Reader
from cogjax.pipelines.request import Request

_BLANK = Image.new("RGB", (64, 64), "white")
_HOLE = np.arange(64) < 32
_HOLE = _HOLE[:, None] & _HOLE
# Settings, and what stands beside each in a request that a model with it takes.
_SETTINGS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.5},
    "top_k": {"top_k": 2},
    "top_p": {"top_p": 0.5},
    "guidance": {"guidance": 2.0},
    "negative": {"negative": "a", "guidance": 2.0},
    "steps": {"steps": 2},
    "choice_temperature": {"choice_temperature": 1.0},
    "method": {"method": "ddpm"},
    "gamma": {"method": "ddpm", "gamma": 0.5},
    "percentile": {"percentile": 99.0},
    "augmentation": {"augmentation": 0.5},
    "rerank": {"rerank": 8},
    "mask": {"image": _BLANK, "mask": _HOLE},
    "fillings": {"image": _BLANK, "mask": _HOLE, "fillings": 2},
    "extend": {"image": _BLANK, "extend": {"left": 16}},
    "vary": {"image": _BLANK, "vary": 0.5},
    "strength": {"image": _BLANK, "strength": 0.5},
}


@dataclass(frozen=True)
class Abilities:
    """tasks: "generate", "caption", "ask", "score", "judge", of which "judge" is to
    choose among candidates of others. settings: those of `Request` that the model
    takes. styles: that it makes images into. aspects: of its images, where it has
    several. example: a request that it takes, None for a model that generates nothing.
    """

    tasks: tuple[str, ...]
    settings: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    aspects: tuple[str, ...] = ()
    example: Request | None = None

    @classmethod
    def of(cls, model: Any) -> "Abilities":
        """Those of a loaded model."""
        tasks = {
            "generate": isinstance(model, Generator),
            "caption": isinstance(model, Reader),
            "ask": isinstance(model, Reader)
            and getattr(model, "answers_questions", False),
            # What other scorers say of one image's texts is not to be compared.
            "score": isinstance(model, Reader | Embedder),
            "judge": isinstance(model, Embedder),
        }
        tasks = tuple(name for name, can in tasks.items() if can)
        if "generate" not in tasks:
            return cls(tasks)
        styles = tuple(getattr(model, "styles", ()))
        base: dict[str, Any] = {"prompts": "a"}
        if styles:
            base = {"prompts": (), "style": styles[0], "image": _BLANK}
        found = [name for name, own in _SETTINGS.items() if _takes(model, base | own)]
        shapes = model.shapes if isinstance(model, Codec) else ()
        aspects = tuple(spelled(*shape) for shape in shapes) if shapes[1:] else ()
        return cls(tasks, tuple(found), styles, aspects, Request.of(**base))

    def described(self, model: Any) -> dict[str, Any]:
        """For the page, JSON-able; `defaults` are the model's own settings."""
        defaults = model.settings(self.example) if self.example else {}
        return {
            "about": model.card.get("what", ""),
            "tasks": self.tasks,
            "settings": self.settings,
            "styles": self.styles,
            "aspects": self.aspects,
            "defaults": defaults,
        }


def _takes(model: Generator, settings: Mapping[str, Any]) -> bool:
    try:
        model.check(Request.of(**settings))
    except UserError:
        return False
    return True


@dataclass(frozen=True)
class Shelf:
    """The models that are served, by name, and what each can do.

    loaded: what recipes say of how they were loaded. version: of cogjax.
    """

    models: Mapping[str, Any]
    version: str
    loaded: Mapping[str, Any]

    def __post_init__(self):
        abilities = {name: Abilities.of(model) for name, model in self.models.items()}
        for name, each in abilities.items():
            if not each.tasks:
                raise UserError(f"model {name} neither draws nor reads: leave it out")
        object.__setattr__(self, "abilities", abilities)

    def described(self) -> list[dict[str, Any]]:
        """Each model for the page, JSON-able."""
        return [
            {"name": name, **self.abilities[name].described(model)}
            for name, model in self.models.items()
        ]

    def model(self, name: Any, task: str) -> Any:
        """The model of a name; UserError for another, and for one without the task."""
        if not isinstance(name, str) or name not in self.models:
            hint = did_you_mean(str(name), list(self.models))
            raise UserError(f"there is no model {shown(name)}{hint}")
        if task not in self.abilities[name].tasks:
            able = [key for key, each in self.abilities.items() if task in each.tasks]
            others = f": choose {' or '.join(able)}" if able else ", nor does another"
            raise UserError(f"model {name} does not {task}{others}")
        return self.models[name]
