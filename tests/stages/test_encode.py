"""Offline encoding: the codes of the pictures, once each, whoever is killed when."""

import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cogjax import config, model_folder
from cogjax.data.codes import (
    CodedExample,
    CodedRecords,
    CodedSource,
    Side,
    captions_of,
)
from cogjax.data.images import decode_image, encode_png
from cogjax.data.records import (
    DatasetBuilder,
    Example,
    open_split,
    read_manifest,
    write_manifest,
)
from cogjax.errors import UserError
from cogjax.model import Model, digest
from cogjax.pipelines import tokenize
from cogjax.stages import coded as coding
from cogjax.stages import encode
from cogjax.stages import run as launch
from cogjax.stages.sharded import EncodeSettings

pytestmark = pytest.mark.usefixtures("one_device")

ROOT = Path(__file__).parents[1]
COUNTS = {"train": 22, "val": 6, "empty": 0}


def write_set(out, bad=()):
    """Pictures of 16 pixels; `bad` ones are no pictures."""
    rng = np.random.default_rng(0)
    shards = {"train": 2, "val": 1, "empty": 1}
    with DatasetBuilder(out, "nano", 16, shards) as builder:
        for split, count in COUNTS.items():
            for i in range(count):
                image = encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8))
                image = b"<html>" if f"{split}{i}" in bad else image
                captions = (("en", f"a red apple {i}"), ("zh", f"猫 {i}"))
                meta = {"style": "flat" if i % 2 else "line"}
                builder.write(split, Example(f"{split}{i}", image, captions, meta))
        builder.finish({"licenses": "free"})
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data") / "set")


def run(data, nano_folder, out, process=(0, 1), **settings):
    settings = {"batch_size": 1, "shard_size": 5} | settings
    settings = EncodeSettings(**settings)
    return encode.encode_dataset(data, nano_folder, out, settings, process=process)


@pytest.fixture(scope="module")
def coded(data, nano_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("coded") / "set"
    run(data, nano_folder, out)
    return out


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records(folder, split):
    source = open_split(folder, split, CodedExample)
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_same_as_codes_in_memory(coded, data, nano_folder, tmp_path, split):
    model = model_folder.load(nano_folder)
    pictures = open_split(data, split)
    cache = tmp_path / "codes.safetensors"
    texts = functools.partial(captions_of, model.text)
    make = functools.partial(tokenize.encode, model["tokenizer"])
    wanted = CodedSource.make(pictures, make, Side(16, 4), texts, cache)
    found = CodedRecords(open_split(coded, split, CodedExample), texts)
    assert len(found) == len(wanted) == COUNTS[split]
    for i in range(len(wanted)):
        pieces, codes = found[i]
        assert pieces == wanted[i][0]
        np.testing.assert_array_equal(codes, wanted[i][1])
        assert codes.dtype == wanted[i][1].dtype
    ids = [(e.id, e.captions, e.meta) for e in records(coded, split)]
    pictures = [pictures[i] for i in range(len(pictures))]
    assert ids == [(e.id, e.captions, e.meta) for e in pictures]


def test_manifest(coded, data, nano_folder):
    manifest, source = read_manifest(coded), read_manifest(data)
    assert (manifest.kind, manifest.counts) == ("codes", COUNTS)
    assert manifest.contents == source.contents
    tokenizer = model_folder.load_component(nano_folder, "tokenizer")
    assert manifest.info["tokenizer"] == digest(tokenizer)
    origin = {"fingerprint": source.fingerprint, "info": {"licenses": "free"}}
    assert manifest.info["source"] == origin
    # 5 + 2 shards of five pictures and one of none.
    assert len(manifest.checksums) == 8
    assert records(coded, "empty") == []


def test_two_processes_write_what_one_does(coded, data, nano_folder, tmp_path):
    out = tmp_path / "set"
    first = run(data, nano_folder, out, process=(1, 2))
    assert (first.manifest, first.done, first.shards) == (None, 4, 8)
    assert not (out / "manifest.json").exists()
    second = run(data, nano_folder, out, process=(0, 2))
    assert second.manifest == read_manifest(out)
    assert first.encoded + second.encoded == sum(COUNTS.values())
    assert files(out) == files(coded)


KILLED = """
import os, signal, sys
from cogjax.stages.encode import encode_dataset
from cogjax.stages.sharded import EncodeSettings

def progress(done, total, label):
    if done >= 9:
        os.kill(os.getpid(), signal.SIGKILL)

data, tokenizer, out = sys.argv[1:]
settings = EncodeSettings(batch_size=1, shard_size=5)
encode_dataset(data, tokenizer, out, settings, progress=progress)
"""


def test_a_killed_process_goes_on_where_it_was(coded, data, nano_folder, tmp_path):
    out = tmp_path / "set"
    words = [sys.executable, "-c", KILLED, data, nano_folder, out]
    environment = os.environ | {"XLA_FLAGS": ""}
    killed = subprocess.run(words, cwd=ROOT, env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    # One shard is whole, one was at work.
    assert len(list(out.glob("*.arrayrecord"))) == 1
    assert len(list(out.glob(".*.arrayrecord.*"))) == 1
    (
        out / ".train-00001-of-00005.json.1234.tmp"
    ).touch()  # As if killed a moment later.
    assert run(data, nano_folder, out).encoded == sum(COUNTS.values()) - 5
    assert files(out) == files(coded)


@pytest.mark.parametrize("calls", range(1, 6))
def test_a_failure_between_files(
    coded, data, nano_folder, tmp_path, monkeypatch, calls
):
    """Stops at each of the first renames: the mark, shards and their .json."""
    out, left = tmp_path / "set", iter(range(calls))
    rename = os.replace

    def stop(*paths):
        next(left)
        rename(*paths)

    with monkeypatch.context() as patch, pytest.raises(StopIteration):
        patch.setattr(os, "replace", stop)
        run(data, nano_folder, out)
    run(data, nano_folder, out)
    assert files(out) == files(coded)


def test_a_finished_encoding_is_left_as_it_is(coded, data, nano_folder):
    before = {path: path.stat().st_mtime_ns for path in coded.glob("*.arrayrecord")}
    again = run(data, nano_folder, coded)
    assert (again.encoded, again.manifest.counts) == (0, COUNTS)
    assert before == {p: p.stat().st_mtime_ns for p in coded.glob("*.arrayrecord")}


@pytest.mark.parametrize("kind", ["flip", "exchange", "json"])
def test_a_shard_that_changed_is_encoded_again(
    coded, data, nano_folder, tmp_path, kind
):
    """It is not vouched for: before the manifest is there, and after."""
    out = tmp_path / "set"
    for path in coded.iterdir():
        (out / path.name).parent.mkdir(exist_ok=True)
        (out / path.name).write_bytes(path.read_bytes())
    first, second = sorted(out.glob("train-*.arrayrecord"))[:2]
    if kind == "flip":
        content = bytearray(first.read_bytes())
        content[len(content) // 2] ^= 1
        first.write_bytes(content)
    elif kind == "exchange":
        one, other = first.read_bytes(), second.read_bytes()
        first.write_bytes(other)
        second.write_bytes(one)
    else:
        first.with_suffix(".json").write_text('{"count": "many"}')
    assert run(data, nano_folder, out).encoded == (10 if kind == "exchange" else 5)
    assert files(out) == files(coded)


def test_bad_pictures_are_named_and_left_out(nano_folder, coded, tmp_path):
    broken = write_set(tmp_path / "set", bad=("train3",))
    report = run(broken, nano_folder, tmp_path / "out")
    pair = ("train3", "not a readable image: it is an HTML page")
    assert report.skipped == [pair]
    manifest = read_manifest(tmp_path / "out")
    assert manifest.counts == COUNTS | {"train": 21}
    assert manifest.info["skipped"] == [list(pair)]
    assert manifest.info["num_skipped"] == 1
    good = [e for e in records(coded, "train") if e.id != "train3"]
    found = records(tmp_path / "out", "train")
    assert [e.id for e in found] == [e.id for e in good]
    codes = (np.stack([e.codes for e in part]) for part in (found, good))
    np.testing.assert_array_equal(*codes)
    # A finished shard still tells what it left out.
    assert run(broken, nano_folder, tmp_path / "out").skipped == [pair]


def test_a_damaged_record_is_named(nano_folder, tmp_path):
    broken = write_set(tmp_path / "set")
    shard = broken / "val-00000-of-00001.arrayrecord"
    content = bytearray(shard.read_bytes())
    start = content.index(b"val2")
    content[start + 10] ^= 0xFF
    shard.write_bytes(content)
    report = run(broken, nano_folder, tmp_path / "out")
    assert report.skipped == [("record 2 of val", "the record is damaged")]
    assert report.manifest.counts == COUNTS | {"val": 5}


def test_too_many_bad_pictures_stop_it(nano_folder, tmp_path):
    broken = write_set(tmp_path / "set", bad=("train3", "val5"))
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"2 of 28 entries .* 5\.0%: train3: .*; val5"):
        run(broken, nano_folder, out)
    assert not (out / "manifest.json").exists()
    # Neither process is over the budget, both together are.
    run(broken, nano_folder, tmp_path / "two", process=(1, 2))
    with pytest.raises(UserError, match="2 of 28 entries are broken"):
        run(broken, nano_folder, tmp_path / "two", process=(0, 2))
    assert run(broken, nano_folder, out, budget=0.1).manifest.counts["train"] == 21


def other_tokenizer(folder, out):
    """The tokenizer with one weight changed."""
    tokenizer = model_folder.load_component(folder, "tokenizer")
    book = tokenizer.state["codebook"]
    book = (book + np.eye(*book.shape, k=3) * 1e-3).astype(np.float32)
    other = dataclasses.replace(tokenizer, state={"codebook": book})
    return model_folder.save(Model("", {"tokenizer": other}), out)


def test_another_job_is_kept_out_of_the_folder(data, coded, nano_folder, tmp_path):
    other = other_tokenizer(nano_folder, tmp_path / "other")
    with pytest.raises(UserError, match="begun with another tokenizer: choose"):
        run(data, other, coded)
    with pytest.raises(UserError, match="begun with another splits and shard_size"):
        run(data, nano_folder, coded, splits=("val",), shard_size=7)
    with pytest.raises(UserError, match="not empty and no encoding"):
        run(data, nano_folder, data)


def test_only_some_splits(data, nano_folder, tmp_path):
    report = run(data, nano_folder, tmp_path / "out", splits=("val",))
    assert report.manifest.counts == {"val": 6}
    with pytest.raises(UserError, match="has no split 'test': it has train, val"):
        run(data, nano_folder, tmp_path / "no", splits=("test",))
    assert not (tmp_path / "no").exists()


def test_codes_are_no_pictures(coded, nano_folder, tmp_path):
    with pytest.raises(UserError, match="holds codes, not images"):
        run(coded, nano_folder, tmp_path / "out")
    words = [f"--config.data.path={coded}"]
    tokenizer = config.load("experiments/cogview/emoji.py:tokenizer,nano", words)
    with pytest.raises(UserError, match="holds codes, not images"):
        launch.train(tokenizer, tmp_path / "vq")


def lm_config(path, tokenizer, text):
    values = {"data.path": path, "data.tokenizer": tokenizer, "data.text": text}
    values |= {"train.steps": 3, "train.batch_size": 8, "sample.prompts": ()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load("experiments/cogview/emoji.py:transformer,nano", words)


@pytest.fixture
def sources(coded, data, monkeypatch):
    """Yields pictures, then codes while nothing can be encoded."""

    def both():
        yield "pictures", data
        monkeypatch.setattr(coding, "encode", None)
        yield "codes", coded

    return both()


def test_batches_of_codes_are_those_of_pictures(
    sources, nano_folder, tmp_path, monkeypatch
):
    seen = {}

    def fit(job, *_):
        stream = job.batches(0)
        seen[name] = [next(stream) for _ in range(5)] + job.eval_batches
        raise StopIteration

    monkeypatch.setattr(launch, "fit", fit)
    for name, path in sources:
        settings = lm_config(path, nano_folder, nano_folder / "text.model")
        with pytest.raises(StopIteration):
            launch.train(settings, tmp_path / name)
    assert len(seen["codes"]) == len(seen["pictures"]) > 5
    for ours, theirs in zip(seen["codes"], seen["pictures"], strict=True):
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key])
    assert not (tmp_path / "codes" / "codes").exists()


@pytest.mark.slow
def test_a_run_on_codes_is_the_run_on_pictures(sources, nano_folder, tmp_path):
    weights = []
    for name, path in sources:
        settings = lm_config(path, nano_folder, nano_folder / "text.model")
        out = launch.train(settings, tmp_path / name)
        weights.append((out / "transformer.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_training_refuses_codes_of_another_tokenizer(coded, nano_folder, tmp_path):
    other = other_tokenizer(nano_folder, tmp_path / "other")
    settings = lm_config(coded, other, nano_folder / "text.model")
    with pytest.raises(UserError, match="was encoded with another tokenizer than"):
        launch.train(settings, tmp_path / "run")
    # That of the weights to start from, where none is named.
    settings["data"] = {**settings["data"], "tokenizer": "", "weights": str(other)}
    with pytest.raises(UserError, match=f"another tokenizer than {other}: set"):
        launch.train(settings, tmp_path / "run")
    unknown = shutil.copytree(coded, tmp_path / "unknown")
    write_manifest(unknown, dataclasses.replace(read_manifest(unknown), info={}))
    settings = lm_config(unknown, nano_folder, nano_folder / "text.model")
    with pytest.raises(UserError, match="was encoded with another tokenizer than"):
        launch.train(settings, tmp_path / "run")
    # A copy of the tokenizer is the tokenizer.
    copy = model_folder.save(model_folder.load(nano_folder), tmp_path / "copy")
    wanted = read_manifest(coded).info["tokenizer"]
    assert digest(model_folder.load_component(copy, "tokenizer")) == wanted


def test_shapes_are_encoded_in_order_each_at_its_own(nano_folder, tmp_path):
    rng, sides = np.random.default_rng(0), [(16, 16), (8, 32), (24, 8)]
    with DatasetBuilder(tmp_path / "set", "nano", 16, {"train": 1}) as builder:
        for i in range(30):
            pixels = rng.integers(0, 256, (*sides[i % 3], 3), np.uint8)
            image = Example(str(i), encode_png(pixels), (("en", "an apple"),))
            builder.write("train", image)
        builder.finish({})
    run(tmp_path / "set", nano_folder, tmp_path / "coded", batch_size=2, shard_size=25)
    manifest = read_manifest(tmp_path / "coded")
    assert manifest.shapes == ((4, 4), (6, 2), (2, 8))  # Codes of 4 pixels.
    assert manifest.contents["train"]["shape"] == {"2x8": 10, "4x4": 10, "6x2": 10}
    found = records(tmp_path / "coded", "train")
    assert [example.id for example in found] == list(map(str, range(30)))
    tokenizer = model_folder.load(nano_folder)["tokenizer"]
    pictures = open_split(tmp_path / "set", "train")
    pixels = np.stack([decode_image(pictures[i].image) for i in range(1, 30, 3)])
    wide = tokenize.encode(tokenizer, pixels)
    np.testing.assert_array_equal([x.codes for x in found[1::3]], wide)
    side = Side.of(read_manifest(tmp_path / "set"), tokenizer.config)
    make = functools.partial(tokenize.encode, tokenizer)
    cache = tmp_path / "codes.safetensors"
    for _ in range(2):  # Made, then read.
        texts = lambda item: (item.id,)  # noqa: E731
        kept = CodedSource.make(pictures, make, side, texts, cache)
        for i in range(30):
            assert kept[i][0] == (str(i),)
            np.testing.assert_array_equal(kept[i][1], found[i].codes)
