"""A nano model of super-resolution with random weights, its windows and command."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.model import Component
from cogjax.models.image_lm import ImageLM
from cogjax.pipelines import enlarge
from cogjax.pipelines.contracts import Enlarging, Generation
from cogjax.pipelines.enlarge import Enlarger, owners, waves, windows
from tests.programs import random_params

TEXTS = ["a red apple", "一只猫的线稿"]
CODES = np.random.default_rng(0).integers(32, size=(2, 8, 8))


@pytest.fixture(scope="module")
def model(nano_model):
    """One of 8 x 8 codes, 32 px, by the tokenizer of the nano model of 4 x 4."""
    plain = nano_model.model
    layout = dataclasses.replace(plain.layout, image_len=64, enlarges=True)
    network = cogview.make_transformer(cogview.TRANSFORMERS["nano"], layout)
    old = plain["tokenizer"]
    tokenizer = dataclasses.replace(old.config, image_size=32)
    parts = {
        "tokenizer": Component(tokenizer, old.params, old.state),
        "transformer": Component(network, random_params(ImageLM(network))),
    }
    return Enlarger(dataclasses.replace(plain, layout=layout, components=parts))


@pytest.fixture(scope="module")
def large(model):
    return model.enlarge_codes(CODES, TEXTS, seed=3)


def test_windows_that_do_not_depend_on_each_other_are_a_wave():
    found = windows(32, 32)
    assert waves(found, 64) == [[0], [1], [2, 3], [4, 5], [6], [7], [8]]
    owner = owners(found, 64)
    assert set(owner.ravel()) == set(range(9))
    # No window of a wave reads a code that another one of it draws.
    for wave in waves(found, 64):
        for i in wave:
            assert set(owner[found[i].drawn].ravel()).isdisjoint({*wave} - {i})
    assert waves(windows(16, 32), 32) == [[0]]


def test_waves_draw_what_windows_in_turn_draw(model, large, monkeypatch):
    assert len(waves(windows(8, 8), 16)) == 7
    in_turn = [[i] for i in range(9)]
    monkeypatch.setattr(enlarge, "waves", lambda *_: in_turn)
    seen = []
    again = model.enlarge_codes(
        CODES, TEXTS, seed=3, progress=lambda *x: seen.append(x)
    )
    np.testing.assert_array_equal(again, large)
    assert seen == [(2 * i, 18, "enlarging") for i in range(10)]
    assert 0 <= large.min() <= large.max() < model.num_codes
    assert (large[0] != large[1]).mean() > 0.5


def test_an_image_does_not_depend_on_its_company(model, large):
    alone = model.enlarge_codes(CODES[:1], TEXTS[:1], seed=3)
    np.testing.assert_array_equal(alone, large[:1])
    other = model.enlarge_codes(CODES[:1], TEXTS[:1], seed=4)
    assert (alone != other).mean() > 0.5
    # Two calls of the network, the second filled up, and one program.
    model.batch_size = 3
    try:
        three = model.enlarge_codes(CODES[[0, 1, 0]], [*TEXTS, TEXTS[0]], seed=3)
    finally:
        model.batch_size = 16
    np.testing.assert_array_equal(three[:2], large)


def test_what_another_model_draws_is_enlarged(model, nano_model):
    result = nano_model.generate(TEXTS, 2, seed=1)
    found = model.enlarge_generated(result, nano_model, seed=5)
    assert found.pixels.shape == (2, 2, 32, 32, 3) and found.prompts == result.prompts
    for i, text in enumerate(TEXTS):
        codes = model.enlarge_codes(result.codes[i], text, seed=5)
        np.testing.assert_array_equal(found.codes[i], codes)
        np.testing.assert_array_equal(found.pixels[i], model.show(codes))
    # By its pixels, where its codes mean something else.
    found = model.enlarge_generated(result, object(), seed=5)
    pixels = model.enlarge(result.pixels[1], TEXTS[1], size=32, seed=5)
    np.testing.assert_array_equal(found.pixels[1], pixels)


def test_what_cannot_be_enlarged(model):
    pixels = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(
        UserError, match="size is 48, and this model draws images of 32 o"
    ):
        model.enlarge(pixels, "a cat", size=48)
    with pytest.raises(
        UserError, match="enlarges images of 4 x 4 and 8 x 8 codes, got 5 x"
    ):
        model.enlarge_codes(np.zeros((1, 5, 5), int), "a cat")
    with pytest.raises(UserError, match="codes are from 0 to 32, expected 0 to 31"):
        model.enlarge_codes(np.full((1, 4, 4), 32) * np.eye(4, dtype=int), "a cat")
    with pytest.raises(
        UserError, match="64 pixels a side, and the model enlarges those"
    ):
        model.check_size(64)
    wide = Generation(("a cat",), np.zeros((1, 1, 16, 32, 3), np.uint8))
    with pytest.raises(UserError, match="32 x 16 pixels, and squares are drawn"):
        model.enlarge_generated(wide, object())


def test_the_command_line(model, nano_folder, tmp_path, capsys):
    folder = model.save(tmp_path / "super")
    loaded = cogjax.load(folder)
    assert isinstance(loaded, Enlarger) and isinstance(loaded, Enlarging)

    def run(*words):
        start = ["generate", "a cat", "--out", str(tmp_path / "out"), "--model"]
        status = cli.main([*start, str(nano_folder), "--num-images", "1", *words])
        return status, capsys.readouterr().err

    twice = ["--enlarge", str(folder)] * 2
    for words, message in (
        ([*twice, *twice[:2]], "images are 64 pixels a side"),
        (["--enlarge", str(nano_folder)], "this model does not enlarge images"),
        ([*twice, "--image", "x.png", "--mask", "y.png"], "leave one out"),
    ):
        status, error = run(*words)
        assert status == 2 and message in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    assert run(*twice)[0] == 0
    with Image.open(tmp_path / "out" / "a-cat-1.png") as image:
        assert image.size == (64, 64)
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    assert record["settings"]["enlarge"] == [str(folder)] * 2
    assert np.shape(record["images"][0]["codes"]) == (16, 16)
