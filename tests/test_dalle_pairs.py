"""A DALL-E of pairs as a user trains it: codes, pairs, its nano config, its folder."""

import json

import numpy as np
import pytest

import cogjax
from cogjax import cli, config
from cogjax.data.codes import CodedExample
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.errors import UserError
from cogjax.families.dalle.stage import LM
from cogjax.model_folder import load as load_folder
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig

pytestmark = pytest.mark.usefixtures("one_device")

RNG = np.random.default_rng(0)
STYLES = ("fluent-mono", "fluent-3d", "icon-outline")


@pytest.fixture(scope="module")
def pairs(nano_folder, tmp_path_factory):
    """Folders (single codes, pairs) of eight concepts in three styles, encoded."""
    root = tmp_path_factory.mktemp("pairs")
    with DatasetBuilder(root / "data", "icons", 16, {"train": 1, "val": 1}) as builder:
        for i in range(24):
            concept, style = f"c{i // 3}", STYLES[i % 3]
            color = "blue" if style == "icon-outline" else ""
            meta = {"concept": concept, "style": style, "color": color}
            image = encode_png(RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8))
            split = "val" if i >= 21 else "train"
            builder.write(split, Example(f"i{i}", image, (("en", "a cat"),), meta))
        builder.finish({})
    words = ["encode", "--data", str(root / "data"), "--out", str(root / "codes")]
    assert cli.main([*words, "--tokenizer", str(nano_folder)]) == 0
    words = ["data", "pairs", str(root / "codes"), "--out", str(root / "pairs")]
    assert cli.main(words) == 0
    return root / "codes", root / "pairs"


def load(data, nano_folder, **values):
    values = {"train.steps": 2, "train.sample_every": 2, "eval.batches": 0} | values
    values |= {"data.path": data, "data.tokenizer": nano_folder}
    values |= {"data.text": nano_folder, "sample.num_images": 1}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load("experiments/dalle/icons_pairs.py:nano", words)


PROMPTS = {"sample.prompts": "('line drawing', 'blue outline icon')"}


@pytest.fixture(scope="module")
def trained(pairs, nano_folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "lm"
    launch.train(load(pairs[1], nano_folder, **PROMPTS), workdir)
    return workdir


def test_it_is_trained_on_pairs_and_shows_images(trained, pairs):
    rows = (trained / "metrics.jsonl").read_text().splitlines()
    [row] = [json.loads(x) for x in rows if '"loss"' in x]
    assert row["image_loss"] == pytest.approx(np.log(32), rel=0.1)
    assert list((trained / "samples").glob("*generated.png"))
    resolved = json.loads((trained / "config.json").read_text())
    job = launch.find_stage(resolved).job(RunConfig.of(resolved), trained)
    batch = next(job.batches(0))
    found = open_split(pairs[1], "train", CodedExample)
    codes = [found[i].codes.tolist() for i in range(len(found))]
    assert all(row[-32:].tolist() in codes for row in batch["ids"])
    assert not batch["weights"][:, -32:-16].any()


def test_its_folder_makes_images_anew(trained):
    model = cogjax.load(trained / "export")
    # Those of the data set, first those without a colour.
    assert model.styles[:3] == ("3D render", "line drawing", "outline icon")
    image = np.full((16, 16, 3), 255, np.uint8)
    found = model.generate(image=image, style="线稿", num_images=1)
    assert found.codes.shape == (1, 1, 4, 4)


def test_training_goes_on_from_a_model_of_pairs(trained, pairs, nano_folder):
    weights = {"data.weights": trained / "export"}
    run = RunConfig.of(load(pairs[1], nano_folder, **PROMPTS | weights))
    found = LM.start(LM.setup(run), None, run)
    params = load_folder(trained / "export")["transformer"].params
    assert found["row_embedding"].shape == (8, 32)
    np.testing.assert_array_equal(found["row_embedding"], params["row_embedding"])


@pytest.mark.parametrize(
    ("which", "changes", "words"),
    [
        (0, {}, "holds single images, and the model learns pairs of images"),
        (1, {"model.images": 1}, "holds pairs of images, and the model learns single"),
        (1, {"sample.prompts": "('oil',)"}, "there is no style 'oil': known are 3D"),
        (1, {"model.images": 3}, "model.images"),
    ],
)
def test_what_does_not_fit_is_said_before_training(
    pairs, nano_folder, tmp_path, which, changes, words
):
    with pytest.raises(UserError, match=words):
        launch.train(
            load(pairs[which], nano_folder, **PROMPTS | changes), tmp_path / "r"
        )
