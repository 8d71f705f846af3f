"""Captions as dalle-mini's normaliser leaves them, as recorded."""

import json

import pytest

from cogjax.data.caption_text import hashtag_splitter, normalized, spelled
from tests.importing import dalle_mini as public

CASE = json.loads((public.CASES / "dalle-mini-texts.json").read_bytes())


@pytest.mark.parametrize("each", CASE, ids=lambda each: each["text"])
def test_texts_of_the_public_code(each):
    assert normalized(each["text"], public.WORDS) == each["normalized"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Привет cat", " cat"),
        ("a <person> and <person>", " a people"),
        ("<person> runs", " a person runs"),
        ("#unsplit", " unsplit"),
    ],
)
def test_rules_of_ours(text, expected):
    """Other scripts have no Latin letters here; a person is not drawn by chance."""
    assert normalized(text) == expected


def test_hashtags_are_cut_into_the_commonest_words():
    split = hashtag_splitter(("the", "a", "cats", "cat"))
    assert split("TheCats") == "The Cats"
    assert split("a1234") == "a 1234"


def test_emoji_are_spelled():
    assert spelled("x🍎", ":") == "x:red_apple:"
