"""The image of a codebook, with a decoder whose colours are known."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cogjax.evaluate.report.run_files import read_board
from cogjax.stages import codebook_board
from cogjax.stages.codebook_board import write_board


@dataclasses.dataclass(frozen=True)
class Plain:
    """A decoder: a square of two pixels a code, in the grey that its vector says."""

    def apply(self, variables, vectors, method):
        del variables
        assert method == "decode"
        return jnp.repeat(jnp.repeat(vectors, 2, 1), 2, 2) * jnp.ones(3)


class Tokenizer:
    """As much of a component as a decoder needs."""

    network, params = Plain(), {}

    def __init__(self, greys):
        self.state = {"codebook": np.float32(greys)[:, None] / 255}


@pytest.fixture
def board(tmp_path):
    codes = np.int32([[[1, 1], [1, 3]], [[3, 1], [0, 0]]])
    write_board(tmp_path, 7, Tokenizer([10, 20, 30, 40, 50]), codes)
    return tmp_path


def test_codes_stand_in_order_of_use(board):
    data, facts = read_board(board)
    assert json.dumps(facts)
    pixels = np.asarray(Image.open(board / "codebook.png"))
    # 1 four times, 0 and 3 twice; the unused 2 and 4 behind a row of white.
    rows = pixels[8, 8::17, 0].tolist(), pixels[-8, 8::17, 0].tolist()
    assert rows == ([20, 10, 40], [30, 50, 255])
    assert np.all(pixels[16:32] == 255)


def test_use_is_counted(board):
    facts = read_board(board)[1]
    assert (facts["step"], facts["codes"], facts["used"]) == (7, 5, 3)
    assert facts["not used by any"] == 2
    # Shares of a half and two quarters: 1.5 bits.
    assert facts["perplexity"] == pytest.approx(2**1.5, abs=0.01)


def test_a_large_codebook_shows_the_most_used(tmp_path, monkeypatch):
    monkeypatch.setattr(codebook_board, "_MOST", 2)
    codes = np.int32([[[4, 4], [4, 0]]])
    write_board(tmp_path, 1, Tokenizer([10, 20, 30, 40, 50]), codes)
    pixels = np.asarray(Image.open(tmp_path / "codebook.png"))
    assert pixels[8, 8::17, 0].tolist() == [50, 10]
    assert read_board(tmp_path)[1]["shown"] == 2
