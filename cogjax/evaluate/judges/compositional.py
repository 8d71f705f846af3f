"""Does it show what was asked? GenEval's tasks, size, negation, by the oracle.

An image is right if everything that its caption states is there, and nothing else:
all or nothing. The score of a model is the unweighted mean over the tasks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.evaluate.metrics.intervals import wilson
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import LANGUAGES, Request, write
from cogjax.worlds.shapes.oracle import UNKNOWN, Found, items_of, look


@dataclass(frozen=True)
class Prompt:
    """A caption of a request; task: one of `shapes.TASKS`."""

    task: str
    request: Request
    caption: str
    language: str


def make_prompts(n: int, seed: int = 0, unseen: bool = False) -> list[Prompt]:
    """About n prompts, as many of each task, languages in turn; the same for a seed.

    unseen: each states something that is held out of training (four of the tasks can).
    """
    tasks = shapes.UNSEEN_TASKS if unseen else shapes.TASKS
    rng = np.random.default_rng([seed, unseen])
    prompts = []
    for task in tasks:
        for index in range(max(n // len(tasks), 1)):
            request, language = shapes.ask(task, rng, unseen), LANGUAGES[index % 2]
            caption = write(request, language, rng)
            prompts.append(Prompt(task, request, caption, language))
    return prompts


@dataclass(frozen=True)
class Judged:
    """What the oracle says of g images of each of p prompts.

    found: the pieces of each image. right, abstained: bool [p, g]; an image with a
    piece that cannot be named is not right.
    """

    prompts: Sequence[Prompt]
    found: Sequence[Sequence[Sequence[Found]]]
    right: np.ndarray
    abstained: np.ndarray


def judge(prompts: Sequence[Prompt], images: np.ndarray) -> Judged:
    """Judges images uint8 [p, g, side, side, 3], 32 px or more a side."""
    found = [[look(image) for image in row] for row in images]
    right = [
        [shapes.satisfied(prompt.request, items_of(pieces)) for pieces in row]
        for prompt, row in zip(prompts, found, strict=True)
    ]
    unnamed = [
        [any(piece.item.shape == UNKNOWN for piece in pieces) for pieces in row]
        for row in found
    ]
    return Judged(prompts, found, np.array(right, bool), np.array(unnamed, bool))


def summary(judged: Judged) -> dict:
    """Scores of all images.

    JSON-able: "overall", "tasks" and "languages" with their Wilson 95 % intervals (by
    images), "any" (a share of prompts of which some image is right), "abstained".
    """
    right, abstained = judged.right, judged.abstained
    tasks = np.array([prompt.task for prompt in judged.prompts])
    languages = np.array([prompt.language for prompt in judged.prompts])
    by_task = {t: _share(right[tasks == t]) for t in dict.fromkeys(tasks.tolist())}
    return {
        "overall": float(np.mean([entry["share"] for entry in by_task.values()])),
        "tasks": by_task,
        "languages": {
            language: _share(right[languages == language])
            for language in LANGUAGES
            if language in languages
        },
        "abstained": float(abstained.mean()),
        "prompts": len(right),
        "images": right.size,
    }


def confusion(judged: Judged) -> dict[str, dict[str, dict[str, int]]]:
    """What was generated for what was asked, over the images of requests of one kind.

    {"shape" | "colour" | "count": {asked: {generated: images}}}; shape and colour of
    images with a single piece, count of all.
    """
    tables = {name: {} for name in ("shape", "colour", "count")}
    for prompt, row in zip(judged.prompts, judged.found, strict=True):
        if len(prompt.request.phrases) != 1:
            continue
        (phrase,) = prompt.request.phrases
        for pieces in row:
            _tally(tables["count"], str(phrase.count), str(len(pieces)))
            if phrase.count == len(pieces) == 1:
                _tally(tables["shape"], phrase.shape, pieces[0].item.shape)
                if phrase.colour:
                    _tally(tables["colour"], phrase.colour, pieces[0].item.colour)
    return {
        name: {
            asked: dict(sorted(counts.items()))
            for asked, counts in sorted(table.items())
        }
        for name, table in tables.items()
    }


def shuffled(judged: Judged, seed: int = 0) -> dict[str, float]:
    """Scores against captions of other prompts, which must be no better than chance.

    "share": first images against a random other prompt each; "chance": the mean over
    all other prompts, which is what that is expected to be; "interval" of the share.
    """
    count = len(judged.prompts)
    firsts = [items_of(row[0]) for row in judged.found]
    holds = np.array(
        [
            [shapes.satisfied(p.request, items) for p in judged.prompts]
            for items in firsts
        ]
    )
    np.fill_diagonal(holds, False)
    rng = np.random.default_rng(seed)
    # A prompt's own image is never picked: the shift is 1 to count - 1.
    order = rng.permutation(count)
    hits = holds[order, np.roll(order, rng.integers(1, count))]
    return {
        "share": float(hits.mean()),
        "interval": list(wilson(int(hits.sum()), count)),
        "chance": float(holds.sum() / (count * (count - 1))),
    }


def _share(right: np.ndarray) -> dict:
    """right: bool [p, g]."""
    return {
        "share": float(right.mean()),
        "interval": [round(x, 4) for x in wilson(int(right.sum()), right.size)],
        "any": float(right.any(1).mean()),
        "images": right.size,
    }


def _tally(table: dict, asked: str, generated: str) -> None:
    table.setdefault(asked, Counter())[generated] += 1
