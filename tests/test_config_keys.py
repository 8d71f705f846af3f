"""Keys of a section, whose meanings are read from docstrings; none is without one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from cogjax.catalogue import resolve, stages
from cogjax.config_keys import keys_of, spelled
from cogjax.stages.keys import keys_of_stage


@dataclass(frozen=True)
class Inner:
    """Config of a part. depth: layers, 0 is off."""

    depth: int = 0


@dataclass(frozen=True)
class Base:
    """What others share.

    seed, size: first numbers; the other: two.
    """

    seed: int
    size: float = 1.5


@dataclass(frozen=True)
class Toy(Base):
    """Settings (names: none of these).

    size: pixels (a side). kind: what is drawn, "a" or
    "b"; sizes: of each level, names: of them. It says size: so here.

    inner: a part.
    """

    kind: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = (1, 2)
    names: tuple[str, ...] = ()
    inner: Inner = field(default_factory=Inner)
    rest: Mapping[str, Any] = field(default_factory=dict)
    on: bool | None = None


def test_meanings_stand_in_docstrings():
    keys = {key.name: key for key in keys_of(Toy, "toy")}
    assert [name.removeprefix("toy.") for name in keys] == (
        "seed size kind sizes names inner.depth rest on".split()
    )
    assert keys["toy.seed"].meaning == "first numbers; the other: two"
    assert keys["toy.size"].meaning == "pixels (a side)"
    assert keys["toy.kind"].meaning == 'what is drawn, "a" or "b"'
    assert keys["toy.sizes"].meaning == "of each level"
    assert keys["toy.names"].meaning == "of them. It says size: so here"
    assert keys["toy.inner.depth"].meaning == "layers, 0 is off"
    assert keys["toy.rest"].meaning == ""


def test_kinds_and_defaults_are_words():
    keys = {key.name.removeprefix("toy."): key[1:3] for key in keys_of(Toy, "toy")}
    assert keys["seed"] == ("whole number", "required")
    assert keys["size"] == ("number", "1.5")
    assert keys["kind"] == ("one of a, b", "a")
    assert keys["sizes"] == ("list of whole number", "1,2")
    assert keys["names"] == ("list of text", "empty")
    assert keys["rest"] == ("section", "empty")
    assert keys["on"] == ("true or false or none", "none")
    assert spelled((0.5, None, True)) == "0.5,none,true"


@pytest.mark.parametrize("task", list(stages()))
def test_every_key_of_every_task_has_a_meaning(task):
    found = keys_of_stage(resolve(stages()[task]))
    assert not [key.name for key in found if not key.meaning]
    names = [key.name for key in found]
    assert len(names) == len(set(names)) and "sample.sampler" not in names
    assert any(name.startswith("sample.sampler.") for name in names)
