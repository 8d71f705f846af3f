"""The shipped models give the same codes and words for the same seeds, for ever.

What they gave is in `shipped_digests.json`: codes as base64 of uint16, texts as they
are. They are compared exactly, compiled with and without XLA's optimisations. A code
may flip on another machine if its random number is a rounding away from the edge
between two codes: these were chosen not to be, weights that are off by 1e-5 give them
too. After a model was trained anew, `python -m tests.test_shipped_digests` writes them.
"""

import base64
import functools
import json
from pathlib import Path

import numpy as np
import pytest

import cogjax

STORED = Path(__file__).with_name("shipped_digests.json")
PROMPTS = {
    "emoji": ("a red apple, 3D", "猫"),
    "shapes": ("a red circle", "三个蓝色的正方形"),
    "shapes-ernie": ("a red circle", "三个蓝色的正方形"),
    "shapes-dalle": ("a red circle", "三个蓝色的正方形"),
}
MODELS = tuple(PROMPTS)
READERS = MODELS[:3]  # A DALL-E only draws.
SETTINGS = {"temperature": 0.8, "top_k": 64, "top_p": 0.9, "guidance": 2.0}
QUESTIONS = ["what colour is the circle?", "图中有几个正方形？"]

load = functools.cache(cogjax.load)


@functools.cache
def drawn(name, **settings):
    """Codes and pixels of two images of each prompt."""
    found = load(name).generate(list(PROMPTS[name]), num_images=2, seed=0, **settings)
    assert found.codes.shape[:2] == (2, 2)
    return found


def first_images(name):
    return drawn(name).pixels[:, 0]


def speculated(name):
    return load(name).generate(PROMPTS[name][0], 1, seed=0, speculate=4).codes


def reranked(name):
    return load(name).generate(PROMPTS[name][0], 1, seed=0, rerank=3).codes


# What is kept of a model by the name of each entry: codes, or a list of texts.
DRAWN = {
    "default": lambda name: drawn(name).codes,
    "settings": lambda name: drawn(name, **SETTINGS).codes,
}
SLOW = {
    ("shapes", "speculated"): speculated,
    ("shapes", "reranked"): reranked,
    ("shapes-ernie", "answers"): lambda name: load(name).ask(
        first_images(name), QUESTIONS
    ),
}
FAST = {(name, entry): make for name in MODELS for entry, make in DRAWN.items()}
FAST |= {
    (name, "captions"): lambda name: load(name).caption(first_images(name), "en")
    for name in READERS
}
CASES = FAST | SLOW


def packed(value):
    """As it is stored."""
    if isinstance(value, list):
        return value
    assert 0 <= value.min() and value.max() < 2**16
    return base64.b64encode(value.astype("<u2").tobytes()).decode()


def check(name, entry):
    stored = json.loads(STORED.read_text(encoding="utf-8"))[name][entry]
    value = CASES[name, entry](name)
    if isinstance(value, list):
        assert value == stored
        return
    want = np.frombuffer(base64.b64decode(stored), "<u2").reshape(value.shape)
    np.testing.assert_array_equal(value, want)


@pytest.mark.parametrize(("name", "entry"), FAST)
def test_what_it_gave(name, entry):
    check(name, entry)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "entry"), SLOW)
def test_what_it_gave_by_slower_ways(name, entry):
    check(name, entry)


if __name__ == "__main__":
    found = {name: {} for name in MODELS}
    for (name, entry), make in CASES.items():
        found[name][entry] = packed(make(name))
    text = json.dumps(found, ensure_ascii=False, indent=1)
    STORED.write_text(text + "\n", encoding="utf-8")
