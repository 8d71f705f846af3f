"""Prompts by category: our own list, or a file of the user."""

from collections.abc import Sequence
from importlib import resources

import numpy as np

from cogjax.data.captions import clean_caption
from cogjax.errors import UserError
from cogjax.evaluate.human.study import Prompt

LANGUAGES = ("en", "zh")


def own_prompts(language: str) -> list[Prompt]:
    """The package's list in a language; misspellings are there in English alone."""
    folder = resources.files("cogjax") / "evaluate" / "human"
    head, *lines = (folder / "prompts.tsv").read_text("utf-8").splitlines()
    column = head.split("\t").index(language)
    rows = [line.split("\t") for line in lines]
    return [Prompt(row[column], row[0]) for row in rows if row[column]]


def parse_prompts(lines: Sequence[str], name: str) -> list[Prompt]:
    """Prompts of lines "prompt" or "category<TAB>prompt"; UserError for a repeated one.

    name: of their file, for messages.
    """
    found = []
    for number, line in enumerate(lines, 1):
        category, _, text = line.rpartition("\t")
        prompt = Prompt(clean_caption(text), clean_caption(category))
        if not prompt.text:
            raise UserError(f"{name}: line {number} has no prompt")
        found.append(prompt)
    texts = [prompt.text for prompt in found]
    if twice := next((text for text in texts if texts.count(text) > 1), None):
        raise UserError(f"{name} has {twice[:60]!r} twice: leave it there once")
    return found


def chosen(prompts: Sequence[Prompt], n: int | None, seed: int) -> list[Prompt]:
    """n of the prompts, evenly over categories, in their order; None for all.

    UserError if there are fewer.
    """
    if n is None:
        return list(prompts)
    if n > len(prompts):
        raise UserError(
            f"--n {n}: there are {len(prompts)} prompts; give a smaller --n"
        )
    rng, places = np.random.default_rng(seed), {}
    for index in rng.permutation(len(prompts)):
        places.setdefault(prompts[index].category, []).append(int(index))
    # One of each category in turn, until there are enough.
    turns = sorted(
        (turn, category, index)
        for category, own in places.items()
        for turn, index in enumerate(own)
    )
    return [prompts[index] for index in sorted(index for *_, index in turns[:n])]
