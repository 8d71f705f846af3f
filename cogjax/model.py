"""A model: named networks with weights, a text tokenizer, a layout and a sampler."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn
import numpy as np

from cogjax.data.text import TextTokenizer
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.interop.tree import flatten
from cogjax.models.registry import kind_of, network_of
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.sampling.tokens.autoregressive import Sampler


@dataclass(frozen=True, eq=False)
class Component:
    """One network with weights, which are one file of a model folder.

    config: of a kind in `models/registry.py`. params: nested arrays. state: arrays
    that are not parameters, such as an image tokenizer's {"codebook": [k, z]}.
    Never an argument of a compiled function: that takes the network and the arrays.
    """

    config: Any
    params: Any
    state: Any = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Name of the network's kind."""
        return kind_of(self.config)

    @property
    def network(self) -> nn.Module:
        """The network, without weights."""
        return network_of(self.config)


@dataclass(frozen=True, eq=False)
class Model:
    """The parts of a model.

    family: its name in `catalogue.py`, empty for parts alone, such as an image
    tokenizer. components: by name, such as "tokenizer" (of images), "transformer" and
    "reconstructor". layout: how the family's sequences are laid out. sampler: how the
    model samples unless told otherwise. card: description, data, licences and
    "measured", a figure that `cogjax models` shows. words: those of the texts that it
    was trained on, None if they are not known.
    """

    family: str
    components: Mapping[str, Component]
    layout: Any = None
    text: TextTokenizer | None = None
    sampler: Sampler | CascadeSampler = Sampler()
    card: Mapping[str, Any] = field(default_factory=dict)
    words: WordList | None = None

    def __getitem__(self, name: str) -> Component:
        """The component of a name; UserError if there is none."""
        if name not in self.components:
            there = ", ".join(self.components) or "nothing"
            raise UserError(f"a model with a {name} is needed, this one has {there}")
        return self.components[name]

    def with_component(self, name: str, component: Component) -> "Model":
        """The same with another component of that name.

        What its card says was measured was so of other weights, and is left out.
        """
        card = {key: self.card[key] for key in self.card if key != "measured"}
        parts = {**self.components, name: component}
        return dataclasses.replace(self, components=parts, card=card)


def digest(component: Component) -> str:
    """sha256 of config and weights: the same for a folder, its copy and its export."""
    config = dataclasses.asdict(component.config)
    for each in dataclasses.fields(component.config):
        # Not in the digests of models that are older than the field.
        if each.metadata.get("new") and config[each.name] == each.default:
            del config[each.name]
    config = json.dumps(config, sort_keys=True)
    found = hashlib.sha256(config.encode())
    for name, leaf in sorted(flatten({**component.params, **component.state}).items()):
        leaf = np.asarray(leaf)
        found.update(f"{name} {leaf.dtype} {leaf.shape}\n".encode())
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()
