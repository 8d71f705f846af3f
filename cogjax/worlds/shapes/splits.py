"""Combinations that the splits of the world of shapes hold out.

`train` and `val` never show or state these colours, counts and relations of shapes.
"""

import itertools

from cogjax.worlds.shapes.captions import Request
from cogjax.worlds.shapes.scenes import COLOURS, SHAPES

# Most shapes in a scene.
MOST = 6
_NAMES, _HUES = tuple(SHAPES), tuple(COLOURS)
# One colour and one count of each shape, and a seventh of the relations.
HELD_COLOURS = {(name, _HUES[(3 * i + 1) % 10]) for i, name in enumerate(_NAMES)}
HELD_COUNTS = {(name, 2 + 2 * i % 5) for i, name in enumerate(_NAMES)}
HELD_RELATIONS = {
    (relation, a, b)
    for r, relation in enumerate(("left", "above"))
    for (i, a), (j, b) in itertools.permutations(enumerate(_NAMES), 2)
    if (3 * i + 5 * j + r) % 7 == 0
}


def held_out(request: Request) -> bool:
    """Whether a request states a combination that `train` never shows or states."""
    pairs = {(phrase.shape, phrase.colour) for phrase in request.phrases}
    counts = {(phrase.shape, phrase.count) for phrase in request.phrases}
    stated = (request.relation, *(phrase.shape for phrase in request.phrases))
    return bool(
        pairs & HELD_COLOURS or counts & HELD_COUNTS or stated in HELD_RELATIONS
    )
