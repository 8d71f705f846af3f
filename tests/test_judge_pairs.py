"""The judge of models of pairs, with features whose answers are known."""

from types import SimpleNamespace

import numpy as np
import pytest

from cogjax.data.codes import CodedExample
from cogjax.data.records import Example
from cogjax.evaluate.judges import icon_net
from cogjax.evaluate.judges.gallery import make_gallery
from cogjax.evaluate.judges.icons import IconJudges, item_of
from cogjax.worlds.pairs import caption
from tests.scripts import load_script

NUM = 60
STYLES = ("noto", "fluent-3d", "fluent-mono", "icon-outline")
RNG = np.random.default_rng(0)
# What is alike: the first two styles, and the last two.
SHAPES = RNG.normal(size=(2, NUM, 16))


def example(concept, style):
    color = "red" if style == "icon-outline" else ""
    meta = {"concept": f"{concept:02}", "style": style, "color": color}
    return Example(f"{style}-{concept}", b"", (), meta)


EXAMPLES = [example(i, style) for i in range(NUM) for style in STYLES]


def features(images):
    """Features that hold a concept and which of the two sides it looks like."""
    return np.stack([SHAPES[image[0, 0, 1], image[0, 0, 0]] for image in images])


def image(concept, side):
    return np.array([[[concept, side, 0]]], np.uint8)


@pytest.fixture
def script():
    return load_script("dalle/judge_pairs.py")


@pytest.fixture
def judges():
    items = sorted((item_of(x) for x in EXAMPLES), key=lambda x: (x.concept, x.style))
    thumbnails = RNG.random((len(items), 256)).astype(np.float32)
    sides = [STYLES.index(item.style) // 2 for item in items]
    known = np.stack(
        [
            SHAPES[side, int(item.concept)]
            for item, side in zip(items, sides, strict=True)
        ]
    )
    names = ("efflite0", "icon_net")
    return IconJudges(
        make_gallery(items, thumbnails),
        dict.fromkeys(names, features),
        dict.fromkeys(names, known),
    )


def test_the_source_is_no_proof_of_its_concept(script, judges, monkeypatch):
    """Asked for "3D" of "noto", which are alike: the other styles must be found."""
    found = ["fluent-3d"] * (NUM // 2) + ["noto"] * (NUM // 2)
    monkeypatch.setattr(icon_net, "styles", lambda images: np.array(found))
    pairs = [
        script.Pair(example(i, "noto"), example(i, "fluent-3d"), "3D render")
        for i in range(NUM)
    ]
    columns = {
        "copied": np.stack([image(i, 0) for i in range(NUM)]),
        "right": np.stack([image(i, 1) for i in range(NUM)]),
    }
    hits = script.judge(judges, pairs, columns)
    assert hits["right"]["concept_top5_both"].mean() == 1
    assert hits["copied"]["concept_top5_both"].mean() < 0.3
    assert judges.hits(columns["copied"], [pair.target for pair in pairs])[
        "concept_top5_both"
    ].all()
    for found in hits.values():
        assert found["style"].mean() == 0.5 and np.isnan(found["color"]).all()
    assert hits["right"]["style_and_concept"].mean() == 0.5


def test_pairs_are_asked_for_in_words_of_the_target(script):
    """English and Chinese in turn, the colour named."""
    styles = ("line drawing", "outline icon", "线性图标", "red outline icon")
    styles += ("红色线性图标",)
    pairs = [
        CodedExample(
            f"noto-{i}--icon-outline-{i}",
            np.zeros(2, int),
            tuple((lang, caption(styles[place])) for lang, place in texts),
            {"source_id": f"noto-{i}"},
        )
        for i, texts in enumerate([[("en", 1), ("zh", 2), ("en", 3), ("zh", 4)]] * 6)
    ]
    named = {x.id: x for x in EXAMPLES}
    found = script.draw(pairs, named, styles, 4, 0)
    assert [pair.style for pair in found] == ["red outline icon", "红色线性图标"] * 2
    concepts = [pair.source.meta["concept"] for pair in found]
    assert len(set(concepts)) == 4
    for pair in found:
        assert pair.source.meta["style"] == "noto"
        assert pair.target.meta["style"] == "icon-outline"
        assert pair.target.meta["concept"] == pair.source.meta["concept"]
    # What is held out has no words.
    some = script.draw(pairs, named, styles[:-2], 4, 0)
    assert some == []
    again = script.draw(pairs, named, styles, 4, 0)
    assert [x.source.id for x in again] == [x.source.id for x in found]


def test_all_pairs_are_generated_in_order(script, monkeypatch):
    from cogjax.data.images import encode_png

    monkeypatch.setattr(script, "_CHUNK", 2)
    asked = []

    def generate(image, style, num_images):
        assert num_images == 1
        asked.extend(style)
        return SimpleNamespace(pixels=np.stack(image)[:, None])

    pairs = [
        script.Pair(
            Example(str(i), encode_png(np.full((4, 4, 3), i, np.uint8)), ()),
            None,
            f"{i}",
        )
        for i in range(5)
    ]
    model = SimpleNamespace(generate=generate)
    found = script.generate(model, pairs, lambda *_: None)
    assert found[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert asked == ["0", "1", "2", "3", "4"]
