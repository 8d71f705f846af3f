"""Files of answers that raters sent back: nothing in them is trusted.

A file is bounded in size, read as JSON and compared with the study: its page, items,
candidates and values. One that does not fit is left out whole, with its reason.
"""

import json
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogjax.data.folder import printable
from cogjax.data.folder_entries import file_reader
from cogjax.errors import UserError, shown
from cogjax.evaluate.human.study import FORMS, NOISE, POINTS, Item, Study

ANSWERS = "human evaluation answers"
MAX_BYTES = 8 << 20
MAX_FILES = 10_000
_MAX_NAME, _MAX_SECONDS = 64, 1e7


@dataclass(frozen=True)
class Answer:
    """What a rater said on one screen.

    order: candidates from left to right. scores: points by candidate and aspect.
    choices: a candidate, or the answer that chooses none, by question.
    """

    item: Item
    order: tuple[str, ...]
    seconds: float
    scores: Mapping[str, Mapping[str, int]]
    choices: Mapping[str, str]

    def passes(self) -> bool:
        """Whether a check was answered right.

        Noise is never chosen, what is not noise is at least once, and nothing has fewer
        points than noise.
        """
        noise = [name for name, m in self.item.candidates.items() if m == NOISE]
        real = self.item.candidates.keys() - noise
        chosen = set(self.choices.values())
        points = {name: sum(own.values()) for name, own in self.scores.items()}
        lowest = all(points[n] <= points[r] for n in noise for r in real if points)
        return not chosen & set(noise) and bool(chosen & real) and lowest


@dataclass(frozen=True)
class Rater:
    """One person's answers. name: of the file. code: what the rater typed."""

    name: str
    code: str
    token: str
    answers: tuple[Answer, ...]

    @property
    def checks(self) -> list[bool]:
        """Whether each check was answered right."""
        return [each.passes() for each in self.answers if each.item.is_check]


@dataclass(frozen=True)
class Collected:
    """raters: one a person. left_out: (file, reason) of the others."""

    raters: tuple[Rater, ...]
    left_out: tuple[tuple[str, str], ...]


def collect(paths: Sequence[Path], study: Study) -> Collected:
    """Reads files of answers, and all .json in folders.

    A rater's file with the most answers counts, and no other. UserError if there is
    none that fits.
    """
    raters: list[Rater] = []
    left_out: list[tuple[str, str]] = []
    files = _files(paths)
    for path in files:
        try:
            raters.append(_rater(path, study))
        except UserError as error:
            left_out.append((printable(path.name), str(error)))
    # Stable: of equally long files the first stays.
    raters.sort(key=lambda rater: -len(rater.answers))
    kept: list[Rater] = []
    for rater in raters:
        same = [k for k in kept if k.token == rater.token or k.code == rater.code]
        if same:
            reason = f"the same rater as {same[0].name}, {rater.code!r}"
            left_out.append(
                (rater.name, f"{reason}, which has as many answers or more")
            )
        else:
            kept.append(rater)
    if not kept:
        name, reason = left_out[0]
        raise UserError(f"none of {len(files)} files can be used; {name}: {reason}")
    return Collected(tuple(sorted(kept, key=lambda r: r.code)), tuple(left_out))


def _files(paths: Sequence[Path]) -> list[Path]:
    found = []
    for path in paths:
        # What was named and is not there is a slip: without it the result is another.
        if not os.path.exists(path):
            raise UserError(
                f"no answers at {path}: give the files that raters sent back, or "
                "their folder"
            )
        listed = sorted(path.glob("*")) if path.is_dir() else None
        found += [path] if listed is None else filter(_is_json, listed)
    if not found or len(found) > MAX_FILES:
        raise UserError(
            f"{len(found)} files of answers, expected 1 to {MAX_FILES}: give the files "
            "that raters sent back, or their folder"
        )
    return list(dict.fromkeys(found))


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _rater(path: Path, study: Study) -> Rater:
    try:
        fields = json.loads(file_reader(path, MAX_BYTES)())
        if fields["cogjax"] != ANSWERS:
            raise ValueError("another mark")
        page = _text(fields["page"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError("no file of answers that the page saves") from error
    if page != study.id:
        raise UserError(f"answers to another page, {page}")
    try:
        code, token = _typed(fields["rater"]), _text(fields["token"])
        items = {item.id: item for item in study.items}
        answers = tuple(
            _answer(items[name], given, study.form)
            for name, given in fields["answers"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"damaged or altered: {_reason(error)}") from error
    if not answers:
        raise UserError("no answers yet")
    return Rater(printable(path.name), code, token, answers)


def _reason(error: Exception) -> str:
    return (
        "unknown or missing " + shown(error.args[0])
        if isinstance(error, KeyError)
        else (str(error)[:200] or type(error).__name__)
    )


def _answer(item: Item, given: Mapping[str, Any], name: str) -> Answer:
    """ValueError, TypeError or KeyError for what the page cannot have written."""
    form, candidates = FORMS[name], set(item.candidates)
    order = tuple(map(_text, given["order"]))
    if len(order) != len(candidates) or set(order) != candidates:
        raise ValueError(f"other candidates of {item.id}")
    seconds = given["seconds"]
    if type(seconds) not in (int, float) or not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError(f"{shown(seconds)} seconds")
    scores = {}
    for candidate in order if form.aspects else ():
        own = given["scores"][candidate]
        scores[candidate] = {aspect: _points(own[aspect]) for aspect in form.aspects}
    choices = {}
    for question, none in form.choices.items():
        choices[question] = _text(given["choices"][question])
        if choices[question] not in candidates | ({none} if none else set()):
            raise ValueError(f"{shown(choices[question])} is no answer to {question}")
    return Answer(item, order, float(seconds), scores, choices)


def _points(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= POINTS:
        raise ValueError(f"{shown(value)} points, of 1 to {POINTS}")
    return value


def _typed(value: Any) -> str:
    """A name as a person types it, in one form and printable, as page.js has it."""
    if not isinstance(value, str) or len(value) > _MAX_NAME:
        raise ValueError(f"{shown(value)} is no name")
    name = unicodedata.normalize("NFKC", value)
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    if not name:
        raise ValueError(f"{shown(value)} is no name")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME:
        raise ValueError(f"{shown(value)} is no name")
    if not value.isprintable():
        raise ValueError("a name with characters that cannot be printed")
    return value
