"""What raters' answers say of the models, with how sure that is.

Intervals are of other raters and prompts like these (`crossed_interval`). p is that of
equal models, over prompts, for these raters: exact sign test of majorities, or random
signs of differences in points; corrected by Holm over all pairs and questions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cogjax.errors import UserError
from cogjax.evaluate.human.answers import Collected, Rater
from cogjax.evaluate.human.study import FORMS, Study
from cogjax.evaluate.human.tally import Tally, first_shown, tallies
from cogjax.evaluate.metrics.agreement import krippendorff_alpha
from cogjax.evaluate.metrics.intervals import crossed_interval, wilson
from cogjax.evaluate.metrics.significance import holm, sign_flip_test, sign_test

VOTES = 5  # of which the majority counts, as in DALL-E
KEEP = 0.8  # of the checks that a rater answers right, as in Imagen


@dataclass(frozen=True)
class Comparison:
    """Two models by one question.

    category: of the prompts, "" for all. difference: share of answers for the first
    less that for the second, or mean points, with its 95 % interval. answers, prompts:
    how many it is of. shares: of the answers, for the first, none, the second.
    majority: prompts with a majority of at most five votes for the first, for none, for
    the second. win_rate: share of prompts that the first wins so, and its Wilson
    interval. These are None of points. p: of equal models; corrected for several.
    """

    question: str
    models: tuple[str, str]
    category: str
    difference: float
    interval: tuple[float, float] | None
    answers: int
    prompts: int
    shares: tuple[float, float, float] | None
    majority: tuple[int, int, int] | None
    win_rate: tuple[float, float, float] | None
    p: float
    corrected: float


def analyse(study: Study, collected: Collected, keep: float = KEEP) -> dict[str, Any]:
    """The report, JSON-able.

    keep: raters with a smaller share of checks right are dropped, and who answered no
    check of a study that has some. UserError if nobody is left, or judged no models.
    """
    kept, dropped = _attentive(study, collected.raters, keep)
    if not kept:
        raise UserError(
            f"all {len(dropped)} raters failed the attention checks: look at their "
            "files, or lower --keep"
        )
    if all(answer.item.is_check for rater in kept for answer in rater.answers):
        raise UserError(
            "all raters who are kept answered attention checks alone: ask "
            "them to judge more screens, and to send their files again"
        )
    found = tallies(study, kept)
    everywhere = np.ones(len(study.prompts), bool)
    report = {
        "page": study.id,
        "form": study.form,
        "models": list(study.models),
        "prompts": len(study.prompts),
        "raters": _raters(kept, dropped),
        "left_out": [list(pair) for pair in collected.left_out],
        "keep": keep,
        "points": _points(study, found),
        "comparisons": _comparisons(study, found, {"": everywhere}),
        "agreement": {each.question: _agreement(study, each) for each in found},
        "first_shown": {
            question: {"share": hits / max(n, 1), "interval": wilson(hits, n), "n": n}
            | {"chance": 1 / (2 if FORMS[study.form].paired else len(study.models))}
            for question, (hits, n) in first_shown(study, kept).items()
        },
    }
    names = dict.fromkeys(prompt.category for prompt in study.prompts)
    if len(names) > 1:
        own = {
            name: np.array([prompt.category == name for prompt in study.prompts])
            for name in names
        }
        report["by_category"] = _comparisons(study, found, own)
    return report


def _attentive(study: Study, raters: Sequence[Rater], keep: float):
    """(kept, dropped) raters."""
    checks = any(item.is_check for item in study.items)
    kept = [
        rater
        for rater in raters
        if not checks or (rater.checks and np.mean(rater.checks) >= keep)
    ]
    return kept, [rater for rater in raters if rater not in kept]


def _raters(kept: Sequence[Rater], dropped: Sequence[Rater]) -> list[dict[str, Any]]:
    return [
        {
            "rater": rater.code,
            "file": rater.name,
            "kept": rater in kept,
            "answers": len(rater.answers),
            "checks": len(rater.checks),
            "right": sum(rater.checks),
            "median_seconds": float(np.median([a.seconds for a in rater.answers])),
        }
        for rater in (*kept, *dropped)
    ]


def _points(study: Study, found: Sequence[Tally]) -> list[dict[str, Any]]:
    """Mean points of each model, of a form that gives some; best first."""
    rows = []
    for tally in found:
        if tally.points is None:
            continue
        own = []
        for model, name in enumerate(study.models):
            mean, interval = _mean(tally.points[..., model])
            own.append({"model": name, "mean": mean, "interval": interval})
        own.sort(key=lambda row: -row["mean"])
        rows.append({"question": tally.question, "models": own})
    return rows


def _comparisons(
    study: Study, found: Sequence[Tally], categories: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """One a question, pair and category that has answers."""
    made = [
        _comparison(study, tally, pair, category, values[:, where])
        for tally in found
        for pair, values in tally.pairs.items()
        for category, where in categories.items()
        if not np.isnan(values[:, where]).all()
    ]
    corrected = holm([fields["p"] for fields in made])
    return [
        asdict(Comparison(**fields, corrected=p))
        for fields, p in zip(made, corrected, strict=True)
    ]


def _comparison(
    study: Study, tally: Tally, pair: tuple[int, int], category: str, values: np.ndarray
) -> dict[str, Any]:
    """Fields of a `Comparison`, of values [raters, prompts]."""
    values = values[:, ~np.isnan(values).all(0)]
    mean, interval = _mean(values)
    answers = int(np.sum(~np.isnan(values)))
    shares = majority = win_rate = None
    if tally.points is None:
        shares = tuple(float(np.sum(values == v)) / answers for v in (1, 0, -1))
        signs = [_majority(column, index) for index, column in enumerate(values.T)]
        majority = tuple(signs.count(v) for v in (1, 0, -1))
        win_rate = majority[0] / len(signs), *wilson(majority[0], len(signs))
        p = sign_test(majority[0], majority[2])
    else:
        p = sign_flip_test(np.nanmean(values, 0))
    return {
        "question": tally.question,
        "models": (study.models[pair[0]], study.models[pair[1]]),
        "category": category,
        "difference": mean,
        "interval": interval,
        "answers": answers,
        "prompts": values.shape[1],
        "shares": shares,
        "majority": majority,
        "win_rate": win_rate,
        "p": p,
    }


def _mean(values: np.ndarray) -> tuple[float, tuple[float, float] | None]:
    """Mean and 95 % interval, None of a single answer."""
    mean, low, high = crossed_interval(values)
    return mean, None if np.isnan(low) else (low, high)


def _majority(column: np.ndarray, index: int) -> int:
    """1 or -1 for whom more than half of at most five votes are, else 0."""
    votes = column[~np.isnan(column)]
    if len(votes) > VOTES:
        # Which five is chance, other ones for each prompt, and the same every time.
        votes = np.random.default_rng(index).permutation(votes)[:VOTES]
    return int(np.sum(votes == 1) * 2 > len(votes)) - int(
        np.sum(votes == -1) * 2 > len(votes)
    )


def _agreement(study: Study, tally: Tally) -> float | None:
    """Alpha over all prompts and pairs or models; None where nobody can agree."""
    if tally.points is None:
        units = np.concatenate(list(tally.pairs.values()), axis=1)
    elif tally.question in FORMS[study.form].choices:
        # Which model was the best, a name a prompt.
        best = np.where(np.isnan(tally.points).any(2), np.nan, tally.points.argmax(2))
        units = best
    else:
        units = tally.points.reshape(len(tally.points), -1)
    points = tally.question in FORMS[study.form].aspects
    alpha = krippendorff_alpha(units, interval=points)
    return None if np.isnan(alpha) else alpha
