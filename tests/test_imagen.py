"""Imagen end to end: text encoder, base, super-resolution, images of a prompt."""

import dataclasses

import numpy as np
import pytest

import cogjax
from cogjax import config as configs
from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.contracts import Codec, Generator
from cogjax.stages import run as launch


def train(spec, workdir, **values):
    """Two steps of a nano config; returns its exported folder."""
    values = {"train.steps": 2, "train.sample_every": 2} | values
    values |= {"train.log_every": 1, "sample.num_images": 1}
    values |= {"optim.schedule": "constant"}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return launch.train(configs.load(f"experiments/imagen/{spec}", words), workdir)


@pytest.fixture(scope="module")
def folders(nano_data, nano_folder, tmp_path_factory):
    """{"text", "base", "super"}: exported folders."""
    root, data = tmp_path_factory.mktemp("imagen"), {"data.path": nano_data}
    text = nano_folder / "text.model"
    found = {"text": train("text.py:nano", root / "t5", **data, **{"data.text": text})}
    data["data.text"] = found["text"]
    found["base"] = train("icons.py:base,nano", root / "base", **data)
    data["data.below"] = found["base"]
    found["super"] = train("icons.py:super,nano", root / "super", **data)
    return found


@pytest.fixture(scope="module")
def cascade(folders):
    return cogjax.load(folders["super"])


def test_a_stage_shows_images_while_it_trains(folders):
    assert list((folders["super"].parent / "samples").glob("*generated.png"))


def test_a_cascade_loads_and_draws_at_its_last_size(cascade):
    assert isinstance(cascade, Generator) and not isinstance(cascade, Codec)
    found = cascade.generate(["a cat", "一只猫"], num_images=2, steps=2)
    assert found.pixels.shape == (2, 2, 16, 16, 3) and found.codes is None
    assert found.pixels.dtype == np.uint8
    # Of one seed, but of other noise: the images of a prompt differ.
    assert np.any(found.pixels[0, 0] != found.pixels[0, 1])


def test_an_image_does_not_depend_on_its_batch(cascade):
    together = cascade.generate("a cat", num_images=3, steps=2, seed=1).pixels
    small = dataclasses.replace(cascade.model)
    alone = CascadePipeline(small, batch_size=1)
    found = alone.generate("a cat", num_images=3, steps=2, seed=1).pixels
    difference = np.abs(found.astype(int) - together)
    assert difference.max() <= 1


def test_what_is_kept_of_an_image_stays(cascade):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    keep = np.zeros((8, 8), bool)
    keep[:4] = True
    found = cascade.generate("a cat", num_images=1, steps=2, image=image, keep=keep)
    [[pixels]] = found.pixels
    assert np.abs(pixels[:8].astype(int) - image[:8]).max() <= 1
    assert np.abs(pixels[8:].astype(int) - image[8:]).max() > 10


def test_settings_change_the_images(cascade):
    base = {"prompts": "a cat", "num_images": 1, "steps": 2}
    plain = cascade.generate(**base).pixels
    for name, value in {"method": "ddpm", "steps": 3, "percentile": 100}.items():
        assert np.any(cascade.generate(**base | {name: value}).pixels != plain), name


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": 0.5}, "temperature is for models of codes"),
        ({"speculate": 4}, "speculate is for models of codes"),
        ({"rerank": 4}, "rerank goes with a CLIP"),
        ({"method": "euler"}, "method is 'euler', not ddpm"),
        ({"percentile": 0}, "percentile is 0, expected a number above 0"),
    ],
)
def test_settings_of_other_models_are_refused(cascade, settings, message):
    with pytest.raises(UserError, match=message):
        cascade.generate("a cat", num_images=1, **settings)


def test_a_judge_from_outside_chooses(cascade):
    def brightness(images, texts):
        assert len(images) == len(texts) == 3
        return images.mean((1, 2, 3))

    found = cascade.generate(
        "a cat", num_images=2, steps=2, rerank=3, rerank_by=brightness
    )
    means = found.pixels[0].mean((1, 2, 3))
    assert means[0] <= means[1]
    np.testing.assert_allclose(found.scores[0], means, rtol=1e-6)


def test_a_model_of_codes_refuses_what_is_for_cascades(nano_model):
    with pytest.raises(UserError, match="percentile is for a cascade of pixels"):
        nano_model.generate("a cat", percentile=99)


def test_stages_in_the_wrong_order_are_refused(cascade):
    layout, parts = cascade.layout, dict(cascade.model.components)
    parts["base"], parts["super_1"] = parts["super_1"], parts["base"]
    wrong = dataclasses.replace(cascade.model, components=parts, layout=layout)
    with pytest.raises(UserError, match="put the stages in order"):
        CascadePipeline(wrong)


def test_another_text_encoder_is_refused(cascade):
    parts = dict(cascade.model.components)
    encoder = parts["text_encoder"]
    wide = dataclasses.replace(encoder.config, width=32)
    parts["text_encoder"] = dataclasses.replace(encoder, config=wide)
    with pytest.raises(UserError, match="hears texts of 16 channels"):
        CascadePipeline(dataclasses.replace(cascade.model, components=parts))


@pytest.mark.parametrize(
    "values, message",
    [
        ({}, "config key 'data.text' is required"),
        ({"data.text": "text", "data.below": ""}, "expected a model whose images"),
        ({"data.text": "text", "data.below": "text"}, "is no cascade"),
        (
            {"data.text": "text", "data.below": "base", "model.small_size": 4},
            "draws 8 pixels: set it to that",
        ),
        ({"data.text": "text", "model.text_dim": 8}, "has 16 channels: set it"),
        (
            {"data.text": "text", "data.below": "base", "task.crop": 8},
            "crop is for super-resolution without attention",
        ),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    folders, nano_data, tmp_path, values, message
):
    values = {key: folders.get(value, value) for key, value in values.items()}
    values = {"data.path": nano_data, "data.text": ""} | values
    with pytest.raises(UserError, match=message):
        train("icons.py:super,nano", tmp_path, **values)


def test_a_stage_resumes_bitwise(folders, nano_data, tmp_path):
    """One step, then another by the same command, as two at once."""
    values = {"data.path": nano_data, "data.text": folders["text"]}
    train("icons.py:base,nano", tmp_path, **values, **{"train.steps": 1})
    found = train("icons.py:base,nano", tmp_path, **values)
    wanted = model_folder.load(folders["base"])["base"].params
    got = model_folder.load(found)["base"].params
    np.testing.assert_array_equal(got["in"]["kernel"], wanted["in"]["kernel"])
