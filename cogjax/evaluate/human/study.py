"""What raters are asked about: forms of the papers, prompts, and who is who.

| form | paper | an item shows | questions |
|---|---|---|---|
| scores | CogView, Figure 10 | an image of every model | three scores, and the best |
| votes | DALL-E, section 3.1 | images of two models | realism, match |
| categories | Imagen, DrawBench | sets of images of two models | alignment, fidelity |

A candidate is an image, or a set of images, of one model. Raters know it by an opaque
name; the key, which they do not get, says whose it is. Some items are checks: one of
their candidates is noise, so that the right answer is known.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.errors import UserError

KEY = "human evaluation key"
NOISE = -1  # in place of the number of a model
POINTS = 5  # of a score


@dataclass(frozen=True)
class Form:
    """A form of questions.

    paired: an item shows two candidates, else those of all models. aspects: what each
    candidate is given 1 to 5 points for. choices: questions that one candidate answers,
    each with the answer that chooses none, "" if one must be chosen. num_images: of a
    candidate, as the paper has.
    """

    paired: bool
    aspects: tuple[str, ...]
    choices: Mapping[str, str]
    num_images: int


FORMS = {
    "scores": Form(False, ("clarity", "texture", "relevance"), {"best": ""}, 1),
    "votes": Form(True, (), {"realism": "", "match": "neither"}, 1),
    "categories": Form(True, (), {"alignment": "same", "fidelity": "same"}, 8),
}


@dataclass(frozen=True)
class Prompt:
    """What images are of; the category may be ""."""

    text: str
    category: str = ""


@dataclass(frozen=True)
class Item:
    """One screen of the page: a prompt's number and candidates by opaque names.

    candidates: numbers of models, `NOISE` in a check. Their order tells nothing.
    """

    id: str
    prompt: int
    candidates: Mapping[str, int]

    @property
    def is_check(self) -> bool:
        """Whether the right answer is known."""
        return NOISE in self.candidates.values()


@dataclass(frozen=True)
class Study:
    """A whole evaluation; its JSON is the key.

    id: of the page, the same for the same settings. per_rater: prompts that one rater
    is shown, 0 for all.
    """

    id: str
    form: str
    models: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    items: tuple[Item, ...]
    per_rater: int = 0

    def key(self) -> str:
        """The JSON of the key."""
        fields = {"cogjax": KEY, **asdict(self)}
        return json.dumps(fields, ensure_ascii=False, indent=1) + "\n"


def read_key(path: Path) -> Study:
    """The study of a key; UserError for a file that is none."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.pop("cogjax") != KEY:
            raise ValueError("another mark")
        fields["models"] = tuple(fields["models"])
        fields["prompts"] = tuple(Prompt(**each) for each in fields["prompts"])
        fields["items"] = tuple(Item(**each) for each in fields["items"])
        study = Study(**fields)
        _check(study)
        return study
    except OSError as error:
        raise UserError(
            f"cannot read the key {path}: {error.strerror}; give the folder that "
            "`cogjax evaluate human --out` made"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is no key of a human evaluation: give the folder that `cogjax "
            "evaluate human --out` made"
        ) from error


def _check(study: Study) -> None:
    """ValueError, or another of Python's errors, for what `make` never writes."""
    form, models = FORMS[study.form], study.models
    texts = [study.id, *models, *(item.id for item in study.items)]
    texts += [text for each in study.prompts for text in (each.text, each.category)]
    texts += [name for item in study.items for name in item.candidates.keys()]
    if not all(isinstance(text, str) for text in texts) or len(models) < 2:
        raise ValueError("names that are no texts, or one model")
    if type(study.per_rater) is not int or study.per_rater < 0:
        raise ValueError("a wrong number of prompts a rater")
    if len({item.id for item in study.items}) < len(study.items):
        raise ValueError("two items of one name")
    size = 2 if form.paired else len(models)
    for item in study.items:
        numbers = list(item.candidates.values())
        if not all(type(number) is int for number in (item.prompt, *numbers)):
            raise ValueError("a number that is none")
        if item.prompt not in range(len(study.prompts)) or len(numbers) != size:
            raise ValueError("no such prompt, or other candidates")
        if len(set(numbers)) < size or not set(numbers) <= {NOISE, *range(len(models))}:
            raise ValueError("no such models")


def make_study(
    form: str,
    models: Sequence[str],
    prompts: Sequence[Prompt],
    settings: Mapping[str, Any],
    checks: int,
    per_rater: int = 0,
) -> Study:
    """All items of a form, and so many checks among them.

    settings: all that the images depend on, and something secret, without which raters
    could work out the names; the same ones give the same names.
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    secret = hashlib.sha256(text.encode()).hexdigest()
    # The page shows its name: nothing else may follow from it.
    name = _opaque(secret)
    everyone = tuple(range(len(models)))
    groups = itertools.combinations(everyone, 2) if FORMS[form].paired else [everyone]
    shown = [
        _item(secret, index, group) for group in groups for index in range(len(prompts))
    ]
    rng = np.random.default_rng([0, int(secret, 16)])
    for index in rng.permutation(len(prompts))[:checks]:
        size = 2 if FORMS[form].paired else len(models)
        real = rng.permutation(len(models))[: size - 1]
        shown.append(_item(secret, int(index), (*map(int, real), NOISE)))
    # Sorted by opaque names, checks and models stand anywhere.
    items = tuple(sorted(shown, key=lambda item: item.id))
    return Study(name, form, tuple(models), tuple(prompts), items, per_rater)


def _item(secret: str, prompt: int, group: Sequence[int]) -> Item:
    names = {_opaque(secret, prompt, *group, model): model for model in group}
    return Item(_opaque(secret, prompt, *group), prompt, dict(sorted(names.items())))


def _opaque(*parts: Any) -> str:
    text = " ".join(map(str, parts))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
