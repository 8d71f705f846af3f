"""Offline encoding of texts: vectors of all captions, whoever is killed when.

How shards are lost and done again is the same as for images: `test_encode.py`.
"""

import os

import ml_dtypes
import numpy as np
import pytest

from cogjax import cli, model_folder
from cogjax.data.embeddings import EmbeddedExample
from cogjax.data.records import (
    DatasetBuilder,
    Example,
    damaged_shards,
    open_split,
    read_manifest,
)
from cogjax.data.t5_text import T5Text
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.models.t5 import T5Config, T5Encoder
from cogjax.pipelines.text_encoder import load_text_encoder
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sharded import EncodeSettings
from tests.programs import random_params

IDS = np.ones((1, 2), np.int32)
SETTINGS = EncodeSettings(batch_size=1, shard_size=3)
# Each image has a number of captions: none, one, or several.
COUNTS = (2, 0, 3, 1, 2, 9, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    with DatasetBuilder(out, "nano", 16, {"train": 2, "val": 1}) as builder:
        for i, count in enumerate(COUNTS):
            texts = [("en", "a red apple " + "x" * (i + j)) for j in range(count)]
            # The image is none: nothing reads it.
            example = Example(f"train{i}", b"<html>", tuple(texts), {"style": "flat"})
            builder.write("train", example)
        builder.finish({})
    return out


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    words = "cat apple house flower rocket whale red blue line drawing of a flat icon"
    text = TextTokenizer.train([f"{w} {w}s 猫的线稿" for w in words.split()], 285)
    sizes = {"width": 8, "depth": 1, "heads": 2, "head_dim": 4, "mlp_dim": 16}
    config = T5Config(**sizes, vocab_size=T5Text(text).vocab_size, text_len=16)
    params = random_params(T5Encoder(config), IDS, IDS > 0)
    parts = {"text_encoder": Component(config, params)}
    return model_folder.save(
        Model("", parts, text=text), tmp_path_factory.mktemp("encoder")
    )


@pytest.fixture(scope="module")
def encoded(data, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("encoded") / "set"
    words = ["--data", data, "--model", encoder, "--out", out, "--batch-size", "1"]
    words = ["encode-text", *map(str, words), "--shard-size", "3"]
    assert cli.main(words) == 0
    return out


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_vectors_are_those_of_the_encoder(encoded, data, encoder):
    wanted, source = load_text_encoder(encoder), open_split(data, "train")
    found = open_split(encoded, "train", EmbeddedExample)
    examples = [source[i] for i in range(len(source))]
    assert len(found) == len(COUNTS) == len({example.id for example in examples})
    ids = [(found[i].id, found[i].captions, found[i].meta) for i in range(len(found))]
    assert ids == [(e.id, e.captions, e.meta) for e in examples]
    texts = [text for example in examples for _, text in example.captions]
    tokens, mask, pooled = map(np.asarray, wanted.encode(texts))
    rows = [row for i in range(len(found)) for row in found[i].tokens]
    means = [row for i in range(len(found)) for row in found[i].pooled]
    assert [len(row) for row in rows] == mask.sum(1).tolist()
    assert len(set(mask.sum(1).tolist())) > 2
    for row, mean, *want in zip(rows, means, tokens, mask, pooled, strict=True):
        assert row.dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(np.float32(row), want[0][want[1]], rtol=0.01)
        np.testing.assert_allclose(np.float32(mean), want[2], rtol=0.01)


def test_what_is_cut_is_counted(data, encoder, tmp_path, capsys):
    source, text = open_split(data, "train"), model_folder.load(encoder).text
    texts = [t for i in range(len(source)) for _, t in source[i].captions]
    # The end takes one of 16 ids.
    long = sum(len(text.encode(t)) > 15 for t in texts)
    assert 0 < long < len(texts)
    words = ["--data", data, "--model", encoder, "--out", tmp_path / "set"]
    assert cli.main(["encode-text", *map(str, words), "--batch-size", "1"]) == 0
    said = capsys.readouterr().out
    assert f"{long} captions are longer than the model reads, and were cut" in said
    assert f"encoded {len(COUNTS)} examples" in said and "images" not in said


def test_manifest(encoded, data, encoder):
    manifest, source = read_manifest(encoded), read_manifest(data)
    assert (manifest.kind, manifest.counts["train"]) == ("embeddings", len(COUNTS))
    assert manifest.contents == source.contents
    assert manifest.info["text_encoder"] == load_text_encoder(encoder).digest
    assert manifest.info["source"]["fingerprint"] == source.fingerprint
    assert damaged_shards(encoded) == []


def test_it_goes_on_where_it_was(encoded, data, encoder, tmp_path, monkeypatch):
    """Stops at the fourth rename, when one shard is whole and another is not."""
    out, left, rename = tmp_path / "set", iter(range(4)), os.replace

    def stop(*paths):
        next(left)
        rename(*paths)

    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(os, "replace", stop)
        encode_texts(data, encoder, out, SETTINGS)
    report = encode_texts(data, encoder, out, SETTINGS)
    assert 0 < report.encoded < len(COUNTS)
    assert files(out) == files(encoded)


def test_what_does_not_fit(encoded, data, encoder, tmp_path):
    with pytest.raises(UserError, match="holds embeddings, not images: give the data"):
        encode_texts(encoded, encoder, tmp_path / "out", SETTINGS)
    with pytest.raises(UserError, match="begun with another shard_size"):
        encode_texts(data, encoder, encoded, EncodeSettings(batch_size=1))
    model = model_folder.load(encoder)
    part = model["text_encoder"]
    params = {**part.params, "relative_bias": part.params["relative_bias"] + 1}
    other = model.with_component("text_encoder", Component(part.config, params))
    other = model_folder.save(other, tmp_path / "other")
    with pytest.raises(UserError, match="begun with another text_encoder: choose"):
        encode_texts(data, other, encoded, SETTINGS)
