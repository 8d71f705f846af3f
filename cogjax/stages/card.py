"""What the card of a model says that was trained on from others' weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cogjax import model_folder

# Facts of a card that are still true of a model that was trained on.
_KEPT = "what", "imported_as", "source", "licence", "licenses", "notes"
_KEPT += "tokenizer", "text_encoder"


def card_of(weights: str, **parts: str) -> dict[str, Any]:
    """Where the weights of a model are from, and their licences.

    weights: the folder that it was trained on from. parts: folders of networks of other
    models in it, by their names. Each may be "", for none.
    """
    card = _kept(weights)
    card |= {"trained": "on, from these weights"} if card else {}
    found = {name: _kept(source) for name, source in parts.items()}
    return card | {name: each for name, each in found.items() if each}


def card_of_tokenizer(weights: str) -> dict[str, Any]:
    """As `card_of`, of an image tokenizer that was trained on alone, without its model.

    What the whole model does, and the notes on its other networks, are not kept.
    """
    card = card_of(weights)
    there = model_folder.load_outline(weights) if weights else None
    if there and len(there.components) > 1:
        card.pop("notes", None)
        card["what"] = f"the image tokenizer of {_name(there.card, weights)}, alone"
    return card


def card_of_decoder(source: str | Path) -> dict[str, Any]:
    """The card of a model with a new image decoder: figures and version are gone."""
    card = model_folder.load_outline(source).card
    name = _name(card, source)
    return _kept(source) | {"trained": f"the image decoder alone, anew, of {name}"}


def _name(card: Mapping[str, Any], source: str | Path) -> str:
    version = f" {card['version']}" if "version" in card else ""
    return f"{card.get('name', Path(source).name)}{version}"


def _kept(source: str | Path) -> dict[str, Any]:
    card = model_folder.load_outline(source).card if source else {}
    return {key: card[key] for key in _KEPT if key in card}
