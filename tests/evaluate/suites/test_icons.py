"""The suite of icons with models whose answers are known, and with a real small one."""

from types import SimpleNamespace

import numpy as np
import pytest

from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example
from cogjax.errors import UserError
from cogjax.evaluate.judges import icon_net
from cogjax.evaluate.judges.labelled import load
from cogjax.evaluate.suites import icons
from cogjax.evaluate.suites.icons import IconsSuite
from cogjax.evaluate.suites.run import run
from cogjax.pipelines.contracts import Generation
from cogjax.worlds.icons.palette import CHINESE, PALETTE
from cogjax.worlds.icons.splits import SPLITS, Item
from tests.conftest import make_nano_model

SIZE, NUM = 32, 24
EMOJI, THEMES = ("noto", "twemoji"), ("icon-outline", "icon-filled")
COLORS = ("red", "blue", "green")


# How each style fills the places of a concept, in a cell of 4 pixels.
CELLS = {style: np.zeros((4, 4), bool) for style in (*EMOJI, *THEMES)}
CELLS["noto"][:3, :2] = CELLS["twemoji"][:2, :3] = CELLS["icon-filled"][:3, :3] = True
CELLS["icon-outline"][:3, :3] = [[1, 1, 1], [1, 0, 1], [1, 1, 1]]


def draw(item):
    mask = np.random.default_rng(int(item.concept)).random((8, 8)) < 0.4
    filled = np.kron(mask, CELLS[item.style]).astype(bool)
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    image[filled] = PALETTE[item.color or "brown"]
    return image


def example(item):
    labels = {"en": f"thing {item.concept}", "zh": f"东西{item.concept}"}
    words = {"en": item.color, "zh": CHINESE.get(item.color, "")}
    texts = [(x, labels[x]) for x in labels]
    texts += [(x, f"{words[x]}|{labels[x]}|{item.style}") for x in labels]
    texts += [(x, f"{labels[x]}|{item.style}") for x in labels]
    meta = {"concept": item.concept, "style": item.style, "color": item.color}
    meta |= {f"label_{language}": label for language, label in labels.items()}
    name = "-".join(part for part in (item.style, item.concept, item.color) if part)
    return Example(name, encode_png(draw(item)), tuple(texts), meta)


def split_of(item):
    number = int(item.concept)
    if number >= 20:
        return "val"
    if (item.style, item.color) == ("icon-outline", "green"):
        return "combinations"
    if number % 5 == 1 and item.style == "noto":
        return "pairs"
    return "colors" if number % 5 == 2 and item.color == "blue" else "train"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("data") / "set"
    with DatasetBuilder(out, "icons", SIZE, dict.fromkeys(SPLITS, 1)) as builder:
        for concept in range(NUM):
            names = f"{concept:02}"
            items = [Item(names, style) for style in EMOJI]
            items += [Item(names, theme, c) for theme in THEMES for c in COLORS]
            for item in items:
                builder.write(split_of(item), example(item))
        builder.finish({})
    return str(out)


@pytest.fixture
def examples(data):
    return [e for split in load(data, SPLITS).values() for e in split]


def steep(axis):
    """Features of images: where darkness falls steeply, in 8 x 8 cells."""

    def features(images):
        dark = 1 - images.astype(np.float32).mean(-1) / 255
        dark /= np.maximum(dark.max((1, 2), keepdims=True), 0.1)
        edges = np.abs(np.roll(dark, 1, axis) - dark) > 0.6
        cell = images.shape[1] // 8
        return edges.reshape(-1, 8, cell, 8, cell).mean((2, 4)).reshape(-1, 64)

    return features


@pytest.fixture(autouse=True)
def small_judges(monkeypatch, tmp_path, examples):
    """Judges without weights, and an empty cache; returns how many images they saw."""
    seen = []

    class Extractor:
        id = "efflite0:1234"

        def __call__(self, images):
            seen.append(len(images))
            return steep(1)(images)

    known = {draw(icons.item_of(e)).tobytes(): e.meta["style"] for e in examples}
    monkeypatch.setattr(icons, "make_extractor", lambda name: Extractor())
    monkeypatch.setattr(icon_net, "features", steep(2))
    monkeypatch.setattr(icon_net, "digest", lambda: "5678")
    monkeypatch.setattr(
        icon_net,
        "styles",
        lambda images: np.array([known.get(x.tobytes(), "") for x in images]),
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return seen


class Painter:
    """Generates what `wanted(example)` is for the example of a prompt.

    Its tokenizer is without loss. It knows the labels of images, moved on by `mistake`.
    """

    image_size, num_codes, batch_size = SIZE, 1000, 4

    def __init__(self, examples, wanted=lambda item: item, mistake=0):
        self.images, self.labels, self.prompts, self.wanted = [], [], {}, wanted
        for e in examples:
            item = icons.item_of(e)
            self.prompts |= {text: item for _, text in e.captions[2:]}
            other = f"{(int(item.concept) + mistake) % NUM:02}"
            self.images.append(draw(item).tobytes())
            self.labels.append({f"thing {other}", f"东西{other}"})

    def encode(self, pixels):
        found = []
        for image in pixels:
            if image.tobytes() not in self.images:
                self.images.append(image.tobytes())
                self.labels.append(set())
            found.append(self.images.index(image.tobytes()))
        return np.array(found, np.int32)[:, None, None]

    def decode(self, codes):
        shape = (SIZE, SIZE, 3)
        images = [np.frombuffer(self.images[c], np.uint8) for c in codes.reshape(-1)]
        return np.stack([image.reshape(shape) for image in images])

    def generate(self, prompts, num_images, seed):
        drawn = [draw(self.wanted(self.prompts[text])) for text in prompts]
        pixels = np.stack(drawn).repeat(num_images, 0)
        codes = self.encode(pixels).reshape(len(prompts), num_images, 1, 1)
        return Generation(tuple(prompts), pixels, codes)

    def score_codes(self, codes, texts):
        pairs = zip(codes.reshape(-1), texts, strict=True)
        return np.array([text not in self.labels[code] for code, text in pairs], float)


def evaluate(model, data, n=40):
    return run(IconsSuite(data, n, best_of=2), model, out=None, identity={}, about={})


def shares(report, split, column):
    found = report[f"generation_{split}"][column]
    return {name: entry["all"]["share"] for name, entry in found.items()}


def test_real_images_reach_the_ceiling_and_controls_fall(data, examples):
    report = evaluate(Painter(examples), data)
    for split in SPLITS:
        ceiling = shares(report, split, "real_through_tokenizer")
        assert shares(report, split, "best_of_2") == ceiling
        assert ceiling["style"] == 1
        assert ceiling["concept_top5_both"] > 0.9
        assert report[f"captions_{split}"]["right_of_20"]["zh"]["share"] == 1
        relative = shares(report, split, "share_of_ceiling")
        assert relative["concept_top1_both"] == 1
    assert shares(report, "colors", "best_of_2")["color"] == 1
    assert report["generation_pairs"]["best_of_2"]["color"]["all"]["n"] == 0
    judged = report["generation_train"]["best_of_2"]["style"]
    assert judged["en"]["n"] == judged["zh"]["n"] == 20
    for control in ("blurred", "mean_color"):
        for judge in ("efflite0", "icon_net", "both"):
            found = report["controls"][control][f"concept_top1_{judge}"]["all"]
            assert found["share"] < 0.15, (control, judge)
    assert report["gallery"]["concepts"] == NUM
    assert report["gallery"]["drawings"] == 4 * NUM


def test_a_wrong_concept_falls(data, examples):
    def next_one(item):
        return Item(f"{(int(item.concept) + 1) % NUM:02}", item.style, item.color)

    report = evaluate(Painter(examples, next_one, mistake=1), data)
    found = shares(report, "train", "best_of_2")
    assert found["concept_top1_both"] < 0.1
    assert found["style"] == 1 and found["color"] == 1
    assert shares(report, "train", "real_through_tokenizer")["concept_top1_both"] > 0.8
    assert report["captions_train"]["right_of_20"]["all"]["share"] < 0.15


def test_a_wrong_colour_falls_and_the_concept_stays(data, examples):
    def recolored(item):
        return Item(item.concept, item.style, item.color and "purple")

    report = evaluate(Painter(examples, recolored), data)
    found = shares(report, "colors", "best_of_2")
    assert found["color"] == 0
    ceiling = shares(report, "colors", "real_through_tokenizer")
    assert found["concept_top1_both"] == ceiling["concept_top1_both"]


def test_prompts_name_the_colour_and_no_label_alone(examples):
    rng = np.random.default_rng(0)
    colored = [e for e in examples if e.meta["color"]]
    for e in colored[:40]:
        assert icons.prompt(e, "en", rng).startswith(e.meta["color"])
        assert icons.prompt(e, "zh", rng).startswith(CHINESE[e.meta["color"]])
    plain = next(e for e in examples if not e.meta["color"])
    assert icons.prompt(plain, "en", rng).count("|") >= 1


def test_features_of_the_gallery_are_kept(examples, small_judges):
    quiet = lambda done, total, label: None  # noqa: E731
    first = icons.make_judges(examples, quiet)
    assert sum(small_judges) == 4 * NUM
    again = icons.make_judges(examples, quiet)
    assert sum(small_judges) == 4 * NUM
    np.testing.assert_array_equal(first.known["efflite0"], again.known["efflite0"])


def test_other_data_is_refused(tmp_path):
    with DatasetBuilder(tmp_path / "set", "emoji", 8, {"train": 1}) as builder:
        builder.finish({})
    with pytest.raises(UserError, match="no set of icons"):
        IconsSuite(str(tmp_path / "set")).check(SimpleNamespace())


def test_a_real_small_model(data, tmp_path):
    """From a model that knows nothing to a page, twice from the same folder."""
    model = make_nano_model()
    suite = IconsSuite(data, n=2, best_of=2, sheet=str(tmp_path / "sheet.png"))
    out = tmp_path / "out"
    report = run(suite, model, out=out, identity={}, about={"model": "nano"})
    found = report["generation_val"]["best_of_2"]["concept_top5_both"]["all"]
    assert found["n"] == 2 and found["interval"][0] <= found["share"]
    page = (out / "report.html").read_text(encoding="utf-8")
    for title in icons.TITLES.values():
        assert title in page
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    model.generate = None  # All that it made is kept.
    again = run(suite, model, out=out, identity={}, about={"model": "nano"})
    np.testing.assert_equal(again, report)


def test_what_a_tokenizer_kept_is_recognised(data, nano_data):
    quiet = lambda done, total, label: None  # noqa: E731
    judge = icons.recognition(data, "pairs", quiet)
    shown = [icons.item_of(e) for e in load(data, SPLITS)["pairs"]]
    assert np.nanmean(judge(np.stack([draw(item) for item in shown[:3]]))) == 1
    others = [Item(f"{(int(item.concept) + 7) % NUM:02}", item.style) for item in shown]
    assert np.nanmean(judge(np.stack([draw(item) for item in others]))) < 0.5
    with pytest.raises(UserError, match="no split 'test': give one of train"):
        icons.recognition(data, "test", quiet)
    with pytest.raises(UserError, match="is no set of icons"):
        icons.recognition(str(nano_data), "train", quiet)
