import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from cogjax.evaluate.judges.icon_color import colors
from cogjax.worlds.icons.palette import PALETTE, tint


def ring(fill, stroke, width=4, inner=None):
    """A disc of 64 px with an outline, drawn large and made smaller."""
    image = Image.new("RGB", (256, 256), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((40, 40, 216, 216), fill=fill, outline=stroke, width=4 * width)
    if inner:
        draw.rectangle((100, 100, 150, 150), fill=inner)
    return image.resize((64, 64), Image.Resampling.BOX)


def named(*images):
    return colors(np.stack([np.asarray(image) for image in images]))


@pytest.mark.parametrize("name", PALETTE)
def test_outlines_and_flat_areas(name):
    color = PALETTE[name]
    images = [ring(None, color), ring(color, color), ring(color, color, inner="white")]
    assert named(*images) == [name] * 3
    soft = [image.filter(ImageFilter.GaussianBlur(0.8)) for image in images]
    assert named(*soft) == [name] * 3


@pytest.mark.parametrize("name", [name for name in PALETTE if name != "black"])
def test_dark_strokes_do_not_count(name):
    dark = "#333333"
    images = ring(PALETTE[name], dark), ring(PALETTE[name], dark, inner=tint(name))
    assert named(*images) == [name] * 2


def test_blank_paper_has_no_colour():
    assert named(Image.new("RGB", (8, 8), "white")) == [""]


def test_a_wrong_colour_is_wrong():
    names = list(PALETTE)
    images = [ring(PALETTE[name], PALETTE[name]) for name in names]
    found = named(*images)
    assert not any(a == b for a, b in zip(found, names[1:] + names[:1], strict=True))
