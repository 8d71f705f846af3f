import gzip
import string

import numpy as np
import pytest

from cogjax.data.clip_bpe import ClipText, ClipTokenizer, clean, split_words
from cogjax.data.text_files import load_text
from cogjax.errors import UserError

MERGES = ["h e", "l l", "he ll", "o </w>", "hell o</w>", "c a", "ca t</w>", "1 2</w>"]


@pytest.fixture
def merges_file(tmp_path):
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress("\n".join(["#version", *MERGES, ""]).encode()))
    return path


@pytest.fixture
def tokenizer(merges_file):
    return ClipTokenizer(merges_file, num_merges=len(MERGES))


def test_ids_by_hand(tokenizer):
    assert tokenizer.vocab_size == 512 + len(MERGES) + 2
    start, end = 520, 521
    rows = tokenizer(["Hello  CAT", ""])
    # "!" has id 0, so "a" 64; "hello" and "cat" are the 5th and the 7th merge.
    assert rows.dtype == np.int32 and rows.shape == (2, 77)
    np.testing.assert_array_equal(rows[0, :5], [start, 516, 518, end, 0])
    np.testing.assert_array_equal(rows[1, :3], [start, end, 0])
    b = ord("b") - ord("!")
    assert tokenizer.encode("bb") == [b, b + 256]
    # Digits stand alone, so that "12" is never merged.
    one, two = (ord(c) - ord("!") + 256 for c in "12")
    assert tokenizer.encode("12") == [one, two]
    # Other letters as their bytes: two for an e with an accent.
    assert len(tokenizer.encode("\u00e9")) == 2


def test_long_captions(tokenizer):
    row = tokenizer(["cat " * 100])[0]
    assert row[0] == 520 and row[-1] == 521 and set(row[1:-1]) == {518}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's 42!?", ["it", "'s", "4", "2", "!?"]),
        ("a_b <|endoftext|>", ["a", "_", "b", "<|endoftext|>"]),
        ("they'll've", ["they", "'ll", "'ve"]),
        ("\u4e00\u53ea\u732b", ["\u4e00\u53ea\u732b"]),
        ("x\u00b2", ["x", "\u00b2"]),
        ("!'s", ["!'", "s"]),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


def test_cleaning():
    assert clean(" A &amp;amp; B\n\u201cq\u201d \uff21 ") == 'a & b "q" a'


def test_wrong_files(tmp_path, merges_file):
    with pytest.raises(UserError, match="cannot read"):
        ClipTokenizer(tmp_path / "none.gz")
    (tmp_path / "x.gz").write_bytes(b"<!doctype html>")
    with pytest.raises(UserError, match="expected"):
        ClipTokenizer(tmp_path / "x.gz")
    (tmp_path / "x.gz").write_bytes(merges_file.read_bytes()[:-12])
    with pytest.raises(UserError, match="expected"):
        ClipTokenizer(tmp_path / "x.gz")
    with pytest.raises(UserError, match="no 48894 merges"):
        ClipTokenizer(merges_file)


def test_words_as_by_the_published_pattern():
    regex = pytest.importorskip("regex")
    pattern = regex.compile(
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
        r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    rng = np.random.default_rng(0)
    alphabet = list(
        string.printable.lower()
        + "''''   \u00e9\u732b\u00b2\u2167\u0e01\U0001f600\u0301"
    )
    for _ in range(2000):
        text = "".join(rng.choice(alphabet, rng.integers(1, 30)))
        text = " ".join(text.split())
        assert split_words(text) == pattern.findall(text)


def test_cleaning_as_by_ftfy():
    ftfy = pytest.importorskip("ftfy")
    for text in (
        "A man\u2019s dog",
        "caf\u00e9 cafe\u0301",
        "\uff28\uff29!",
        "10 % off",
    ):
        assert clean(text) == ftfy.fix_text(text).strip().lower()


def test_merges_as_the_text_tokenizer_of_a_model(merges_file, tokenizer, tmp_path):
    """The packed file and the plain one are the same tokenizer."""
    lines = ["#version: 0.2", *MERGES, ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines))
    text = load_text(tmp_path / "merges.txt")
    assert isinstance(text, ClipText) and text.size == tokenizer.vocab_size - 2
    first = '"bpe_simple_vocab_16e6.txt#version: 0.2'
    packed = gzip.compress("\n".join([first, *lines[1:]]).encode())
    (tmp_path / "x.gz").write_bytes(packed)
    assert load_text(tmp_path / "x.gz") == text
    assert load_text(text.save(tmp_path / "text.model")) == text
    for caption in ("Hello  CAT 12", "", "\u00e9 \u732b!"):
        assert text.encode(caption) == tokenizer.encode(caption)
    assert text.decode(text.encode("Hello \u732b cat")) == "hello \u732b cat"
    assert text.decode([]) == ""
    # No text reaches the ids of start and end.
    assert max(text.encode("<|startoftext|> <|endoftext|>")) < text.size


@pytest.mark.parametrize(
    "data", [b"#version: 0.2\na b c\n", b"\x1f\x8bxx", b"#version: 0.2\n\xff\xff\n"]
)
def test_what_are_no_merges(tmp_path, data):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(UserError, match="x (is damaged|has no merges)"):
        load_text(tmp_path / "x")
