"""Exact judges of captions of, and answers about, images of shapes.

A caption is right if the grammar (`shapes/captions.py`) has it, in either language, and
the scene satisfies the request that it states, by the rule that also judges images
(`shapes.satisfied`): the caption names every kind of shape with its number, its
colours, sizes and places hold, and the scene shows nothing else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.evaluate.metrics.captions import bleu, meteor_exact, rouge_l, tokenise
from cogjax.evaluate.metrics.cider import cider_d
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import Phrase, Request, read
from cogjax.worlds.shapes.questions import same_answer
from cogjax.worlds.shapes.scenes import Scene


def share(hits: Sequence[bool] | np.ndarray) -> dict:
    """{"share", "interval", "count"} of a sequence of right and wrong."""
    hits = np.asarray(hits, bool)
    interval = [round(x, 4) for x in wilson(int(hits.sum()), hits.size)]
    value = float(hits.mean()) if hits.size else 0.0
    return {"share": value, "interval": interval, "count": hits.size}


def is_true(caption: str, scene: Scene) -> bool:
    """Whether the grammar has the caption and the scene satisfies it."""
    request = read(caption)
    return request is not None and shapes.satisfied(request, scene.items)


def caption_metrics(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    scenes: Sequence[Scene] | None = None,
    others: Sequence[Sequence[str]] | None = None,
) -> dict:
    """BLEU-4, ROUGE-L, METEOR (exact), CIDEr-D; with scenes, which captions are true.

    "true": `is_true`. "graph": true, and states the same scene graph as one of the
    references or `others`. "details": the mean number of facts beyond kinds and numbers
    in a readable caption; a caption may be true because it says little.

    Args:
      references: of each image, in the language of its caption. others: of each image,
        in the other language.
    """
    words = [tokenise(caption) for caption in captions]
    known = [[tokenise(text) for text in own] for own in references]
    metrics = {
        "bleu_4": bleu(words, known),
        "rouge_l": float(rouge_l(words, known).mean()),
        "meteor_exact": float(meteor_exact(words, known).mean()),
        "cider_d": float(cider_d(words, known).mean()),
    }
    if scenes is None:
        return metrics
    stated = [read(caption) for caption in captions]
    true = [is_true(*pair) for pair in zip(captions, scenes, strict=True)]
    others = others or [()] * len(captions)
    same = [
        request is not None and request in {read(text) for text in (*own, *more)}
        for request, own, more in zip(stated, references, others, strict=True)
    ]
    details = [len(_details(request)) for request in stated if request]
    return {
        "true": share(true),
        "graph": share(np.array(true) & np.array(same)),
        "details": float(np.mean(details)) if details else 0.0,
        **metrics,
    }


@dataclass(frozen=True)
class Asked:
    """A question about image `index`; kind and language may be unknown, ""."""

    index: int
    kind: str
    language: str
    question: str
    answer: str


def right_answer(given: str, wanted: str) -> bool:
    """Whether an answer is right: by `same_answer`, or in the same words."""
    return same_answer(given, wanted) or _words(given) == _words(wanted)


def answer_metrics(asked: Sequence[Asked], answers: Sequence[str]) -> dict:
    """Shares of right answers: over all, by kind, by language, and by both."""
    hits = np.array(
        [
            right_answer(given, question.answer)
            for question, given in zip(asked, answers, strict=True)
        ],
        bool,
    )
    metrics = {"overall": share(hits)}
    groups = {
        "kinds": [question.kind for question in asked],
        "languages": [question.language for question in asked],
        "both": [f"{q.kind}, {q.language}" for q in asked],
    }
    for name, of in groups.items():
        names = sorted(set(of))
        metrics[name] = {key: share(hits[np.array(of) == key]) for key in names}
    return metrics


def agreement(a: Request | None, b: Request | None) -> float:
    """The share of what two requests both state that agrees, in [0, 1].

    Every kind of shape that either names, and its number; colour and size where both
    state them; a place where both state one of the same two shapes. 0 for no request.
    """
    if a is None or b is None:
        return 0.0
    first, second = ({p.shape: p for p in request.phrases} for request in (a, b))
    votes = []
    for shape in first.keys() | second.keys():
        one, other = first.get(shape), second.get(shape)
        votes.append(bool(one and other) and one.count == other.count)
        votes += _attributes(one, other) if one and other else []
    places = [_place(request) for request in (a, b)]
    if all(places) and places[0].keys() == places[1].keys():
        votes.append(places[0] == places[1])
    return float(np.mean(votes))


def _attributes(one: Phrase, other: Phrase) -> list[bool]:
    votes = []
    for name in ("colour", "size"):
        values = getattr(one, name), getattr(other, name)
        votes += [values[0] == values[1]] if all(values) else []
    for x, y in ((one, other), (other, one)):
        votes += [x.not_colour != y.colour] if x.not_colour and y.colour else []
    return votes


def _place(request: Request) -> Mapping:
    """{(kind of relation, its two shapes): which is first}, empty for none."""
    if request.relation is None:
        return {}
    order = tuple(phrase.shape for phrase in request.phrases)
    return {(request.relation, frozenset(order)): order}


def _details(request: Request) -> list[str]:
    stated = [
        value
        for phrase in request.phrases
        for value in (phrase.colour, phrase.size, phrase.not_colour)
        if value
    ]
    return stated + ([request.relation] if request.relation else [])


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()
