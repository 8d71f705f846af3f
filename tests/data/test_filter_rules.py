"""Rules of captions and images, one by one."""

import pytest

from cogjax.data.filter_rules import Rules, has_special, is_boilerplate, script
from cogjax.data.records import Example
from cogjax.errors import UserError


def why(rules, item):
    """The reasons to drop a caption or an example, all of them."""
    found = rules.of_captions() if isinstance(item, str) else rules.of_images()
    return [reason for reason, drops in found if drops(item)]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("a red apple", "en"),
        ("a café at night", "en"),
        ("a portrait of 李", "en"),
        ("Noto表情", "zh"),
        ("3D 苹果 2", "zh"),
        ("2011", ""),
        ("ねこ", ""),
        ("고양이 한 마리", ""),
        ("красное яблоко, red", ""),
    ],
)
def test_the_language_by_script(text, language):
    assert script(text) == language
    for asked in ("en", "zh"):
        kept = not why(Rules(language=asked), text)
        assert kept == (asked == language)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Photographed on 3 May 2011", True),
        ("photo taken on the hill in May 2011", False),
        ("Image taken on May 3rd, 2011.", True),
        ("photographed in 2011-05-03, a cat", True),
        ("a cat on a chair in a large room, photographed on 2011-05-03", False),
        ("拍摄于2011年5月3日", True),
        ("IMG_1234.jpg", True),
        ("a picture of the moon", False),
        ("图片", False),
    ],
)
def test_boilerplate(text, found):
    assert is_boilerplate(text) == found
    assert why(Rules(boilerplate=False), text) == ["boilerplate"] * found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a cat's “tail” (red), 50% off & more!", False),
        ("一只猫，《红》。", False),
        ("win #1", True),
        ("a cat ©", True),
        ("😀", True),
        ("<b>cat</b>", True),
    ],
)
def test_special_characters(text, found):
    assert has_special(text) == found
    assert why(Rules(special=False), text) == ["special characters"] * found


def test_limits_are_kept_themselves():
    rules = Rules(words=(2, 3), characters=(None, 9))
    assert why(rules, "cat") == ["words below 2"]
    assert why(rules, "a cat") == why(rules, "红苹果") == []
    assert why(rules, "a red cat") == []
    assert why(rules, "红色苹果") == ["words above 3"]
    assert why(rules, "a big cat!") == ["characters above 9"]
    with pytest.raises(UserError, match="words: at least 3 and at most 2"):
        Rules(words=(3, 2))


@pytest.mark.parametrize(
    ("size", "reasons"),
    [
        ((10, 20), []),
        ((20, 10), []),
        ((99, 200), ["aspect ratio below 0.5"]),
        ((201, 100), ["aspect ratio above 2"]),
    ],
)
def test_aspect_ratios(size, reasons):
    meta = dict(zip(("width", "height"), map(str, size), strict=True))
    assert why(Rules(aspect=(0.5, 2)), Example("a", b"", (), meta)) == reasons


@pytest.mark.parametrize("meta", [{}, {"width": "3"}, {"width": "3", "height": "0"}])
def test_an_aspect_ratio_that_was_not_noted(meta):
    with pytest.raises(UserError, match="that a had .* import the images again"):
        why(Rules(aspect=(0.5, 2)), Example("a", b"", (), meta))


def test_banned_sources():
    rules = Rules(banned=("noto", "web"))
    for meta, reasons in (
        ({"source": "web", "style": "flat"}, ["source web"]),
        ({"source": "flickr", "style": "noto"}, []),
        ({"style": "noto"}, ["source noto"]),
        ({}, []),
    ):
        assert why(rules, Example("a", b"", (), meta)) == reasons
