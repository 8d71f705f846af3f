"""Span corruption: how much is left out, where, and that nothing is lost."""

import numpy as np
import pytest

from cogjax.data.span_corruption import SpanCorruption, corrupt
from cogjax.data.t5_text import END, PAD, T5Text
from cogjax.data.text import TextTokenizer

T5 = SpanCorruption()


@pytest.fixture(scope="module")
def words():
    texts = "cat apple house flower rocket whale red blue line drawing of a flat icon"
    return T5Text(TextTokenizer.train([f"{w} {w}s 猫" for w in texts.split()], 285))


def runs(mask):
    """Number of spans."""
    return int(np.sum(np.diff(np.concatenate([[False], mask]).astype(int)) == 1))


@pytest.mark.parametrize(
    ("length", "noise", "spans"),
    [(2, 1, 1), (8, 1, 1), (20, 3, 1), (40, 6, 2), (100, 15, 5), (512, 77, 26)],
)
def test_a_share_is_left_out_in_spans(length, noise, spans):
    rng = np.random.default_rng(0)
    masks = np.stack([T5.left_out(length, rng) for _ in range(400)])
    assert (masks.sum(1) == noise).all()
    # One more where a span is turned around the end of the text.
    assert {runs(mask) for mask in masks} <= {spans, spans + 1}
    # Every place is as likely.
    expected = noise / length
    error = (expected * (1 - expected) / 400) ** 0.5
    assert np.abs(masks.mean(0) - expected).max() < 5 * error


def test_lengths_of_spans_vary():
    rng, found = np.random.default_rng(0), set()
    for _ in range(100):
        mask = np.concatenate([[0], T5.left_out(40, rng), [0]]).astype(int)
        starts, ends = (np.flatnonzero(np.diff(mask) == sign) for sign in (1, -1))
        found |= set((ends - starts).tolist())
    assert found == {1, 2, 3, 4, 5}


def test_the_example_of_the_paper(words):
    """Thank you <for inviting> me to your party <last> week, figure 2."""
    pieces = list(range(10, 20))
    left_out = np.zeros(10, bool)
    left_out[[2, 3, 8]] = True
    inputs, targets = corrupt(pieces, left_out, words)
    x, y = words.sentinel(0), words.sentinel(1)
    assert y == x - 1
    assert inputs == [10, 11, x, 14, 15, 16, 17, y, 19, END]
    assert targets == [x, 12, 13, y, 18, END]


@pytest.mark.parametrize("text", ["a red apple " * 9, "a cat", "", "猫"])
@pytest.mark.parametrize("text_len", [3, 9, 32])
@pytest.mark.parametrize("objective", [T5, SpanCorruption(0.5, 1.0)])
def test_nothing_is_lost(words, text, text_len, objective):
    sentinels = {words.sentinel(i) for i in range(100)}
    rng = np.random.default_rng(0)
    for _ in range(20):
        found = objective.example(words, text, text_len, rng)
        inputs, targets = (found[name].tolist() for name in ("ids", "targets"))
        assert len(inputs) == text_len
        assert len(targets) == objective.target_len(text_len)
        spans, rest = {}, [i for i in targets if i != PAD]
        assert rest.pop() == END
        for i in rest:
            if i in sentinels:
                spans[last := i] = []
            else:
                spans[last].append(i)
        inputs = [i for i in inputs if i != PAD]
        whole = [j for i in inputs for j in spans.get(i, [i])]
        assert whole == words.encode(text, text_len)


def test_settings_that_cannot_be():
    with pytest.raises(ValueError, match="share is 1.0, expected between"):
        SpanCorruption(1.0)
    with pytest.raises(ValueError, match="mean_span is 0.5, expected at least 1"):
        SpanCorruption(0.1, 0.5)
