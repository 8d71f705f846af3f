"""Pairs of one concept in two styles, from codes of single images."""

from collections import Counter

import numpy as np
import pytest

from cogjax import cli
from cogjax.data.codes import CodedExample
from cogjax.data.records import CODES, DatasetBuilder, open_split, read_manifest
from cogjax.errors import UserError
from cogjax.worlds.pairs import build_pairs, caption

# (concept, style, colour) of the images.
TRAIN = (
    ("cat", "fluent-mono", ""),
    ("cat", "fluent-3d", ""),
    ("cat", "icon-outline", "blue"),
    ("dog", "icon-outline", "blue"),
    ("dog", "icon-outline", "red"),
    ("dog", "icon-filled", "blue"),
    ("cow", "noto", ""),
    ("cow", "of nobody", ""),
    ("", "noto", ""),
)
VAL = (("owl", "noto", ""), ("owl", "fluent-3d", ""))
PAIRS = VAL[:1]  # No other style of it is in the split.


def name_of(concept, style, color):
    return f"{concept}-{style}-{color}"


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A set as `cogjax encode` writes it, the codes of each image its number."""
    out = tmp_path_factory.mktemp("coded") / "set"
    splits = {"train": TRAIN, "val": VAL, "pairs": PAIRS}
    with DatasetBuilder(out, CODES, 16, dict.fromkeys(splits, 1)) as builder:
        for split, items in splits.items():
            for i, item in enumerate(items):
                meta = dict(zip(("concept", "style", "color"), item, strict=True))
                codes = np.full(4, i)
                example = CodedExample(name_of(*item), codes, (("en", "x"),), meta)
                builder.write(split, example)
        builder.finish({"tokenizer": "abc"})
    return out


def build(coded, out, **settings):
    return build_pairs(coded, out, progress=lambda *_: None, **settings)


def read(folder, split="train"):
    found = open_split(folder, split, CodedExample)
    return [found[i] for i in range(len(found))]


@pytest.fixture(scope="module")
def pairs(coded, tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs") / "set"
    return build(coded, out), out


def test_all_pairs_of_a_concept_in_two_styles(pairs):
    wanted = {
        f"{name_of(*one)}--{name_of(*other)}": [i] * 4 + [j] * 4
        for i, one in enumerate(TRAIN[:6])
        for j, other in enumerate(TRAIN[:6])
        if one[0] == other[0] and one[1] != other[1]
    }
    found = {pair.id: pair.codes.tolist() for pair in read(pairs[1])}
    assert found == wanted and len(wanted) == 6 + 4


def test_splits_stay(pairs):
    """A held-out concept is in pairs of its split alone; a split without any goes."""
    assert read_manifest(pairs[1]).counts == {"train": 10, "val": 2}
    assert {pair.meta["concept"] for pair in read(pairs[1], "val")} == {"owl"}
    assert {pair.meta["concept"] for pair in read(pairs[1])} == {"cat", "dog"}


def test_what_is_in_no_pair_is_counted(pairs):
    reasons = {"of no concept or of a style without words": 2}
    reasons["without another style"] = 2  # A cow, and an owl among `pairs`.
    assert pairs[0].alone == reasons


def test_captions_name_the_style_and_a_colour_that_is_not_kept(pairs):
    texts = {pair.id: [text for _, text in pair.captions] for pair in read(pairs[1])}
    cat = "cat-{}--cat-{}".format
    assert texts[cat("fluent-mono-", "fluent-3d-")] == [
        "the same, as a 3D render",
        "同样的，画成立体图",
    ]
    # The colour may be left open where there is none.
    assert texts[cat("fluent-3d-", "icon-outline-blue")] == [
        "the same, as an outline icon",
        "同样的，画成线性图标",
        "the same, as a blue outline icon",
        "同样的，画成蓝色线性图标",
    ]
    dog = "dog-icon-{}--dog-icon-{}".format
    kept = texts[dog("outline-blue", "filled-blue")]
    assert kept[0] == "the same, as a filled icon" and len(kept) == 4
    changed = texts[dog("outline-red", "filled-blue")]
    assert changed == ["the same, as a blue filled icon", "同样的，画成蓝色实心图标"]
    languages = Counter(lang for pair in read(pairs[1]) for lang, _ in pair.captions)
    assert languages["en"] == languages["zh"]


def test_the_manifest_says_what_they_are(pairs):
    info = read_manifest(pairs[1]).info
    assert (info["images"], info["tokenizer"]) == (2, "abc")
    # Those that are learnt, first those without a colour.
    assert info["styles"] == [
        *("3D render", "filled icon", "line drawing", "outline icon"),
        *("实心图标", "立体图", "线性图标", "线稿"),
        *("blue filled icon", "blue outline icon", "red outline icon"),
        *("红色线性图标", "蓝色实心图标", "蓝色线性图标"),
    ]
    asked = {text for pair in read(pairs[1]) for _, text in pair.captions}
    assert {caption(style) for style in info["styles"]} == asked


def test_the_source_s_style_and_colour_are_kept(pairs):
    [pair] = [x for x in read(pairs[1]) if x.id.startswith("dog-icon-outline-red")]
    assert pair.meta["style"] == "icon-filled" and pair.meta["color"] == "blue"
    assert pair.meta["source_style"] == "icon-outline"
    assert pair.meta["source_color"] == "red"
    assert pair.meta["source_id"] == "dog-icon-outline-red"


def test_a_draw_is_of_its_seed(coded, pairs, tmp_path):
    every = [pair.id for pair in read(pairs[1])]
    drawn = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build(coded, tmp_path / name, num=4, seed=seed)
        drawn[name] = [pair.id for pair in read(tmp_path / name)]
        assert read_manifest(tmp_path / name).counts == {"train": 4, "val": 2}
    assert drawn["a"] == drawn["b"] != drawn["c"]
    assert len(set(drawn["a"])) == 4 and set(drawn["a"]) < set(every)


def test_the_command(coded, tmp_path, capsys):
    out = tmp_path / "pairs"
    assert cli.main(["data", "pairs", str(coded), "--out", str(out), "--n", "3"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{out}: train 3, val 2, skipped 0"
    assert shown[1].startswith("in no pair: 2 of no concept or of a style")


def test_what_is_refused(coded, pairs, nano_data, tmp_path):
    """In one line, and nothing is written."""
    plain = tmp_path / "plain"
    with DatasetBuilder(plain, CODES, 16, {"train": 1}) as builder:
        builder.write("train", CodedExample("a", np.zeros(4, int), (("en", "a cat"),)))
        for style in ("noto", "fluent-3d"):
            meta = {"concept": f"cat of {style}", "style": style}
            builder.write("train", CodedExample(style, np.zeros(4, int), (), meta))
        builder.finish({"tokenizer": "abc"})
    for source, words in (
        (nano_data, "holds no codes of single images"),
        (pairs[1], "holds no codes of single images"),
        (plain, "split 'train' of .* has no two styles of a concept"),
    ):
        with pytest.raises(UserError, match=words):
            build(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="is not empty|in the way|--overwrite"):
        build(coded, pairs[1])
