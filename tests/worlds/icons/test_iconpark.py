import json

import pytest

from cogjax.errors import UserError
from cogjax.worlds.emoji.captions import Concept
from cogjax.worlds.icons import iconpark
from cogjax.worlds.icons.captions import captions
from cogjax.worlds.icons.concepts import emoji_concepts, join
from cogjax.worlds.icons.palette import CHINESE, PALETTE, hex_color, tint
from tests.worlds.icons import archives


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm")
    archives.make(folder)
    return iconpark.read_icons(folder)


def test_icons_are_read_and_logos_are_counted(icons):
    found, left_out = icons
    assert [icon.name for icon in found] == ["cat", "cake-two", "cake"]
    assert left_out == {"company logo": 1, "no drawing": 0}


def test_an_icon_without_a_drawing_is_counted(tmp_path):
    archives.make(tmp_path)
    rows = [
        {"name": n, "title": t, "tag": g, "category": c}
        for n, t, g, c in archives.ICONS
    ]
    files = {"icons.json": rows, "es/icons/Cat.js": archives.script("cat")}
    archives.pack(tmp_path, iconpark.PACKAGE, files)
    found, left_out = iconpark.read_icons(tmp_path)
    assert [icon.name for icon in found] == ["cat"] and left_out["no drawing"] == 2


@pytest.mark.parametrize(
    "rows", [[], [{"name": "x", "title": "", "tag": [], "category": "Brand"}]]
)
def test_an_archive_without_icons_fails_with_a_count(tmp_path, rows):
    archives.pack(tmp_path, iconpark.PACKAGE, {"icons.json": json.dumps(rows)})
    with pytest.raises(UserError, match="gave 0 icons"):
        iconpark.read_icons(tmp_path)


def test_themes_mix_the_colours_as_iconpark_does(icons):
    cat = icons[0][0]
    red, light = hex_color("red"), tint("red")
    expected = {
        "icon-outline": ("none", red, red),
        "icon-filled": (red, red, "#ffffff"),
        "icon-two-tone": (red, "#333333", "#333333"),
        "icon-multi-color": (red, "#333333", "#ffffff"),
    }
    for theme, (fill, stroke, inner) in expected.items():
        svg = iconpark.draw(cat, theme, "red").decode()
        assert f'fill="{fill}" stroke="{stroke}" stroke-width="4"' in svg
        assert svg.endswith(f'<path d="M20 24H28" stroke="{inner}"/></svg>')
        assert "props" not in svg and "+" not in svg
    assert light == "#f3a6a6"  # 224 + 0.6 * 31 = 242.6, 32 + 0.6 * 223 = 165.8


def test_themes_that_would_look_alike_are_left_out(icons):
    cat, filled, strokes = icons[0]
    assert iconpark.themes_of(cat) == iconpark.THEMES
    # Without inner lines multi-colour is two-tone.
    assert iconpark.themes_of(filled) == iconpark.THEMES[:3]
    # Without fills there is nothing but the outline.
    assert iconpark.themes_of(strokes) == iconpark.THEMES[:1]


def test_concepts_are_joined_by_their_english_names(icons):

    cat = Concept("1f408", "cat", "猫", (), (), "animals-nature")
    concepts, keys = join({"1f408": cat}, icons[0])
    assert keys == {"cat": "1f408", "cake-two": "icon-cake-two", "cake": "icon-cake"}
    assert concepts["1f408"] is cat
    # The two cakes have one title: the second gets the next free number.
    assert concepts["icon-cake-two"].label_zh == "蛋糕"
    assert concepts["icon-cake"].label_zh == "蛋糕二"
    assert concepts["icon-cake-two"].label_en == "cake two"
    assert concepts["icon-cake-two"].tags_zh == ("甜点",)


def test_labels_that_two_emoji_share_are_told_apart():

    twins = [
        Concept(k, en, "花", (), (), "x") for k, en in (("a", "rose"), ("b", "lily"))
    ]
    found = emoji_concepts(twins)
    assert [c.label_zh for c in found.values()] == ["花", "花（lily）"]


def test_captions_name_thing_colour_and_theme():

    cat = Concept("1f408", "cat", "猫", (), ("宠物",), "x")
    found = captions(cat, "icon-two-tone", "blue")
    assert ("en", "a blue cat, two-tone icon") in found
    assert ("zh", "蓝色的猫，双色图标") in found
    assert ("zh", "猫，宠物，蓝色双色图标") in found
    assert ("en", "an orange cat, filled icon") in captions(
        cat, "icon-filled", "orange"
    )
    for language, label, theme, color in (
        ("en", "cat", "two-tone icon", "blue"),
        ("zh", "猫", "双色图标", "蓝色"),
    ):
        texts = [text for lang, text in found if lang == language]
        assert texts[0] == label and all(label in text for text in texts)
        assert all(theme in text for text in texts[1:])
        # One caption leaves the colour open.
        assert sum(color not in text for text in texts[1:]) == 1


def test_every_colour_has_its_words():
    assert set(CHINESE) == set(PALETTE) and len(set(CHINESE.values())) == len(CHINESE)
