"""Runs of CLIP: the experiments' configs, a run to its export, and refusals."""

import json
from collections import Counter

import jax
import numpy as np
import pytest

import cogjax
from cogjax import config
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError
from cogjax.model_folder import save
from cogjax.models.clip import ClipConfig, param_shapes
from cogjax.stages import run as launch
from cogjax.stages.run import find_stage
from cogjax.stages.sections import RunConfig

pytestmark = pytest.mark.usefixtures("one_device")

ICONS = "experiments/clip/icons.py"


def nano(data, folder, **overrides):
    values = {"data.path": data, "data.text": folder / "text.model"}
    values |= {key.replace("__", "."): value for key, value in overrides.items()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load(f"{ICONS}:nano", words)


@pytest.mark.parametrize(("world", "pieces"), [("icons", 4000), ("shapes", 640)])
def test_shipped_sizes_fit_into_four_megabytes(world, pieces):
    fields = config.load(f"experiments/clip/{world}.py")["model"]
    network = ClipConfig(**fields, vocab_size=pieces + 2)
    count = sum(leaf.size for leaf in jax.tree.leaves(param_shapes(network)))
    assert 1.5e6 < count < 4e6 / 2


def test_an_export_loads(nano_data, nano_folder, tmp_path):
    run = nano(nano_data, nano_folder)
    stage, sections = find_stage(run), RunConfig.of(run)
    network = stage.task(sections).config
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), param_shapes(network))
    save(stage.export(sections, params, {}), tmp_path / "out")
    clip = cogjax.load(tmp_path / "out")
    assert clip.config == network and network.vocab_size == 287
    assert clip.model.text == TextTokenizer.load(nano_folder / "text.model")


@pytest.mark.slow
def test_a_run_trains_and_exports(nano_data, nano_folder, tmp_path):
    run = nano(nano_data, nano_folder)
    launch.train(run, tmp_path / "run")
    clip = cogjax.load(tmp_path / "run" / "export")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    assert losses[-1] < losses[0]
    scores = clip.score(np.zeros((2, 20, 20, 3), np.uint8), ["a red apple", "猫"])
    assert scores.shape == (2,) and (np.abs(scores - 1) < 1).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data__text": ""}, "'data.text' is required for task clip"),
        ({"data__tokenizer": "emoji"}, "'clip' does not read data.tokenizer"),
        ({"train__accumulate": 2}, "train.accumulate is 2: captions compete"),
        ({"model__vocab_size": 9}, "model.vocab_size is 9, data.text needs 287"),
        ({"model__width": 65}, "section 'model': width is 65, expected a multiple"),
        ({"model__patch": 7}, "image_size is 16, expected a multiple of patch, 7"),
        ({"model__text_len": 2}, "text_len is 2, expected 3 or more"),
        ({"task__margin": 1}, "unknown config key 'task.margin'"),
        ({"task__crop": 0.0}, "crop is 0.0, expected 0.1 to 1"),
        ({"task__labels": 1.5}, "labels is 1.5, expected 0 to 1"),
        (
            {"task__labels": 0.0},
            "recolor is a share of labels, which is 0: give labels",
        ),
        ({"model__stem": (8, 12, 8)}, "stem is .8, 12, 8., expected multiples of 8"),
        ({"model__stem": (8, 8)}, "2 convolutions, .* patches of 4: .* got 8"),
    ],
)
def test_what_does_not_fit_is_refused(
    overrides, message, nano_data, nano_folder, tmp_path
):
    run = nano(nano_data, nano_folder, **overrides)
    with pytest.raises(UserError, match=message):
        launch.train(run, tmp_path / "run")


def test_captions_that_are_cut_are_counted(nano_data, nano_folder, tmp_path, capsys):
    run = nano(nano_data, nano_folder, model__text_len=5)
    find_stage(run).job(RunConfig.of(run), tmp_path)
    said = capsys.readouterr().out
    text, source = (
        TextTokenizer.load(nano_folder / "text.model"),
        open_split(nano_data, "train"),
    )
    captions = [c for i in range(len(source)) for _, c in source[i].captions]
    lengths = [len(text.encode(caption)) for caption in captions]
    long = sum(length > 3 for length in lengths)
    assert 0 < long and (
        f"{long} of {len(lengths)} captions of split 'train' are cut to 3 pieces: all "
        f"of the longest needs model.text_len {max(lengths) + 2}" in said
    )
    longest = nano(nano_data, nano_folder, model__text_len=max(lengths) + 2)
    find_stage(longest).job(RunConfig.of(longest), tmp_path)
    assert "split 'train'" not in capsys.readouterr().out


def test_a_wordpiece_is_read(nano_data, tmp_path):
    words = WordPieceTokenizer.train(["a cat", "a cat"], 6)
    words.save(tmp_path / "text.model")
    run = nano(nano_data, tmp_path)
    assert find_stage(run).task(RunConfig.of(run)).config.vocab_size == 8
    assert find_stage(run).export(RunConfig.of(run), {}, {}).text == words


def test_images_without_captions_are_refused(nano_data, nano_folder, tmp_path):
    with DatasetBuilder(tmp_path / "set", "folder", 16, {"train": 1, "val": 1}) as to:
        to.write("train", Example("1", b"", ()))
        to.finish({})
    run = nano(tmp_path / "set", nano_folder)
    with pytest.raises(UserError, match="split 'train' of .* has no captions"):
        launch.train(run, tmp_path / "run")


def test_training_sees_squares_of_an_image_and_evaluation_all_of_it(
    nano_folder, tmp_path
):
    """Ramps along both axes: red tells the columns that are seen, green the rows."""
    ramp = np.linspace(0, 255, 128).round().astype(np.uint8)
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    image = encode_png(np.stack([columns, rows, 0 * rows], axis=-1))
    with DatasetBuilder(tmp_path / "set", "folder", 128, {"train": 1, "val": 1}) as to:
        for split in ("train", "val"):
            for i in range(64):
                to.write(split, Example(f"{i}", image, (("en", "a cat"),)))
        to.finish({})
    settings = {"task__crop": 0.5, "train__batch_size": 64, "model__image_size": 32}
    settings["task__recolor"] = 0.0
    run = nano(tmp_path / "set", nano_folder, **settings)
    job = find_stage(run).job(RunConfig.of(run), tmp_path)
    seen = next(job.batches(0))["image"].astype(int)
    for channel, axis in ((0, 2), (1, 1)):
        found = seen[..., channel]
        share = (found.max((1, 2)) - found.min((1, 2))) / 255
        assert 0.4 < share.min() < 0.6 < 0.9 < share.max() <= 1
        first = found.min((1, 2)) / 255
        assert first.min() < 0.05 and first.max() > 0.3
        assert (np.diff(found, axis=axis) >= 0).all()
    [batch] = job.eval_batches
    whole = np.asarray(batch["image"]).astype(int)
    assert (whole.max((1, 2))[:, :2] - whole.min((1, 2))[:, :2] > 240).all()


def test_labels_are_the_first_captions_of_their_languages(nano_folder, tmp_path):
    captions = (("en", "cat"), ("en", "a red cat, 3D"), ("zh", "猫"), ("zh", "红猫"))
    with DatasetBuilder(tmp_path / "set", "folder", 16, {"train": 1, "val": 1}) as to:
        image = encode_png(np.zeros((16, 16, 3), np.uint8))
        for split in ("train", "val"):
            for i in range(64):
                to.write(split, Example(f"{i}", image, captions))
        to.finish({})
    seen = {}
    for labels in (0.0, 0.5, 1.0):
        settings = {"task__labels": labels, "task__recolor": 0.0}
        settings["train__batch_size"] = 64
        run = nano(tmp_path / "set", nano_folder, **settings)
        job = find_stage(run).job(RunConfig.of(run), tmp_path)
        ids = np.asarray(next(job.batches(0))["ids"])
        seen[labels] = Counter(map(bytes, ids))
        [batch] = job.eval_batches
        assert len({bytes(row) for row in np.asarray(batch["ids"])}) > 2
    names = set(seen[1.0])
    assert len(seen[0.0]) == 4 and len(names) == 2 and min(seen[1.0].values()) > 15
    shares = [sum(seen[x][name] for name in names) / 64 for x in (0.0, 0.5)]
    assert shares[0] < 0.62 < 0.65 < shares[1] < 0.9


def test_colours_are_mixed_where_a_bare_label_is_read(nano_folder, tmp_path):
    """Left half red, right half white; captions without a colour or with it."""
    pixels = np.full((16, 16, 3), 255, np.uint8)
    pixels[:, :8, 1:] = 0
    captions = ("en", "cat"), ("en", "a red cat")
    with DatasetBuilder(tmp_path / "set", "folder", 16, {"train": 1, "val": 1}) as to:
        for split in ("train", "val"):
            for i in range(64):
                to.write(split, Example(f"{i}", encode_png(pixels), captions))
        to.finish({})
    settings = {"task__labels": 0.5, "task__recolor": 0.5, "task__crop": 1}
    run = nano(tmp_path / "set", nano_folder, **settings, train__batch_size=64)
    job = find_stage(run).job(RunConfig.of(run), tmp_path)
    batch = {name: np.asarray(rows) for name, rows in next(job.batches(0)).items()}
    left, right = batch["image"][:, :, :8], batch["image"][:, :, 8:]
    assert (right == 255).all() and (left == left[:, :1, :1]).all()
    mixed = (left[:, 0, 0] != (255, 0, 0)).any(-1)
    # A quarter of 64 is expected.
    assert 8 <= mixed.sum() <= 26
    assert len(np.unique(left[mixed][:, 0, 0], axis=0)) == mixed.sum()
    assert len(np.unique(batch["ids"][mixed], axis=0)) == 1
    assert len(np.unique(batch["ids"][~mixed], axis=0)) == 2
    [batch] = job.eval_batches
    assert (np.asarray(batch["image"])[:, :, :8] == (255, 0, 0)).all()


def test_unknown_argument():
    with pytest.raises(UserError, match="'nani', expected nano or none"):
        config.load(f"{ICONS}:nani")
