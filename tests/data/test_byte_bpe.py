"""Byte-level BPE against Hugging Face's tokenizers and min-dalle's, as recorded."""

import json
import pickle

import pytest

from cogjax.data.byte_bpe import ByteBPE, pack, split_words
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from tests.importing import dalle_mini as public

CASE = json.loads((public.CASES / "dalle-mini-texts.json").read_bytes())


def tokenizer(style, words=()):
    return ByteBPE(pack(public.VOCAB, public.MERGES, style, words))


@pytest.mark.parametrize(
    ("style", "key"),
    [("plain", "plain"), ("normalized", "bart"), ("words", "min_dalle")],
)
def test_ids_of_the_public_code(style, key):
    made = tokenizer(style, public.WORDS)
    for each in CASE:
        assert made.encode(each["text"]) == each[key], each["text"]
    assert len({tuple(each[key]) for each in CASE}) == len(CASE)


def test_spaces_go_with_the_word_behind_them():
    text = "I'd  say\n\n 12cats, they've"
    words = ["I", "'d", " ", " say", "\n\n", " 12", "cats", ",", " they", "'ve"]
    assert split_words(text) == words


def test_a_text_comes_back():
    made = tokenizer("plain")
    for text in ("a red cat, 12", "naïve 猫 \n x", "half \ud800"):
        expected = text.encode("utf-8", "replace").decode()
        assert made.decode(made.encode(text)) == expected
    ids = [made.special["<s>"], *made.encode(" a cat"), made.special["</s>"]]
    assert made.decode(ids) == "a cat"


def test_no_text_reaches_a_special_id():
    for style in ("plain", "words"):
        made = tokenizer(style)
        found = made.encode("<s> a </s> <pad> x")
        assert found and not set(found) & set(made.special.values())


def test_a_file_is_known_by_its_start(tmp_path):
    made = tokenizer("words", public.WORDS)
    made.save(tmp_path / "text.model")
    again = load_text(tmp_path / "text.model")
    assert isinstance(again, ByteBPE) and again == made
    assert pickle.loads(pickle.dumps(made)).encode("a Cat") == again.encode("a cat")
    assert again.size == len(public.VOCAB)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab": ["a", "a"]}, "no whole file"),
        ({"vocab": []}, "no whole file"),
        ({"style": "other"}, "no whole file"),
        ({"merges": ["a b c"]}, "merge 'a b c', two pieces are expected"),
        ({"merges": 3}, "no whole file"),
        ({"words": None}, "no whole file"),
    ],
)
def test_damaged_files(change, words):
    stored = json.loads(pack(public.VOCAB, public.MERGES, "plain"))
    with pytest.raises(UserError, match=words):
        ByteBPE(json.dumps(stored | change).encode(), "x")
    with pytest.raises(UserError, match="no file of byte-level BPE"):
        ByteBPE(b'{"kind": "byte-level BPE", ', "x")
