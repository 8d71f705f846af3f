"""A masked nano model with random weights, in Python and on the command line."""

import dataclasses
import json

import numpy as np
import pytest

import cogjax
from cogjax import cli
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.model import Component
from cogjax.pipelines.contracts import Codec, Generator, Reader
from cogjax.pipelines.masked import MaskedPipeline

PROMPTS = ("a red apple", "一只猫的线稿", "line drawing of a whale")
IMAGE = np.zeros((16, 16, 3), np.uint8)


def make(nano_model):
    """The weights of the nano model, as those of a masked network."""
    plain = nano_model.model
    layout = dataclasses.replace(plain.layout, masked=True)
    network = cogview.make_transformer(cogview.TRANSFORMERS["nano"], layout)
    part = Component(network, plain["transformer"].params)
    components = {**plain.components, "transformer": part}
    return dataclasses.replace(plain, layout=layout, components=components)


@pytest.fixture(scope="module")
def model(nano_model):
    return MaskedPipeline(make(nano_model))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("masked") / "model")


@pytest.fixture(scope="module")
def drawn(model):
    return model.generate(PROMPTS, 2, seed=3)


def test_it_generates_and_reads_nothing(model, drawn):
    assert isinstance(model, Generator) and isinstance(model, Codec)
    assert not isinstance(model, Reader)
    assert drawn.pixels.shape == (3, 2, 16, 16, 3)
    assert 0 <= drawn.codes.min() <= drawn.codes.max() < model.num_codes
    assert len(np.unique(drawn.codes.reshape(6, -1), axis=0)) == 6


def test_an_image_does_not_depend_on_its_company(model, drawn):
    alone = model.generate(PROMPTS[1], 1, seed=3)
    np.testing.assert_array_equal(alone.codes[0, 0], drawn.codes[1, 0])


def test_a_saved_model_is_loaded_as_what_it_is(model, folder, drawn):
    loaded = cogjax.load(folder)
    assert type(loaded) is MaskedPipeline
    again = loaded.generate(PROMPTS, 2, seed=3)
    np.testing.assert_array_equal(again.codes, drawn.codes)
    assert json.loads((folder / "config.json").read_text())["layout"]["masked"]


def test_codes_that_are_kept_stay(model):
    keep = np.zeros((4, 4), bool)
    keep[1, 2] = keep[3] = True
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    [given] = model.encode(image)
    codes = model.generate(PROMPTS[0], 2, seed=3, image=image, keep=keep).codes[0]
    np.testing.assert_array_equal(codes[:, keep], [given[keep]] * 2)
    assert (codes[0] != codes[1]).any()
    all_kept = model.generate(PROMPTS[0], 1, image=image, keep=keep | True).codes
    np.testing.assert_array_equal(all_kept[0, 0], given)


def test_steps_and_choice_reach_the_sampler(model, drawn):
    for settings in ({"steps": 2}, {"choice_temperature": 0}):
        other = model.generate(PROMPTS, 2, seed=3, **settings)
        assert (other.codes != drawn.codes).any()
    usual = {"steps": 8, "choice_temperature": 4.5}
    again = model.generate(PROMPTS, 2, seed=3, **usual)
    np.testing.assert_array_equal(again.codes, drawn.codes)


def test_a_preview_sees_all_codes_at_once(model, drawn):
    seen = []
    model.generate(PROMPTS, 2, seed=3, preview=lambda *args: seen.append(args))
    [(pairs, codes)] = seen
    assert pairs == [(p, i) for p in range(3) for i in range(2)]
    np.testing.assert_array_equal(codes, drawn.codes.reshape(6, 4, 4))


def test_another_reranker_chooses(model, drawn):
    def darkness(images, texts):
        return images.reshape(len(images), -1).mean(1)

    best = model.generate(PROMPTS, 1, seed=3, rerank=2, rerank_by=darkness)
    means = drawn.pixels.reshape(3, 2, -1).mean(2)
    np.testing.assert_allclose(best.scores[:, 0], means.min(1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speculate": 4}, "speculate drafts codes in turn, which a masked model"),
        ({"decode": "hidden"}, "decode 'hidden' needs a model trained end to end"),
        ({"rerank": 8}, "this model cannot score images"),
        ({"steps": 17}, "steps is 17, expected 1 to 16"),
        ({"steps": 0}, "steps is 0, expected a whole number from 1"),
        ({"choice_temperature": -1}, "choice_temperature is -1, expected a number"),
        ({"image": IMAGE, "keep": np.ones((3, 3), bool)}, r"have \[4, 4\] codes"),
    ],
)
def test_what_it_cannot_do_is_refused(model, settings, message):
    with pytest.raises(UserError, match=message):
        model.generate("a cat", **settings)


@pytest.mark.parametrize("name", ["steps", "choice_temperature"])
def test_a_model_that_is_not_masked_refuses(nano_model, name):
    message = f"{name} is for a masked model, and this one samples code by code"
    with pytest.raises(UserError, match=message):
        nano_model.generate("a cat", **{name: 2})


def test_the_command_line(folder, nano_folder, tmp_path, capsys):
    def run(of, *words):
        start = ["generate", "a cat", "--out", str(tmp_path / "out"), "--model"]
        status = cli.main([*start, str(of), "--num-images", "1", *words])
        return status, capsys.readouterr().err

    for of, words in (
        (folder, ["--speculate", "4"]),
        (folder, ["--rerank", "4"]),
        (folder, ["--decode", "hidden"]),
        (nano_folder, ["--steps", "4"]),
        (nano_folder, ["--choice-temperature", "1"]),
    ):
        status, error = run(of, *words)
        assert status == 2 and len(error.splitlines()) == 1
        assert words[0][2:].replace("-", "_") in error
        assert "masked model" in error or "cannot score" in error
    assert not (tmp_path / "out").exists()
    assert cli.main(["caption", "x.png", "--model", str(folder)]) == 2
    status, _ = run(folder, "--steps", "4", "--choice-temperature", "2.5")
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    assert status == 0
    assert record["settings"]["steps"] == 4
    assert record["settings"]["choice_temperature"] == 2.5
