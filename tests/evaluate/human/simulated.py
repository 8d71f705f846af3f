"""Raters who do not answer as the analysis assumes.

What they see in an image is its model's quality, how well the model draws that prompt,
their own taste in models, a moment's noise, and more of it on the left. They choose
the larger if it is larger by a threshold of their own; points are that on a scale of
their own, rounded and cut. Some do not look at all.
"""

import json
from dataclasses import dataclass, replace

import numpy as np

from cogjax.evaluate.human.study import FORMS, NOISE, POINTS


@dataclass(frozen=True)
class Crowd:
    """quality: of each model. The others: deviations, but for left, careless, slips."""

    quality: tuple[float, ...]
    prompt: float = 0.5
    taste: float = 0.25
    noise: float = 0.7
    offset: float = 0.5
    left: float = 0.25
    careless: float = 0.2
    slips: float = 0.01

    def threshold(self, rng, size):
        return rng.gamma(2.0, 0.12, size)

    def scale(self, rng, size):
        return rng.lognormal(0, 0.2, size)


def points_of(seen, offset, scale):
    return np.clip(np.rint(3 + offset + scale * seen), 1, POINTS)


def choice_of(seen, other, threshold, forced):
    """1 for the first, -1 for the other, 0 for none."""
    ahead = seen - other
    return np.where(forced | (np.abs(ahead) > threshold), np.sign(ahead), 0)


def true_values(crowd, form, question, n=400_000):
    """What infinitely many attentive raters would say of infinitely many prompts.

    Paired forms give {pair: share for the first less that for the second}, others the
    mean points of each model.
    """
    rng = np.random.default_rng(99)

    def seen(quality, place):
        spread = rng.normal(size=(3, n)) * [
            [crowd.prompt],
            [crowd.taste],
            [crowd.noise],
        ]
        return quality + spread.sum(0) + crowd.left * (place == 0)

    models = range(len(crowd.quality))
    if FORMS[form].paired:
        found = {}
        for a in models:
            for b in range(a + 1, len(crowd.quality)):
                place = rng.integers(2, size=n)
                views = seen(crowd.quality[a], place), seen(crowd.quality[b], 1 - place)
                forced = not FORMS[form].choices[question]
                said = choice_of(*views, crowd.threshold(rng, n), forced)
                found[a, b] = said.mean()
        return found
    offset, scale = rng.normal(0, crowd.offset, n), crowd.scale(rng, n)
    places = rng.permuted(np.tile(np.arange(len(crowd.quality)), (n, 1)), axis=1)
    views = [seen(crowd.quality[m], places[:, m]) for m in models]
    if question == "best":
        best = np.argmax(views, 0)
        return [np.mean(best == m) for m in models]
    return [points_of(view, offset, scale).mean() for view in views]


def answer_files(study, crowd, raters, seed, asked=lambda rater, item: True):
    """Files of answers (as bytes), by name; asked: who judges what."""
    rng = np.random.default_rng(seed)
    size = len(study.prompts), len(study.models)
    drawn = {name: rng.normal(0, crowd.prompt, size) for name in _questions(study.form)}
    files = {}
    for number in range(1, raters + 1):
        person = _Person(study, crowd, drawn, rng)
        answers = {
            item.id: person.answer(item) for item in study.items if asked(number, item)
        }
        fields = {
            "cogjax": "human evaluation answers",
            "page": study.id,
            "rater": str(number),
            "token": f"{number:016x}",
            "screens": len(answers),
            "answers": answers,
        }
        files[f"answers-{number}.json"] = json.dumps(fields).encode()
    return files


def _questions(form):
    return *FORMS[form].aspects, *FORMS[form].choices


class _Person:
    def __init__(self, study, crowd, drawn, rng):
        self.study, self.crowd, self.drawn, self.rng = study, crowd, drawn, rng
        self.offset = rng.normal(0, crowd.offset)
        self.scale, self.threshold = crowd.scale(rng, None), crowd.threshold(rng, None)
        self.looks = rng.random() >= crowd.careless
        self.taste = {
            name: rng.normal(0, crowd.taste, len(study.models))
            for name in _questions(study.form)
        }

    def answer(self, item):
        form, order = (
            FORMS[self.study.form],
            self.rng.permutation(list(item.candidates)),
        )
        order = [str(name) for name in order]
        looks = self.looks and self.rng.random() >= self.crowd.slips
        seen = {q: self._seen(item, order, q) for q in _questions(self.study.form)}
        if not looks:
            seen = {q: self.rng.normal(0, 1, len(order)) for q in seen}
        scores = {name: {} for name in order} if form.aspects else {}
        for aspect in form.aspects:
            given = points_of(seen[aspect], self.offset, self.scale)
            for name, value in zip(order, given, strict=True):
                scores[name][aspect] = int(value)
        choices = {}
        for question, none in form.choices.items():
            views = seen[question]
            choices[question] = order[int(np.argmax(views))]
            if none and not choice_of(*views, self.threshold, False):
                choices[question] = none
        seconds = float(self.rng.gamma(4, 2)) if looks else 1.0
        return {"order": order, "seconds": seconds, "scores": scores} | {
            "choices": choices
        }

    def _seen(self, item, order, question):
        models = [item.candidates[name] for name in order]
        found = np.array(
            [
                -9.0
                if model == NOISE
                else self.crowd.quality[model]
                + self.drawn[question][item.prompt, model]
                + self.taste[question][model]
                for model in models
            ]
        )
        found += self.rng.normal(0, self.crowd.noise, len(order))
        found[0] += self.crowd.left
        return found


def equal(crowd):
    """The same people, before models that are alike."""
    return replace(crowd, quality=(0.0,) * len(crowd.quality))
