"""Imagen end to end: text encoder, base, super-resolution, images of a prompt."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cogjax import config as configs
from cogjax import model_folder
from cogjax.errors import UserError
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.contracts import Codec, Generator
from cogjax.stages import run as launch


def train(spec, workdir, **values):
    """Two steps of a nano config; returns its exported folder."""
    values = {"train.steps": 2, "train.sample_every": 2, "eval.batches": 0} | values
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
    # The cascade above shows images of both.
    quiet = {"train.sample_every": 0}
    found["base"] = train("icons.py:base,nano", root / "base", **data, **quiet)
    data["data.below"] = found["base"]
    found["super"] = train("icons.py:super,nano", root / "super", **data)
    return found


@pytest.fixture(scope="module")
def cascade(folders):
    """With other weights: those of two updates hardly read their inputs."""
    model, rng = model_folder.load(folders["super"]), np.random.default_rng(0)
    for name in model.layout.components:
        part = model[name]
        params = jax.tree.map(
            lambda x: np.float32(x + 0.3 * rng.normal(size=x.shape)), part.params
        )
        model = model.with_component(name, dataclasses.replace(part, params=params))
    return CascadePipeline(model)


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
    """Alone, and beside two and seven others."""
    together = cascade.generate("a cat", num_images=8, steps=2, seed=1).pixels
    for size in (1, 3):
        pipeline = CascadePipeline(dataclasses.replace(cascade.model), batch_size=size)
        found = pipeline.generate("a cat", num_images=3, steps=2, seed=1).pixels
        assert np.abs(found.astype(int) - together[:, :3]).max() <= 1


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
    changed = {"prompts": "a dog", "steps": 3, "percentile": 60, "augmentation": 0.9}
    changed |= {"guidance": 5, "seed": 1}
    for name, value in changed.items():
        assert np.any(cascade.generate(**base | {name: value}).pixels != plain), name
    noise = [
        cascade.generate(**base, method="ddpm", gamma=gamma).pixels for gamma in (0, 1)
    ]
    assert np.any(noise[0] != plain) and np.any(noise[0] != noise[1])


def test_guidance_leads_away_from_no_text(cascade):
    """At 0 the prompt is not read at all, at 1 it is."""
    draw = functools.partial(cascade.generate, num_images=1, steps=2)
    none = [draw(text, guidance=0).pixels for text in ("a cat", "a dog")]
    np.testing.assert_array_equal(*none)
    one = [draw(text, guidance=1).pixels for text in ("a cat", "a dog")]
    assert np.any(one[0] != one[1]) and np.any(one[0] != none[0])


def test_the_last_stage_reads_the_image_of_the_one_below(cascade):
    base = cascade.model["base"]
    other = jax.tree.map(lambda x: x * np.float32(1.5), base.params)
    other = cascade.model.with_component(
        "base", dataclasses.replace(base, params=other)
    )
    both = [
        CascadePipeline(model).generate("a cat", 1, steps=2).pixels
        for model in (cascade.model, other)
    ]
    assert np.any(both[0] != both[1])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": 0.5}, "temperature is for models of codes"),
        ({"speculate": 4}, "speculate is for models of codes"),
        ({"rerank": 4}, "rerank goes with a CLIP"),
        ({"method": "euler"}, "method is 'euler', not ddpm"),
        ({"percentile": 0.995}, "percentile is 0.995, of 100: the paper has 99.5"),
        ({"gamma": 0.3}, "gamma is of method ddpm"),
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
    with pytest.raises(UserError, match="expects text vectors of 16"):
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


@pytest.mark.slow
def test_a_stage_resumes_bitwise(folders, nano_data, tmp_path):
    """Two updates, then two more by the same command, as four at once."""
    values = {"data.path": nano_data, "data.text": folders["text"], "optim.warmup": 1}
    values |= {"optim.lr": 0.01, "train.sample_every": 0}
    parts = tmp_path / "parts"
    train("icons.py:base,nano", parts, **values, **{"train.steps": 2})
    found = train("icons.py:base,nano", parts, **values, **{"train.steps": 4})
    whole = train(
        "icons.py:base,nano", tmp_path / "whole", **values, **{"train.steps": 4}
    )
    got, wanted = (model_folder.load(x)["base"].params for x in (found, whole))
    jax.tree.map(np.testing.assert_array_equal, got, wanted)
    started = model_folder.load(folders["base"])["base"].params
    assert np.abs(got["mid.attention"]["out"]["kernel"]).max() > 0
    assert not np.array_equal(got["out"]["kernel"], started["out"]["kernel"])


@pytest.mark.slow
def test_a_split_may_be_trained_and_evaluated_on(folders, nano_data, tmp_path):
    values = {"data.path": nano_data, "data.text": folders["text"]}
    values |= {"data.eval_split": "train", "train.steps": 1, "train.sample_every": 0}
    assert train("icons.py:base,nano", tmp_path, **values).is_dir()


def test_another_text_encoder_of_the_same_sizes_is_refused(
    folders, nano_data, tmp_path
):
    model = model_folder.load(folders["text"])
    encoder = model["text_encoder"]
    params = {
        **encoder.params,
        "token_embedding": encoder.params["token_embedding"] + 1,
    }
    other = dataclasses.replace(encoder, params=params)
    model_folder.save(model.with_component("text_encoder", other), tmp_path / "other")
    values = {"data.path": nano_data, "data.text": tmp_path / "other"}
    with pytest.raises(UserError, match="was trained with another text encoder"):
        train(
            "icons.py:super,nano",
            tmp_path / "run",
            **values,
            **{"data.below": folders["base"]},
        )
