import numpy as np
import pytest

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.data.text import TextTokenizer
from cogjax.families.dalle.layout import Layout, Mixture, PaddedVocab

VOCAB = PaddedVocab(num_codes=10, num_text=20, text_len=4)
LAYOUT = Layout(VOCAB, image_len=4)
PADS = [30, 31, 32, 33]
CODES = np.array([7, 0, 9, 3])


def test_each_position_has_a_padding_of_its_own():
    ids, _ = LAYOUT.text_to_image([5, 0], CODES, 0.125)
    assert ids.tolist() == [15, 10, 32, 33, 7, 0, 9, 3]
    assert LAYOUT.prompt(()).tolist() == PADS
    assert LAYOUT.prompt([1, 2, 3, 4, 5]).tolist() == [11, 12, 13, 14]
    assert VOCAB.padded_size == 128
    assert PaddedVocab(8192, 16384, 256).padded_size == 8192 + 16384 + 256


def test_prompts_hide_nothing():
    ids, num_padding, positions, next_position = LAYOUT.prompts([[5], ()])
    assert ids.tolist() == [[15, 31, 32, 33], PADS] and not num_padding.any()
    assert positions.tolist() == [[0, 1, 2, 3]] * 2 and next_position.tolist() == [4, 4]


def test_weights_give_an_eighth_to_text_whatever_the_lengths():
    """The weighted mean is text / 8 + 7 image / 8, each a mean over its tokens."""
    losses = np.arange(8.0)
    _, weights = LAYOUT.text_to_image([5, 0], CODES, 1 / 8)
    found = np.sum(losses * weights) / np.sum(weights)
    wanted = np.mean(losses[1:4]) / 8 + 7 * np.mean(losses[4:]) / 8
    assert found == pytest.approx(wanted) and weights[0] == 0
    assert np.sum(weights) == pytest.approx(1)


def test_captions_are_dropped_as_often_as_it_says():
    mixture, rng = Mixture(caption_dropout=0.25), np.random.default_rng(0)
    rows = [mixture.example(LAYOUT, [[1], [2]], CODES, rng)["ids"] for _ in range(400)]
    empty = np.mean([row[:4].tolist() == PADS for row in rows])
    assert empty == pytest.approx(0.25, abs=0.06)
    assert {row[0] for row in rows} == {11, 12, 30}


def test_pieces_are_dropped_where_there_is_a_dropout():
    text = TextTokenizer.train(["apple house apple house"], 275)
    layout = Layout(PaddedVocab(10, text.size, 16), image_len=4)
    ids, rng = text.encode("apple house"), np.random.default_rng(0)
    draw, drop = Mixture().example, BPEDropout(text, 0.5)
    rows = [draw(layout, [ids], CODES, rng, drop)["ids"][:16] for _ in range(20)]
    pieces = [[i - 10 for i in row if i < 10 + text.size] for row in rows]
    assert {text.decode(row) for row in pieces} == {"apple house"}
    assert len({tuple(row) for row in pieces}) > 5
    whole = draw(layout, [ids], CODES, rng)["ids"][: len(ids)]
    assert (whole - 10).tolist() == ids


@pytest.mark.parametrize(("name", "value"), [("text_share", 1.0), ("code_noise", -0.1)])
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected 0 to below 1"):
        Mixture(**{name: value})
