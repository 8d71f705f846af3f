"""Answers as arrays of raters by prompts: what the statistics are made of."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.evaluate.human.answers import Answer, Rater
from cogjax.evaluate.human.study import FORMS, Study


@dataclass(frozen=True)
class Tally:
    """Answers to one question, NaN where there is none.

    points: [raters, prompts, models] that each model got, of a form that shows all
    models: 1 to 5, or whether it was the best.
    pairs: {(model, other): [raters, prompts]}, 1 where the first was chosen, -1 the
    other, 0 none of them; or by how many points the first is ahead.
    """

    question: str
    pairs: dict[tuple[int, int], np.ndarray]
    points: np.ndarray | None = None


def tallies(study: Study, raters: Sequence[Rater]) -> list[Tally]:
    """One a question, in the form's order; checks do not count."""
    form = FORMS[study.form]
    if form.paired:
        return [_paired(study, raters, question) for question in form.choices]
    return [_all_models(study, raters, name) for name in (*form.aspects, *form.choices)]


def first_shown(study: Study, raters: Sequence[Rater]) -> dict[str, tuple[int, int]]:
    """By question, how often the candidate on the left was chosen, of how many."""
    found = {}
    for question in FORMS[study.form].choices:
        chosen = [
            answer.order.index(answer.choices[question])
            for rater in raters
            for answer in rater.answers
            if answer.choices[question] in answer.order and not answer.item.is_check
        ]
        found[question] = chosen.count(0), len(chosen)
    return found


def _answers(rater: Rater) -> list[Answer]:
    return [answer for answer in rater.answers if not answer.item.is_check]


def _paired(study: Study, raters: Sequence[Rater], question: str) -> Tally:
    pairs = {
        pair: np.full((len(raters), len(study.prompts)), np.nan)
        for pair in itertools.combinations(range(len(study.models)), 2)
    }
    for row, rater in enumerate(raters):
        for answer in _answers(rater):
            item = answer.item
            pair = tuple(sorted(item.candidates.values()))
            chosen = item.candidates.get(answer.choices[question])
            value = 0 if chosen is None else 1 if chosen == pair[0] else -1
            pairs[pair][row, item.prompt] = value
    return Tally(question, pairs)


def _all_models(study: Study, raters: Sequence[Rater], name: str) -> Tally:
    points = np.full((len(raters), len(study.prompts), len(study.models)), np.nan)
    for row, rater in enumerate(raters):
        for answer in _answers(rater):
            for candidate, model in answer.item.candidates.items():
                if name in answer.choices:
                    value = float(answer.choices[name] == candidate)
                else:
                    value = answer.scores[candidate][name]
                points[row, answer.item.prompt, model] = value
    pairs = {
        (a, b): points[..., a] - points[..., b]
        for a, b in itertools.combinations(range(len(study.models)), 2)
    }
    return Tally(name, pairs, points)
