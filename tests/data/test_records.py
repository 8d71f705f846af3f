import json
import os
import pickle

import msgpack
import numpy as np
import pytest

from cogjax import cli
from cogjax.data import records
from cogjax.data.codes import CodedExample
from cogjax.data.embeddings import EmbeddedExample
from cogjax.data.records import DatasetBuilder, Example, damaged_shards, open_split
from cogjax.errors import UserError

SHARDS = {"train": 2, "val": 1}


def example(i):
    # Random bytes do not compress: they stand in the shard as they are.
    image = np.random.default_rng(i).bytes(2000)
    meta = {"style": "noto" if i % 3 else "twemoji"}
    return Example(f"e{i}", image, (("en", f"cat {i}"), ("zh", "猫")), meta)


@pytest.fixture
def folder(tmp_path):
    out = tmp_path / "set"
    with DatasetBuilder(out, "emoji", 32, SHARDS) as builder:
        for i in range(9):
            builder.write("train", example(i))
        builder.write("val", example(9))
        builder.write_text("LICENSES.md", "free\n")
        builder.finish({"note": "猫"})
    return out


def test_what_is_written_is_read(folder):
    source = open_split(folder, "train")
    read = [source[i] for i in range(len(source))]
    assert sorted(e.id for e in read) == [f"e{i}" for i in range(9)]
    assert {e.id: e for e in read} == {f"e{i}": example(i) for i in range(9)}
    assert pickle.loads(pickle.dumps(source))[3] == source[3]
    assert (folder / "LICENSES.md").read_text() == "free\n"
    # Behind the end is no damage, so that a loop ends there.
    assert [e.id for e in source] == [e.id for e in read]


def test_manifest(folder):
    manifest = records.read_manifest(folder)
    assert (manifest.kind, manifest.image_size) == ("emoji", 32)
    assert manifest.counts == {"train": 9, "val": 1}
    assert manifest.info == {"note": "猫"}
    assert manifest.contents["train"] == {
        "style": {"noto": 6, "twemoji": 3},
        "captions": {"en": 9, "zh": 9},
    }
    assert set(manifest.checksums) == {p.name for p in folder.glob("*.arrayrecord")}
    assert damaged_shards(folder) == []


def test_fingerprint_follows_the_data_alone(tmp_path):
    prints = []
    for name, texts in (("a", "xyz"), ("b", "xyz"), ("c", "xyw")):
        with DatasetBuilder(tmp_path / name, "folder", 8, {"train": 1}) as builder:
            for text in texts:
                builder.write("train", Example("i", b"png", (("", text),)))
            prints.append(builder.finish({"name": name}).fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_a_flipped_byte_loses_its_record_and_names_the_shard(folder):
    path = folder / "train-00001-of-00002.arrayrecord"
    data = bytearray(path.read_bytes())
    victim = example(3)
    data[data.index(victim.image[:64]) + 10] ^= 1
    path.write_bytes(data)
    source = open_split(folder, "train")
    read, errors = [], []
    for i in range(len(source)):
        try:
            read.append(source[i].id)
        except UserError as error:
            errors.append(str(error))
    assert sorted(read) == [f"e{i}" for i in range(9) if i != 3]
    assert len(errors) == 1 and f"damaged ({path.name})" in errors[0]
    assert damaged_shards(folder) == [path.name]


@pytest.mark.parametrize("keep", [0, 100, 65_536, 0.5])
def test_a_shard_cut_short_is_named(folder, keep):
    path = folder / "train-00000-of-00002.arrayrecord"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep == 0.5 else keep])
    with pytest.raises(UserError) as caught:
        source = open_split(folder, "train")
        for i in range(len(source)):
            source[i]
    assert path.name in str(caught.value)


def test_a_missing_shard_is_named(folder):
    (folder / "val-00000-of-00001.arrayrecord").unlink()
    with pytest.raises(UserError, match=r"val-00000-of-00001\.arrayrecord is missing"):
        open_split(folder, "val")
    assert len(open_split(folder, "train")) == 9


def test_shards_that_changed_places_are_noticed(folder):
    """They are of one set, or of another with as many records: a look is enough."""
    first, second = sorted(folder.glob("train-*"))
    other = folder.parent / "other"
    with DatasetBuilder(other, "emoji", 32, SHARDS) as builder:
        for i in range(20, 29):
            builder.write("train", example(i))
        builder.finish({})
    own = {path: path.read_bytes() for path in (first, second)}
    changes = (
        {first: own[second], second: own[first]},
        {first: own[second]},
        {first: (other / first.name).read_bytes()},
    )
    for change in changes:
        for path, data in (own | change).items():
            path.write_bytes(data)
        with pytest.raises(UserError, match=f"shard {first} is damaged, or another"):
            open_split(folder, "train")
        assert damaged_shards(folder) == sorted(path.name for path in change)
    for path, data in own.items():
        path.write_bytes(data)
    assert len(open_split(folder, "train")) == 9


def test_shards_of_a_set_without_marks(folder):
    """Sets of before have none; the number of records is all that is known."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_text("utf-8"))
    del fields["marks"]
    path.write_text(json.dumps(fields | {"format": 1}))
    assert len(open_split(folder, "train")) == 9
    first, second = sorted(folder.glob("train-*"))
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="has 8 records, the manifest says 9"):
        open_split(folder, "train")


def test_a_split_has_no_shards_of_another(tmp_path):
    with DatasetBuilder(tmp_path / "set", "emoji", 32, {"a": 1, "a-b": 1}) as builder:
        builder.write("a-b", example(0))
        builder.finish({})
    assert len(open_split(tmp_path / "set", "a")) == 0


def test_verify_reads_a_data_set_whole(folder, capsys):
    assert cli.main(["verify", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "train-00000-of-00002.arrayrecord: good" in shown
    assert "LICENSES.md: unverified" in shown
    path = folder / "train-00001-of-00002.arrayrecord"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    (folder / "LICENSES.md").unlink()
    assert cli.main(["verify", str(folder), "--json"]) == 2
    shown = capsys.readouterr()
    rows = {row["file"]: row for row in json.loads(shown.out)}
    bad = [name for name, row in rows.items() if row["status"] == "bad"]
    assert bad == [path.name, "LICENSES.md"]
    assert rows[path.name]["reason"] == "has changed, or is another file"
    assert "2 of 4 files are bad" in shown.err


def test_verify_of_what_is_no_data_set_yet(tmp_path, capsys):
    assert cli.main(["verify", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (tmp_path / "encoding.json").write_text("{}")
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert "is not encoded to its end" in capsys.readouterr().err


MANIFESTS = {
    "wrong type": {"counts": [1]},
    "wrong inside": {"checksums": {"a": None}},
    "a number": {"kind": 5},
    "no fingerprint": {"fingerprint": "x"},
    "outside": {"files": ["../a"]},
    "a split lost": {"counts": {"train": 9}},
    "a mark lost": {"marks": {"x": "y"}},
    "unknown": {"more": 1},
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_of_wrong_types(folder, name):
    path, change = folder / "manifest.json", MANIFESTS[name]
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**fields, **change}))
    with pytest.raises(UserError, match="manifest.json cannot be read"):
        open_split(folder, "train")


def test_records_of_another_schema(folder, monkeypatch):
    monkeypatch.setattr(Example, "pack", lambda self: b"\x93\x01\x02\x03")
    with DatasetBuilder(folder, "emoji", 32, SHARDS, overwrite=True) as builder:
        builder.write("train", example(0))
        builder.finish({})
    with pytest.raises(UserError, match="record 0 in .*damaged"):
        open_split(folder, "train")[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "{",
        '{"format": 1}',
        '{"format": 2}',
        '{"format": true}',
        "<html>",
        "\x00",
        "[" * 200_000,
    ],
)
def test_damaged_manifests(folder, text):
    (folder / "manifest.json").write_text(text)
    words = "cannot be read: .{12}|is not of a data set|is of another f|has no marks"
    with pytest.raises(UserError, match=f"manifest.json ({words})"):
        records.read_manifest(folder)


def test_a_set_without_contents_is_read(folder):
    path = folder / "manifest.json"
    fields = json.loads(path.read_text("utf-8"))
    del fields["contents"]
    path.write_text(json.dumps(fields))
    assert records.read_manifest(folder).contents == {}


def test_names_of_splits_are_checked(folder):
    with pytest.raises(UserError, match="no split 'test': it has train, val"):
        open_split(folder, "test")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    """ArrayRecord raises a TypeError of many lines for it."""
    with pytest.raises(UserError, match="its name is not valid UTF-8"):
        DatasetBuilder(tmp_path / os.fsdecode(b"\xff"), "emoji", 32, SHARDS)


def test_a_failed_build_leaves_what_was_there(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(RuntimeError):
        with DatasetBuilder(folder, "emoji", 32, SHARDS, overwrite=True) as builder:
            builder.write("train", example(0))
            raise RuntimeError("power cut")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["set"]


def test_a_failed_build_of_a_new_set_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError):
        with DatasetBuilder(tmp_path / "set", "emoji", 32, SHARDS):
            raise RuntimeError("power cut")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "manifest",
    [None, "{}", "[]", '{"name": "my app"}', '{"format": 1}', "\0", "[" * 100_000],
)
def test_a_folder_of_something_else_is_refused(tmp_path, manifest, overwrite):
    (tmp_path / "thesis.txt").write_text("long")
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UserError, match="not empty and not a data set"):
        DatasetBuilder(tmp_path, "emoji", 32, SHARDS, overwrite)
    with pytest.raises(UserError, match="is not a folder"):
        DatasetBuilder(tmp_path / "thesis.txt", "emoji", 32, SHARDS, overwrite)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_data_set_is_replaced_on_request_and_only_its_own_files(folder):
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds a data set.*--overwrite"):
        DatasetBuilder(folder, "emoji", 32, SHARDS)
    with DatasetBuilder(folder, "emoji", 32, {"test": 1}, overwrite=True) as builder:
        builder.write("test", example(0))
        builder.write_text("LICENSES.md", "free")
        builder.finish({})
    names = ["LICENSES.md", "manifest.json", "notes.txt"]
    names.append("test-00000-of-00001.arrayrecord")
    assert sorted(p.name for p in folder.iterdir()) == names
    assert (folder / "notes.txt").read_text() == "mine"
    assert len(open_split(folder, "test")) == 1
    with DatasetBuilder(folder, "emoji", 32, {"test": 1}, overwrite=True) as builder:
        builder.finish({})
    assert "LICENSES.md" not in {p.name for p in folder.iterdir()}


def test_a_file_in_the_way_of_a_new_one_stays(folder):
    (folder / "notes.txt").write_text("mine")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(UserError, match=r"notes\.txt is not of the data set"):
        with DatasetBuilder(folder, "emoji", 32, SHARDS, overwrite=True) as builder:
            builder.write_text("notes.txt", "theirs")
            builder.finish({})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_cut_replacement_is_told_and_can_be_repeated(folder, monkeypatch):
    def build():
        with DatasetBuilder(folder, "emoji", 32, {"a": 1}, overwrite=True) as builder:
            builder.write("a", example(0))
            builder.finish({})

    rename = os.replace

    def stop(source, target):
        if str(target).endswith("arrayrecord"):
            raise OSError(5, "power cut")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(UserError, match="power cut"):
            build()
    with pytest.raises(UserError, match="only half written"):
        open_split(folder, "train")
    build()
    assert len(open_split(folder, "a")) == 1
    assert len(list(folder.iterdir())) == 2


def test_a_build_that_ends_beside_another_leaves_no_lock(tmp_path, monkeypatch):
    """Its lock goes between being found and being looked at."""
    found = type(tmp_path).glob

    def late(path, pattern):
        gone = [path / ".0.lock"] if pattern == ".*.lock" else []
        return [*gone, *found(path, pattern)]

    monkeypatch.setattr(type(tmp_path), "glob", late)
    with DatasetBuilder(tmp_path / "set", "nano", 16, {"train": 1}) as builder:
        builder.write("train", Example("a", b"png", (("en", "a cat"),)))
        builder.finish({})
    assert not (tmp_path / "set" / ".0.lock").exists()


def test_what_a_killed_build_left_goes_and_that_of_a_live_one_stays(tmp_path):
    """By the lock beside it, which the system frees when a process dies."""
    dead, out = tmp_path / "set" / ".0.partial", tmp_path / "set"
    dead.mkdir(parents=True)
    (dead / "train-0.array_record").write_bytes(b"half")
    dead.with_suffix(".lock").touch()
    foreign = out / ".mine.partial"  # It has no lock: it is not ours.
    foreign.mkdir()
    with DatasetBuilder(out, "nano", 16, {"train": 1}) as first:
        assert not dead.exists() and not dead.with_suffix(".lock").exists()
        [live] = [path for path in out.glob(".*.partial") if path != foreign]
        with DatasetBuilder(out, "nano", 16, {"train": 1}):
            assert live.is_dir()
        first.write("train", Example("a", b"png", (("en", "a cat"),)))
        first.finish({})
    assert {path.name for path in out.glob(".*")} == {".mine.partial"}
    assert len(open_split(out, "train")) == 1


def test_of_two_builds_into_one_folder_one_is_refused(tmp_path):
    with DatasetBuilder(tmp_path / "set", "emoji", 32, {"a": 1}) as first:
        first.write("a", example(0))
        with DatasetBuilder(tmp_path / "set", "emoji", 32, {"a": 1}) as second:
            second.finish({})
        with pytest.raises(UserError, match="holds a data set"):
            first.finish({})
    assert len(open_split(tmp_path / "set", "a")) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"captions": ["ab"]},  # Language "a", text "b"?
        {"captions": {"en": "a cat"}},
        {"captions": [("en", 3)]},
        {"captions": [(None, "a cat")]},
        {"captions": [("en", "a", "cat")]},
        {"captions": [("en", b"a cat")]},
        {"questions": [("kind", "what?", ["a cat"])]},
        {"questions": ["abc"]},
        {"meta": [("style", "flat")]},
        {"meta": {"style": 1}},
        {"meta": {b"style": "flat"}},
        {"meta": None},
        {"id": 5},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Example, CodedExample, EmbeddedExample])
def test_fields_of_other_types(kind, fields):
    whole = {"id": "a", "captions": [("en", "a cat")], "meta": {"style": "flat"}}
    whole |= {"image": b"png", "codes": b"\0\0", "lengths": [1]}
    whole |= {"tokens": b"\0\0", "pooled": b"\0\0"}
    assert kind.unpack(msgpack.packb(whole)).captions == (("en", "a cat"),)
    with pytest.raises(ValueError, match="the record "):
        kind.unpack(msgpack.packb(whole | fields))


def test_an_image_is_bytes():
    record = msgpack.packb({"id": "", "captions": [], "meta": {}, "image": "png"})
    with pytest.raises(ValueError, match="the record is not a cogjax example"):
        Example.unpack(record)
