"""Near duplicates between splits: what is found, what is left out, and the command."""

import json

import numpy as np
import pytest

from cogjax import cli
from cogjax.data.images import decode_image, encode_png
from cogjax.data.output import Output
from cogjax.data.overlap import NEAR, find_pairs, nearest, write_without
from cogjax.data.records import DatasetBuilder, Example, open_split, read_manifest
from cogjax.errors import UserError
from tests.conftest import TOY_COLOURS

RNG = np.random.default_rng(0)
# Blocks, which a thumbnail shows.
BLOCKS = RNG.integers(0, 256, (6, 8, 8, 3)).astype(np.uint8)
IMAGES = BLOCKS.repeat(4, 1).repeat(4, 2)


def build(out, **splits):
    """A data set of {split: {id: pixels}}."""
    with DatasetBuilder(out, "folder", 32, dict.fromkeys(splits, 2)) as builder:
        for split, images in splits.items():
            for name, pixels in images.items():
                caption = (("en", name),)
                builder.write(split, Example(name, encode_png(pixels), caption))
        builder.write_text("LICENSES.md", "mine\n")
        builder.finish({"by": "me"})
    return out


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """In val "near" is 4 levels off one of train, and "same" is the other."""
    near = np.clip(IMAGES[1].astype(int) + 4, 0, 255).astype(np.uint8)
    return build(
        tmp_path_factory.mktemp("overlap") / "set",
        train={"one": IMAGES[0], "two": IMAGES[1], "three": IMAGES[2]},
        val={"far": IMAGES[3], "near": near, "same": IMAGES[2]},
    )


def test_the_nearest_by_hand():
    others = RNG.normal(size=(9, 5))
    queries = RNG.normal(size=(4, 5))
    every = np.sqrt(((queries[:, None] - others) ** 2).mean(-1))
    index, distance = nearest(queries, others)
    np.testing.assert_array_equal(index, every.argmin(1))
    np.testing.assert_allclose(distance, every.min(1), rtol=1e-9)


def test_pairs_come_nearest_first(data):
    a, b = open_split(data, "train"), open_split(data, "val")
    pairs = find_pairs(a, b)
    assert [(b[p.b].id, a[p.a].id) for p in pairs[:2]] == [
        ("same", "three"),
        ("near", "two"),
    ]
    assert pairs[0].distance < 0.1 and pairs[1].distance == pytest.approx(4, abs=0.2)
    assert b[pairs[2].b].id == "far" and pairs[2].distance > 3 * NEAR


def test_a_copy_leaves_out_what_it_is_told_to(data, tmp_path):
    write_without(str(data), "val", [1], Output(tmp_path / "out", 32))
    old, new = read_manifest(data), read_manifest(tmp_path / "out")
    assert (old.counts["val"], new.counts) == (3, {"train": 3, "val": 2})
    assert new.kind == old.kind and new.checksums.keys() == old.checksums.keys()
    assert new.info["overlap"]["of"] == old.fingerprint
    assert new.info["before"] == {"by": "me"} and new.files == ("LICENSES.md",)
    assert (tmp_path / "out" / "LICENSES.md").read_text() == "mine\n"
    kept = open_split(tmp_path / "out", "val")
    source = open_split(data, "val")
    assert [kept[i] for i in range(2)] == [source[0], source[2]]


def run(*words):
    return cli.main(["data", "overlap", *map(str, words)])


def test_the_command_lists_draws_and_removes(data, tmp_path, capsys):
    out, sheet, table = (tmp_path / name for name in ("out", "s.png", "pairs.json"))
    words = ["--out", out, "--sheet", sheet, "--json", table]
    assert run(data, data, *words) == 0
    shown = capsys.readouterr().out
    assert (
        "val: 2 of 3 images are nearly in" in shown and "(distance below 10)" in shown
    )
    assert "same  three" in shown
    copy = open_split(out, "val")
    assert [copy[i].id for i in range(len(copy))] == ["far"]
    pairs = json.loads(table.read_text())["pairs"]
    assert [pair["b"] for pair in pairs] == ["same", "near", "far"]
    # Three pairs beside each other, at 64 px with text below.
    assert decode_image(sheet.read_bytes()).shape == (64 + 28, 6 * 66 - 2, 3)
    assert run(data, data, "--threshold", 1, "--out", out) == 2
    assert run(data, data, "--threshold", 1, "--out", out, "--overwrite") == 0
    assert len(open_split(out, "val")) == 2


def test_a_clip_is_blind_to_what_it_was_not_shown(toy_clip_folder, tmp_path, capsys):
    """It knows colours alone: a darker one is far in pixels, and near for it."""
    plain = {
        name: np.full((32, 32, 3), colour, np.uint8)
        for name, colour in TOY_COLOURS.items()
    }
    dark = plain["red"] // 2 + plain["red"] // 4
    data = build(tmp_path / "set", train=plain, val={"dark red": dark})
    table = tmp_path / "pairs.json"
    words = [data, data, "--overwrite", "--json", table]
    assert run(*words, "--model", toy_clip_folder) == 0
    shown = capsys.readouterr().out
    assert "give --threshold D to count those near" in shown
    [pair] = json.loads(table.read_text())["pairs"]
    assert pair["a"] == "red" and 0 <= pair["distance"] <= 2
    assert run(*words) == 0
    [by_pixels] = json.loads(table.read_text())["pairs"]
    assert by_pixels["distance"] > NEAR
    words += ["--model", toy_clip_folder, "--threshold", pair["distance"] + 0.01]
    assert run(*words) == 0
    assert "val: 1 of 1 images are nearly in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--split-b", "train"), "A and B are the same split 'train'"),
        (("--split-b", "test"), "has no split 'test': it has train, val"),
        (("--model", "x", "--out", "o"), "--out needs --threshold D with --model"),
        (("--sheet", "s.jpg"), "--sheet expects a .png file, got s.jpg"),
        (("--threshold", "0"), "expects a number above 0, up to 255, got '0'"),
        (("--model", "emojo"), "no model 'emojo': give a model folder or one of"),
    ],
)
def test_mistakes(words, message, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(data, data, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_the_source_is_not_written_over(data, capsys):
    assert run(data, data, "--out", data, "--overwrite") == 2
    assert "the source: choose another folder" in capsys.readouterr().err


def test_an_empty_split(data, tmp_path):
    other = build(tmp_path / "set", train={}, val={})
    with pytest.raises(UserError, match="one of the two splits is empty"):
        find_pairs(open_split(other, "train"), open_split(data, "val"))


def test_bright_copies_are_at_no_distance():
    bright = np.full((3, 768), 250, np.float32) + np.arange(3)[:, None]
    index, distance = nearest(bright, bright[::-1])
    assert index.tolist() == [2, 1, 0] and not distance.any()
