"""What the card of a model says that was trained on from others' weights."""

from typing import Any

from cogjax import model_folder

# Of a card what is still true of a model that was trained on.
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


def _kept(source: str) -> dict[str, Any]:
    card = model_folder.load_outline(source).card if source else {}
    return {key: card[key] for key in _KEPT if key in card}
