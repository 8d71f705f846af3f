"""Data sets of tensorflow-datasets, which write here what they read: no TensorFlow."""

import functools
import io
import sys

import numpy as np
import pytest
from PIL import Image

from cogjax import cli
from cogjax.data import records
from cogjax.data.batches import batches
from cogjax.data.images import decode_image
from cogjax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")

from cogjax.data.output import Output  # noqa: E402
from cogjax.data.tfds_import import import_tfds  # noqa: E402

CLASSES = ["fire_truck", "cat"]


def encoded(i, size=(12, 9)):
    """A JPEG file, so that decoding it twice would not go unnoticed."""
    rng = np.random.default_rng(i)
    buffer = io.BytesIO()
    pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def prepare(folder, name, features, splits):
    """Writes {split: rows} of features; images are encoded files."""

    def info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    parts = {
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda self, _: {
            split: enumerate(rows) for split, rows in splits.items()
        },
        "_generate_examples": None,
        "name": name,
    }
    base = tfds.core.GeneratorBasedBuilder
    # Not registered: it is read without its code.
    kind = type(name, (base,), parts, skip_registration=True)
    builder = kind(data_dir=folder, file_format="array_record")
    builder.download_and_prepare()
    return str(folder)


def texts_of(index):
    return [f"a square {index}", f"方块 {index}"]


FEATURES = {
    "image": tfds.features.Image(),
    "captions": tfds.features.Sequence(
        {"id": tfds.features.Scalar(np.int64), "text": tfds.features.Text()}
    ),
    "file": tfds.features.Text(),
    "label": tfds.features.ClassLabel(names=CLASSES),
}


def row(i, image=None):
    captions = [{"id": j, "text": text} for j, text in enumerate(texts_of(i))]
    image = io.BytesIO(image or encoded(i))
    return {"image": image, "captions": captions, "file": f"{i}.jpg", "label": i % 2}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    splits = {"train": map(row, range(6)), "validation": map(row, range(6, 8))}
    return prepare(tmp_path_factory.mktemp("tfds"), "squares", FEATURES, splits)


def imported(data_dir, out, name="squares", **settings):
    """Report, and the examples of each split."""
    report = import_tfds(name, Output(out, 8), data_dir=data_dir, **settings)
    splits = {}
    for split in report.manifest.counts:
        source = records.open_split(out, split)
        splits[split] = [source[i] for i in range(len(source))]
    return report, splits


def make_example(item, rng):
    """Pixels, and one of the captions."""
    text = item.captions[rng.integers(len(item.captions))][1].encode()
    text = np.frombuffer(text.ljust(20), np.uint8)
    return {"pixels": decode_image(item.image), "text": text}


def test_batches_are_those_of_the_same_files_in_a_folder(prepared, tmp_path, capsys):
    files = tmp_path / "files"
    files.mkdir()
    for i in range(6):
        (files / f"{i}.jpg").write_bytes(encoded(i))
        (files / f"{i}.txt").write_text("\n".join(texts_of(i)))
    words = ["--size", "8", "--out"]
    ours, theirs = tmp_path / "tfds", tmp_path / "folder"
    command = ["data", "tfds", "squares", "--data-dir", prepared, *words, str(ours)]
    assert cli.main(command) == 0
    assert "train 6, validation 2, skipped 0" in capsys.readouterr().out
    command = ["data", "folder", str(files), "--val", "0", *words, str(theirs)]
    assert cli.main(command) == 0
    make = functools.partial(batches, make_example=make_example, batch_size=4, seed=5)
    both = [make(records.open_split(path, "train")) for path in (ours, theirs)]
    for _ in range(4):
        one, other = (next(stream) for stream in both)
        assert one["pixels"].shape == (4, 8, 8, 3)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_splits_and_what_is_noted_without_tensorflow(prepared, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    report, splits = imported(prepared, tmp_path / "out")
    assert report.manifest.info["tfds"] == "squares/1.0.0"
    assert [len(items) for items in splits.values()] == [6, 2]
    item = splits["validation"][1]  # The split is one shard, so in order.
    assert item.id == "validation/1"
    assert item.captions == tuple(("", text) for text in texts_of(7))
    assert item.meta == {"width": "12", "height": "9"}


def test_labels_are_captions_by_their_class(prepared, tmp_path):
    names = ("label", "captions/text")
    _, splits = imported(prepared, tmp_path / "out", captions=names)
    found = {x.id: [text for _, text in x.captions] for x in splits["train"]}
    assert found["train/2"] == ["fire truck", *texts_of(2)]
    assert found["train/3"] == ["cat", *texts_of(3)]


def test_nested_images_and_lone_labels(tmp_path):
    features = {
        "view": {"left": tfds.features.Image(), "size": tfds.features.Scalar(np.int64)},
        "kinds": tfds.features.Sequence(tfds.features.ClassLabel(names=CLASSES)),
    }
    rows = [
        {"view": {"left": io.BytesIO(encoded(0)), "size": 3}, "kinds": kinds}
        for kinds in (["cat", "fire_truck"], [])
    ]
    data_dir = prepare(tmp_path / "tfds", "views", features, {"train-a": rows})
    report, splits = imported(data_dir, tmp_path / "out", "views", budget=0.5)
    [item] = splits["train_a"]
    assert [text for _, text in item.captions] == ["cat", "fire truck"]
    assert report.skipped == [("train-a/1", "no caption")]


def test_broken_images_are_skipped_within_the_budget(tmp_path):
    rows = [row(0), row(1, b"<html>"), row(2)]
    data_dir = prepare(tmp_path / "tfds", "squares", FEATURES, {"train": rows})
    report, splits = imported(data_dir, tmp_path / "out", budget=0.4)
    assert {item.id for item in splits["train"]} == {"train/0", "train/2"}
    [(name, reason)] = report.skipped
    assert name == "train/1" and "it is an HTML page" in reason
    with pytest.raises(UserError, match="1 of 3 entries are broken"):
        imported(data_dir, tmp_path / "no")
    assert not (tmp_path / "no").exists()


def refused(data_dir, tmp_path, name="squares", **settings):
    with pytest.raises(UserError) as caught:
        imported(data_dir, tmp_path / "out", name, **settings)
    assert not (tmp_path / "out").exists()
    return str(caught.value)


def test_what_cannot_be_read_is_said(prepared, tmp_path):
    assert refused(prepared, tmp_path, captions=("lable",)) == (
        "no text or label lable: there are captions/text, file, label"
    )
    missing = refused(prepared, tmp_path, "circles")
    assert missing.startswith(f"no data set circles in {prepared}: Dataset circles")
    assert "no prepared data set mnist" in refused(prepared, tmp_path, "mnist")


def test_features_that_do_not_say_what_is_what(tmp_path):
    image, text = tfds.features.Image(), tfds.features.Text()
    data = {
        "a": io.BytesIO(encoded(0)),
        "b": io.BytesIO(encoded(0)),
        "x": "1",
        "y": "2",
    }
    for name, features, message in (
        ("two", {"a": image, "b": image, "x": text}, "the images are a, b, expected"),
        ("many", {"a": image, "x": text, "y": text}, "the texts are x, y, the labels"),
        ("mute", {"a": image}, "the texts are none, the labels none: say which"),
        ("blind", {"x": text}, "the images are none, expected one"),
    ):
        rows = [{key: data[key] for key in features}]
        prepare(tmp_path / "tfds", name, features, {"train": rows})
        assert message in refused(tmp_path / "tfds", tmp_path, name)


def test_the_extra_is_named_where_it_is_missing(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    words = ["data", "tfds", "squares", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 2
    assert "pip install 'cogjax[tfds]'" in capsys.readouterr().err
