"""Texts of Imagen as vectors: made by a run, or by `cogjax encode-text` before it."""

import dataclasses
import itertools
import shutil

import jax
import numpy as np
import pytest

from cogjax import model_folder
from cogjax.data.manifest import read_manifest, write_manifest
from cogjax.data.records import DatasetBuilder, Example
from cogjax.errors import UserError
from cogjax.stages import run as launch
from cogjax.stages.caption_vectors import TextSource, caption_vectors
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sections import DataConfig, RunConfig
from cogjax.stages.sharded import EncodeSettings
from tests.test_imagen import configured, train, untrained


@pytest.fixture(scope="module")
def text(nano_data, nano_folder, tmp_path_factory):
    """Folder of a text encoder."""
    values = {"data.path": nano_data, "data.text": nano_folder / "text.model"}
    return untrained("text.py:nano", tmp_path_factory.mktemp("t5") / "t5", **values)


def test_captions_that_are_cut_are_counted(text, nano_data, tmp_path, capsys):
    model = model_folder.load(text)
    encoder = model["text_encoder"]
    short = dataclasses.replace(encoder.config, text_len=4)
    short = dataclasses.replace(encoder, config=short)
    short = model.with_component("text_encoder", short)
    source = TextSource("the encoder", short)  # It is not read again.
    data = DataConfig(str(nano_data), eval_split="train")
    caption_vectors(data, source, tmp_path)
    words = [model.text.encode(f"a red apple {i}") for i in range(10)]
    words += [model.text.encode(f"猫 {i}") for i in range(10)]
    cut = sum(len(pieces) > 3 for pieces in words)
    assert cut and f"{cut} captions are longer than" in capsys.readouterr().out


@pytest.fixture(scope="module")
def vectors(text, nano_data, tmp_path_factory):
    """The captions of nano_data, as `cogjax encode-text` writes them."""
    out = tmp_path_factory.mktemp("vectors") / "set"
    encode_texts(nano_data, text, out, EncodeSettings(budget=0.0))
    return out


def test_vectors_may_be_those_of_encode_text(text, nano_data, vectors, tmp_path):
    """The same batches as when the run makes them itself, and none in its folder."""
    values, batches = {"data.path": nano_data, "data.text": text}, []
    for given in ("", vectors):
        config = configured("icons.py:base,nano", **values, **{"data.vectors": given})
        workdir = tmp_path / ("given" if given else "own")
        job = launch.find_stage(config).job(RunConfig.of(config), workdir)
        batches.append(list(itertools.islice(job.batches(0), 2)))
    jax.tree.map(np.testing.assert_array_equal, *batches)
    assert (tmp_path / "own" / "texts").exists()
    assert not (tmp_path / "given" / "texts").exists()


def test_vectors_of_something_else_are_refused(text, nano_data, vectors, tmp_path):
    other = model_folder.load(text)
    encoder = other["text_encoder"]
    params = jax.tree.map(lambda x: x + 1, encoder.params)
    other = other.with_component(
        "text_encoder", dataclasses.replace(encoder, params=params)
    )
    model_folder.save(other, tmp_path / "other")
    one = tmp_path / "one"
    settings = EncodeSettings(("train",), budget=0.0)
    encode_texts(nano_data, text, one, settings)
    with DatasetBuilder(tmp_path / "data", "nano", 16, {"train": 1, "val": 1}) as made:
        for split in ("train", "val"):
            made.write(split, Example(split, b"", (("en", "a cat"),), {}))
        made.finish({})
    again = tmp_path / "again"
    settings = EncodeSettings(budget=0.0)
    encode_texts(tmp_path / "data", text, again, settings)
    unknown = shutil.copytree(again, tmp_path / "unknown")
    manifest = read_manifest(unknown)
    write_manifest(unknown, dataclasses.replace(manifest, info={"source": "data"}))
    for change, message in (
        ({"data.vectors": nano_data}, "holds nano: give a folder of"),
        ({"data.vectors": unknown}, "has the vectors of another data set"),
        ({"data.text": tmp_path / "other"}, "was made by another text encoder: encode"),
        ({"data.vectors": one}, "has vectors of 0 of 2 examples of split 'val'"),
        ({"data.vectors": again}, "has the vectors of another data set"),
    ):
        values = {"data.path": nano_data, "data.text": text}
        values |= {"data.vectors": vectors} | change
        with pytest.raises(UserError, match=message):
            train("icons.py:base,nano", tmp_path / "run", **values)
