"""From a folder of images to a tuned model, by one call; nano models."""

import dataclasses
import json
import os

import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.data import records
from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.families.cogview.stage import LM
from cogjax.model import Component
from cogjax.stages import finetune
from cogjax.stages.finetune import FineTuning
from tests.models.test_unet import TINY

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """40 images with a text file each."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(5)
    for i in range(40):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        (folder / f"{i}.png").write_bytes(encode_png(pixels))
        (folder / f"{i}.txt").write_text(f"a blue cat {i}")
    return folder


@pytest.fixture(scope="module")
def tuned(images, nano_data, nano_folder, tmp_path_factory):
    """What was asked for, and the folder of the tuned model."""
    out = tmp_path_factory.mktemp("tuned") / "mine"
    asked = FineTuning(
        str(images), str(out), str(nano_folder), rank=2, base_data=str(nano_data)
    )
    made = finetune.finetune(dataclasses.replace(asked, steps=4))
    assert made.runs == (asked.folder,)
    return asked, made.model


def test_a_folder_of_images_becomes_a_model(tuned, nano_model):
    asked, folder = tuned
    model = cogjax.load(folder)
    assert model.model.sampler == nano_model.model.sampler
    assert model.card["name"] == "mine" and model.card["base"]["name"] == "nano"
    assert model.card["what"].endswith(", fine-tuned")
    kernels = [
        each["transformer"].params["blocks"]["layers"]["qkv"]["kernel"]
        for each in (model.model, nano_model.model)
    ]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4
    assert list((asked.folder / "samples").iterdir())
    used = cogjax.load(asked.base, adapters={asked.folder / "adapter": 1.0}).model
    layers = used["transformer"].params["blocks"]["layers"]
    np.testing.assert_allclose(kernels[0], layers["qkv"]["kernel"], atol=1e-6)


def test_what_the_run_knows_of_the_base_is_in_the_card(
    tuned, nano_model, tmp_path, monkeypatch
):
    """Its licences, which a model that is tuned on has to keep to."""
    card = {"what": "draws", "licenses": ["MIT"], "trained": "on"}
    made = model_folder.save(
        dataclasses.replace(nano_model.model, card=card), tmp_path / "export"
    )
    monkeypatch.setattr(finetune.launch, "train", lambda *args: made)
    asked = dataclasses.replace(tuned[0], out=str(tmp_path / "out"))
    asked = dataclasses.replace(asked, workdir=str(tuned[0].folder))
    found = model_folder.load_outline(finetune.finetune(asked).model).card
    assert found["licenses"] == ["MIT"] and found["trained"] == "on"
    assert found["what"] == f"{asked.base}, fine-tuned" and found["name"] == "out"


def test_a_quarter_is_of_the_base_s_own_images(tuned):
    """Those held out are the user's alone."""
    asked, _ = tuned
    splits = [
        [example.id for example in records.open_split(asked.folder / "mixed", split)]
        for split in ("train", "val")
    ]
    mixed = [name for name in splits[0] if name.startswith("base: ")]
    own = len(splits[0]) - len(mixed)
    assert own + len(splits[1]) == 40
    assert len(mixed) == min(round(own / 3), 10)
    assert splits[1] and not [name for name in splits[1] if name.startswith("base")]


def test_the_prompts_are_captions_that_are_held_out(tuned):
    asked, _ = tuned
    config = json.loads((asked.folder / "config.json").read_text())
    held_out = records.open_split(asked.folder / "mixed", "val")
    captions = [held_out[i].captions[0][1] for i in range(len(held_out))]
    assert config["sample"]["prompts"] == captions[:8]
    assert config["lora"] == {"rank": 2, "alpha": 4.0}


def test_a_check_says_what_would_be_done_and_leaves_nothing(
    images, nano_folder, tmp_path
):
    asked = FineTuning(str(images), str(tmp_path / "out"), str(nano_folder), rank=2)
    found = finetune.check(asked)
    assert not list(tmp_path.iterdir())
    assert found["task"] == "lm" and found["steps at most"] == 200
    assert found["images of train"] + found["images of val"] == 40
    assert 0 < found["parameters"] < found["parameters of the base, not learnt"]


def test_the_recipe_follows_the_number_of_images():
    """40 times each in batches of 16, within 200 and 4,000 steps."""
    steps = [finetune.recipe(n, 0, 4)["train"]["steps"] for n in (10, 300, 10_000)]
    assert steps == [200, 750, 4000]
    assert finetune.recipe(300, 0, 4, steps=7)["train"]["steps"] == 7
    assert finetune.recipe(300, 8, 4)["optim"]["lr"] > 2e-4
    alone = finetune.recipe(300, 0, 0)
    assert alone["train"]["patience"] == 0 == alone["eval"]["batches"]


def test_what_does_not_fit_is_said_before_any_work(
    images, tuned, nano_folder, nano_model, tmp_path
):
    asked = FineTuning(str(images), str(tmp_path / "out"), str(nano_folder))

    def refused(message, **changes):
        with pytest.raises(UserError, match=message):
            finetune.check(dataclasses.replace(asked, **changes))

    refused("there is no missing", source="missing")
    refused("holds a model folder", out=str(nano_folder))
    refused("the source: choose another folder", workdir=str(images / "run"))
    refused("is not tuned in one command", base="clip-shapes")
    refused("is not a data set", base_data=str(tmp_path))
    more = nano_model.model.with_component("unet", Component(TINY, {}))
    refused("images are others than the run in", workdir=str(tuned[0].folder))
    with pytest.raises(UserError, match="has a unet, which tuning would lose"):
        LM.tunes(more, "this")
    refused("is no cascade: leave --stage out", stage="transformer")


def test_other_images_do_not_go_into_a_run(tuned, images):
    asked, _ = tuned
    path = images / "0.txt"
    before = path.stat()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    with pytest.raises(UserError, match="are others than the run in .* began with"):
        finetune.check(dataclasses.replace(asked, overwrite=True))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = finetune.check(dataclasses.replace(asked, overwrite=True))
    assert found["base"] == asked.base
    assert model_folder.is_model(model_folder.Path(asked.out))
