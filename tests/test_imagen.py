"""Imagen end to end: text encoder, base, super-resolution, images of a prompt."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cogjax import config as configs
from cogjax import model_folder
from cogjax.errors import Notice, UserError
from cogjax.families.llamagen.layout import Layout, Vocab
from cogjax.pipelines import cascade_stage
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.contracts import Codec, Generator
from cogjax.pipelines.request import Request
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.stages import run as launch
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sections import RunConfig
from cogjax.stages.sharded import EncodeSettings
from tests.programs import random_like
from tests.t5_release import config_of, tensors_of, unigram, write_release

pytestmark = pytest.mark.usefixtures("one_device")


def configured(spec, **values):
    """Two steps of a nano config."""
    values = {"train.steps": 2, "train.sample_every": 2, "eval.batches": 0} | values
    values |= {"train.log_every": 1, "sample.num_images": 1}
    values |= {"optim.schedule": "constant"}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return configs.load(f"experiments/imagen/{spec}", words)


def train(spec, workdir, **values):
    """Trains a config; returns its exported folder."""
    return launch.train(configured(spec, **values), workdir)


def untrained(spec, folder, **values):
    """Folder of the model that a config trains, with random weights."""
    config = configured(spec, **values)
    stage, run = launch.find_stage(config), RunConfig.of(config)
    shapes = jax.eval_shape(stage.task(run).init, jax.random.key(0))[0]
    return model_folder.save(
        stage.export(run, random_like(shapes, std=0.1), {}), folder
    )


@pytest.fixture(scope="module")
def folders(nano_data, nano_folder, tmp_path_factory):
    """{"text", "base", "super"}: exported folders; the last has been trained.

    Runs of the other two are slow tests: below, and in `tests/stages`.
    """
    root, data = tmp_path_factory.mktemp("imagen"), {"data.path": nano_data}
    found, data["data.text"] = {}, nano_folder / "text.model"
    found["text"] = untrained("text.py:nano", root / "t5", **data)
    data["data.text"] = found["text"]
    found["base"] = untrained("icons.py:base,nano", root / "base", **data)
    data |= {"data.below": found["base"], "sample.sampler.steps": "2,3"}
    data["sample.sampler.percentile"] = 99.5
    data["sample.prompts"] = "('a cat', 'a dog')"
    found["super"] = train("icons.py:super,nano", root / "super", **data)
    return found


@pytest.fixture(scope="module")
def cascade(folders):
    """With other weights: those of two updates hardly read their inputs.

    It makes two images at a time, as most tests do: they share its programs.
    """
    model, rng = model_folder.load(folders["super"]), np.random.default_rng(0)
    for name in model.layout.components:
        part = model[name]
        params = jax.tree.map(
            lambda x: np.float32(x + 0.3 * rng.normal(size=x.shape)), part.params
        )
        model = model.with_component(name, dataclasses.replace(part, params=params))
    return CascadePipeline(model, batch_size=2)


def test_a_stage_shows_images_while_it_trains(folders):
    assert list((folders["super"].parent / "samples").glob("*generated.png"))


def test_a_cascade_loads_and_draws_at_its_last_size(cascade):
    assert isinstance(cascade, Generator) and not isinstance(cascade, Codec)
    found = cascade.generate(["a cat", "一只猫"], num_images=2, steps=2)
    assert found.pixels.shape == (2, 2, 16, 16, 3) and found.codes is None
    assert found.pixels.dtype == np.uint8
    # The seed is one, but the noise another: the images of a prompt differ.
    assert np.any(found.pixels[0, 0] != found.pixels[0, 1])


def test_an_image_does_not_depend_on_its_batch(cascade):
    """In one call of three, and of two: the third is alone, and the call filled up."""
    together, apart = (
        CascadePipeline(cascade.model, batch_size=size)
        .generate("a cat", num_images=3, steps=2, seed=1)
        .pixels
        for size in (3, 2)
    )
    assert np.abs(apart.astype(int) - together).max() <= 1


def test_what_is_kept_of_an_image_stays(cascade):
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    keep = np.zeros((8, 8), bool)
    keep[:4] = True
    found = cascade.generate("a cat", num_images=2, steps=2, image=image, keep=keep)
    for pixels in found.pixels[0]:
        assert np.abs(pixels[:8].astype(int) - image[:8]).max() <= 1
        assert np.abs(pixels[8:].astype(int) - image[8:]).max() > 10


def test_estimates_are_shown_on_their_way(cascade):
    seen = []
    settings = {"num_images": 2, "steps": (9, 6), "seed": 1}
    found = cascade.generate("a cat", preview=lambda *x: seen.append(x), **settings)
    # 8 steps before the last estimate, then 5: every four, and the rest.
    sizes = [pixels.shape for _, pixels in seen]
    assert sizes == [(2, 8, 8, 3)] * 2 + [(2, 16, 16, 3)] * 2
    assert all(pairs == [(0, 0), (0, 1)] for pairs, _ in seen)
    assert all(pixels.dtype == np.uint8 for _, pixels in seen)
    unseen = cascade.generate("a cat", **settings).pixels
    assert np.abs(found.pixels.astype(int) - unseen).max() <= 1
    # They come nearer to what is drawn.
    last = [np.abs(pixels - unseen[0].astype(float)).mean() for _, pixels in seen[2:]]
    assert 0 < last[1] < last[0]


def test_an_image_is_started_from(cascade):
    """The more noise, the less of the image: with all of it nearly nothing."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    settings = {"prompts": "a cat", "num_images": 2, "steps": 3, "seed": 1}
    free = cascade.generate(**settings).pixels.astype(int)

    def distances(strength):
        found = cascade.generate(**settings, image=image, strength=strength).pixels
        return [np.abs(found.astype(int) - x).mean() for x in (image, free)]

    near, middle, far = (distances(strength) for strength in (0.05, 0.5, 1))
    assert near[0] < middle[0] < far[0]
    assert far[1] < 1 < middle[1] and 1 < near[1]


def test_settings_change_the_images(cascade):
    base = {"prompts": "a cat", "num_images": 2, "steps": 2}
    plain = cascade.generate(**base).pixels
    changed = {"prompts": "a dog", "steps": 3, "percentile": 60, "augmentation": 0.9}
    changed |= {"guidance": 5, "seed": 1}
    for name, value in changed.items():
        assert np.any(cascade.generate(**base | {name: value}).pixels != plain), name
    noise = [
        cascade.generate(**base, method="ddpm", gamma=gamma).pixels for gamma in (0, 1)
    ]
    assert np.any(noise[0] != plain) and np.any(noise[0] != noise[1])


def test_a_stage_has_its_own_settings(cascade, monkeypatch):
    asked = []

    def draw(stage, params, keys, inputs):
        asked.append((stage, inputs.numbers))
        return np.zeros((len(keys), *stage.shape))

    monkeypatch.setattr(cascade_stage, "draw", draw)
    own = {"steps": (4, 7), "guidance": (5, 1), "percentile": [0, 90]}
    cascade.generate("a cat", num_images=1, **own)
    [(base, at_base), (above, at_above)] = asked
    assert (base.steps, base.guided, base.dynamic) == (4, True, False)
    assert (above.steps, above.guided, above.dynamic) == (7, False, True)
    assert (at_base.guidance.item(), at_above.guidance.item()) == (5, 1)
    assert at_above.percentile.item() == 90
    cascade.generate("a cat", num_images=1, steps=6, method="ddim")
    assert [(stage.steps, stage.method) for stage, _ in asked[2:]] == [(6, "ddim")] * 2


def test_what_is_not_given_is_the_folders_own(cascade, folders):
    assert model_folder.load(folders["super"]).sampler == CascadeSampler(
        (2, 3), 3, 99.5
    )
    found = cascade.settings(Request.of("a cat", guidance=(5, 2)))
    assert found["steps"] == [2, 3] and found["percentile"] == [99.5, 99.5]
    assert found["guidance"] == [5, 2] and found["method"] == "dpmpp2m"
    # Its method takes a gamma, which is not that of another method.
    own = dataclasses.replace(cascade.model, sampler=CascadeSampler(2, 3, 99.5, "ddpm"))
    stochastic = CascadePipeline(own)
    assert stochastic.generate("a cat", 2, gamma=1.0).pixels.any()
    with pytest.raises(UserError, match="gamma is of method ddpm"):
        stochastic.generate("a cat", 1, gamma=1.0, method="ddim")
    # A folder that says nothing of a cascade's has what is usual.
    plain = model_folder.load(folders["text"]).sampler
    silent = CascadePipeline(dataclasses.replace(cascade.model, sampler=plain))
    assert silent.settings(Request.of("a cat"))["steps"] == [32, 32]


def test_another_number_of_values_than_of_stages_is_refused(cascade):
    message = "guidance has 3 values and the cascade has 2 stages: give one value"
    with pytest.raises(UserError, match=message):
        cascade.generate("a cat", guidance=(5, 2, 1))
    wrong = dataclasses.replace(cascade.model, sampler=CascadeSampler(guidance=(5,)))
    with pytest.raises(UserError, match="guidance has 1 values"):
        CascadePipeline(wrong)
    for settings in ({"percentile": 0.99}, {"steps": (4, 0)}, {"gamma": 2}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
            CascadeSampler(**settings)


def test_the_end_of_a_prompt_that_is_not_read_is_said(cascade):
    text = "a red apple beside a tiger"
    message = "prompt 2 has .* pieces and the model reads 16; left off: .*tiger"
    with pytest.warns(Notice, match=message):
        found = cascade.generate(["a cat", text], num_images=1, steps=2)
    assert found.unread[0] == "" and found.unread[1].endswith("a tiger")
    # What is read is the same with any end.
    with pytest.warns(Notice):
        other = cascade.generate(["a cat", f"{text}s"], num_images=1, steps=2)
    np.testing.assert_array_equal(found.pixels, other.pixels)


def test_captions_are_cleaned_as_those_of_the_text_encoder(
    folders, cascade, nano_data, tmp_path, monkeypatch
):
    """In vectors, in training and of prompts: by the layout of the encoder's model."""
    plain = model_folder.load(folders["text"])
    layout = Layout(Vocab(8, plain.text.size, captions=True), 16, 4)
    own = {"family": "llamagen", "layout": layout, "card": {"licence": "MIT"}}
    source = model_folder.save(dataclasses.replace(plain, **own), tmp_path / "own")
    vectors = tmp_path / "vectors"
    encode_texts(nano_data, source, vectors, EncodeSettings())
    values = {"data.path": nano_data, "data.text": source, "data.vectors": vectors}
    config = configured("icons.py:base,nano", **values)
    run, stage = RunConfig.of(config), launch.find_stage(config)
    stage.job(run, tmp_path)  # The vectors are of the same encoder.
    with pytest.raises(UserError, match="was made by another text encoder"):
        other = dataclasses.replace(run.data, text=folders["text"])
        stage.job(dataclasses.replace(run, data=other), tmp_path)

    made = stage.export(run, cascade.model["base"].params, None)
    assert made.layout.cleaned > cascade.layout.cleaned
    assert made.card == {"text_encoder": {"licence": "MIT"}}
    asked = []

    def draw(stage, params, keys, inputs):
        asked.append(inputs.text.tokens)
        return np.zeros((len(keys), *stage.shape))

    monkeypatch.setattr(cascade_stage, "draw", draw)
    texts = "a cat", "A <b>Cat</b> #1" + 20 * "<i>"
    found = CascadePipeline(made).generate(texts, num_images=1)
    assert found.unread == ("", "")  # There is room for 16 pieces.
    np.testing.assert_array_equal(*np.concatenate(asked)[:2])
    above = {"data.below": model_folder.save(made, tmp_path / "base")}
    above |= {"data.text": folders["text"]}
    config = configured("icons.py:super,nano", **values | above)
    with pytest.raises(UserError, match="was trained with another text encoder"):
        launch.find_stage(config).job(RunConfig.of(config), tmp_path)


def test_guidance_leads_away_from_no_text(cascade):
    """At 0 the prompt is not read at all, at 1 it is."""
    draw = functools.partial(cascade.generate, num_images=2, steps=2)
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
        CascadePipeline(model).generate("a cat", 2, steps=2).pixels
        for model in (cascade.model, other)
    ]
    assert np.any(both[0] != both[1])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"temperature": 0.5}, "temperature is for models of codes"),
        ({"temperature": 0}, "temperature is for models of codes"),
        ({"top_k": 0}, "top_k is for models of codes"),
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
    for name in ("guidance", "steps"):
        with pytest.raises(UserError, match=f"{name} has a value a stage, for a casc"):
            nano_model.generate("a cat", **{name: (3, 2)})
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
            {
                "data.text": "text",
                "data.below": "base",
                "sample.sampler.steps": "2,3,4",
            },
            "steps has 3 values and the cascade has 2 stages",
        ),
        ({"sample.sampler.top_k": 3}, "unknown config key 'sample.sampler.top_k'"),
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


def test_a_released_t5_may_be_the_text_encoder(nano_data, tmp_path):
    text = unigram()
    config = config_of(text)
    release = write_release(tmp_path / "t5", config, tensors_of(config), text)
    values = {"data.path": nano_data, "data.text": release, "model.text_dim": 12}
    found = configured("icons.py:base,nano", **values)
    stage, run = launch.find_stage(found), RunConfig.of(found)
    job = stage.job(run, tmp_path / "run")
    batch = next(job.batches(0))
    assert batch["tokens"].shape == (8, 256, 12) and batch["mask"].any(1).all()
    params = jax.eval_shape(job.task.init, jax.random.key(0))[0]
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    model = stage.export(run, zeros, {})
    folder = model_folder.save(model, tmp_path / "model")
    again = CascadePipeline(model_folder.load(folder))
    assert again.generate("a cat", num_images=1, steps=1).pixels.shape == (
        1,
        1,
        8,
        8,
        3,
    )
    assert stage.sources_digest(run) == job.fingerprint.split("/")[-1]


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
