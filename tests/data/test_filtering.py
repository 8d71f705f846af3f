"""A data set and what rules leave of it: examples, splits, counts."""

import json

import numpy as np
import pytest

from cogjax import cli
from cogjax.data import filtering
from cogjax.data.filter_rules import Rules
from cogjax.data.filtering import Similarity, filter_dataset
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example, open_split, read_manifest
from cogjax.errors import UserError

CAPTIONS = {
    "both": ("a red apple", "红苹果"),
    "short": ("apple", "红苹果"),
    "none": ("apple", "猫"),
    "web": ("a red apple", "a green apple"),
    "mute": (),
}


def grey(level):
    return encode_png(np.full((8, 8, 3), level, np.uint8))


def example(name, level=0):
    meta = {"source": "web" if name == "web" else "own"}
    captions = tuple(("", text) for text in CAPTIONS[name])
    return Example(name, grey(level), captions, meta, (("", "what?", name),))


@pytest.fixture
def data(tmp_path):
    shards = {"train": 2, "val": 1, "empty": 1}
    with DatasetBuilder(tmp_path / "set", "icons", 8, shards) as builder:
        for level, name in enumerate(CAPTIONS):
            builder.write("train", example(name, level))
        builder.write("val", example("short"))
        builder.write_text("LICENSES.md", "free\n")
        builder.finish({"licences": "free"})
    return tmp_path / "set"


def keep(data, rules, **settings):
    """The report, and {id: captions} of each split."""
    out = data.parent / "out"
    settings = {"progress": lambda *_: None} | settings
    report = filter_dataset(data, out, rules, **settings)
    found = {}
    for split in report.manifest.counts:
        source = open_split(out, split)
        items = [source[i] for i in range(len(source))]
        found[split] = {x.id: [text for _, text in x.captions] for x in items}
        assert all(x.questions == (("", "what?", x.id),) for x in items)
    return report, found


def test_a_list_ends_with_a_comma(data, tmp_path, capsys):
    """Behind it is no name: the empty one is that of images without a source."""
    words = ["data", "filter", data, "--out", tmp_path / "out", "--ban-source", "web,"]
    assert cli.main(list(map(str, words))) == 0
    info = read_manifest(tmp_path / "out").info["filter"]
    assert info["rules"]["banned"] == ["web"]
    assert "dropped 1 images: source web\n" in capsys.readouterr().out


def test_captions_go_one_by_one_and_splits_stay(data):
    report, found = keep(data, Rules(words=(2, None), banned=("web", "nowhere")))
    assert found == {
        "train": {"both": ["a red apple", "红苹果"], "short": ["红苹果"], "mute": []},
        "val": {"short": ["红苹果"]},
        "empty": {},
    }
    assert report.captions == {"words below 2": 4}
    assert report.images == {"source web": 1, "source nowhere": 0, "no caption left": 1}
    manifest, before = read_manifest(data.parent / "out"), read_manifest(data)
    assert manifest.checksums == report.manifest.checksums
    assert (manifest.kind, manifest.image_size) == ("icons", 8)
    assert manifest.checksums.keys() == before.checksums.keys()
    assert manifest.contents["train"]["captions"] == {"": 3}
    told = {"fingerprint": before.fingerprint, "info": {"licences": "free"}}
    assert manifest.info["source"] == told
    done = manifest.info["filter"]
    assert done["dropped"] == {"captions": report.captions, "images": report.images}
    assert done["rules"]["words"] == [2, None]
    assert (data.parent / "out" / "LICENSES.md").read_text() == "free\n"


def test_the_first_rule_that_is_broken_counts(data):
    rules = Rules(words=(2, None), characters=(6, None), banned=("web",))
    report, _ = keep(data, rules)
    assert report.captions == {"words below 2": 4, "characters below 6": 3}
    assert report.images == {"source web": 1, "no caption left": 3}


def test_captions_that_fit_badly_go(data, monkeypatch):
    """A score is of a caption and its own image, and asked only where it matters."""
    monkeypatch.setattr(filtering, "_CHUNK", 2)
    asked = []

    def score(images, texts):
        levels = [int(image[0, 0, 0]) for image in images]
        asked.extend(zip(levels, texts, strict=True))
        return np.array([i + len(text) for i, text in zip(levels, texts, strict=True)])

    fit = Similarity(score, 14)
    report, found = keep(data, Rules(words=(2, None)), similarity=fit)
    train = [(0, "a red apple"), (0, "红苹果"), (1, "红苹果")]
    train += [(3, "a red apple"), (3, "a green apple")]
    assert asked == [*train, (0, "红苹果")]
    assert found["train"] == {
        "both": ["a red apple", "红苹果"],
        "short": ["红苹果"],
        "web": ["a red apple"],
        "mute": [],
    }
    assert report.captions == {"words below 2": 4, "score above 14": 1}
    assert report.manifest.info["filter"]["rules"]["score"] == 14


def test_nothing_left_is_an_error_that_writes_nothing(data):
    rules = Rules(words=(9, None), banned=("own",))
    with pytest.raises(
        UserError, match=r"leave no image \(2 words below 9, 5 source own"
    ):
        keep(data, rules)
    assert not (data.parent / "out").exists()


def test_a_folder_in_the_way(data):
    with pytest.raises(UserError, match="is or holds"):
        filter_dataset(data, data, Rules(), overwrite=True, progress=None)


def test_the_command(data, capsys, tmp_path):
    out = str(tmp_path / "out")
    command = ["data", "filter", str(data), "--out", out]
    assert cli.main([*command, "--min-words", "2", "--ban-source", "web"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dropped 4 captions: words below 2",
        "dropped 1 images: source web",
        "dropped 1 images: no caption left",
        f"{out}: train 3, val 1, empty 0",
    ]
    words = ["--overwrite", "--language", "zh", "--no-special", "--no-boilerplate"]
    assert cli.main([*command, *words, "--max-characters", "2"]) == 0
    rules = json.loads((tmp_path / "out/manifest.json").read_text())["info"]["filter"]
    assert rules["rules"] == {
        "words": [None, None],
        "characters": [None, 2],
        "language": "zh",
        "boilerplate": False,
        "special": False,
        "aspect": [None, None],
        "banned": [],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is no rule: give at least one"),
        (["--model", "emoji"], "--model MODEL and --max-score S go together"),
        (["--max-score", "3"], "--model MODEL and --max-score S go together"),
        (["--aspect", "2", "0.5"], "aspect: at least 2 and at most 0.5"),
        (["--aspect", "0.5", "2"], "the width and height that both had"),
    ],
)
def test_mistakes(data, capsys, tmp_path, words, message):
    out = tmp_path / "out"
    assert cli.main(["data", "filter", str(data), "--out", str(out), *words]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
