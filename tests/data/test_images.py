import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cogjax.data import images
from cogjax.data.images import (
    as_square,
    decode_image,
    encode_png,
    stack_squares,
    stack_squeezed,
)
from cogjax.errors import UserError


def encoded(image, kind="PNG", **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def claiming(width, height):
    """A PNG of a few bytes whose header claims any size."""

    def chunk(name, body):
        crc = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", crc)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"x") + chunk(b"IEND", b"")


WHOLE = encoded(Image.effect_noise((40, 40), 50), "JPEG")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\nshowpage\n"
BROKEN = {
    "empty": (b"", "the file is empty"),
    "random": (np.random.default_rng(0).bytes(500), "of no known format"),
    "html": (b"\n<!DOCTYPE html><html></html>", "it is an HTML page"),
    "html2": (b"<html><body>404</body>", "it is an HTML page"),
    "svg": (b"<svg xmlns='x' width='1' height='1'/>", "it is an SVG drawing"),
    "svg2": (b"<?xml version='1.0'?>\n<svg/>", "it is an SVG drawing"),
    "entities": (b"<!DOCTYPE svg [<!ENTITY a 'b'>]><svg>&a;</svg>", "SVG drawing"),
    "huge svg": (b"<svg width='100000' height='100000'/>", "it is an SVG drawing"),
    "eps": (EPS, "of no known format"),
    "bomb": (claiming(10_000, 10_000), "10000 x 10000 pixels, at most 89478485"),
    "bomb2": (claiming(14_000, 14_000), "too many pixels, at most"),
    "bomb3": (claiming(2**31 - 1, 2**31 - 1), "at most|not a readable"),
    "a strip": (claiming(1, 89_000_000), "at most 65536 a side"),
    "floats": (encoded(Image.fromarray(np.ones((4, 4), "f4")), "TIFF"), "are floats"),
    "32 bits": (encoded(Image.fromarray(np.ones((4, 4), "i4")), "TIFF"), "are 32 bits"),
    "no pixels": (claiming(0, 0), "not a readable image"),
    "wrong data": (claiming(8, 8), "not a readable image"),
    "text": ("一只猫".encode(), "of no known format"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "of no known format"),
    "npy": (b"\x93NUMPY\x01\x00", "of no known format"),
} | {f"cut at {n}": (WHOLE[:n], "not a readable") for n in (2, 10, 100, 300, 500)}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("size", [None, 8])
def test_broken_pictures_have_a_reason(name, size):
    data, reason = BROKEN[name]
    with pytest.raises(UserError, match=reason) as caught:
        decode_image(data, size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    pixels = decode_image(encoded(Image.new(mode, (6, 4)), kind), 4)
    assert pixels.dtype == np.uint8 and pixels.shape == (4, 4, 3)


def test_16_bit_grey_is_scaled():
    grey = np.array([[0, 257 * 100, 65535]], np.uint16)
    pixels = decode_image(encoded(Image.fromarray(grey)))
    np.testing.assert_array_equal(pixels[0, :, 0], [0, 100, 255])


@pytest.mark.parametrize("palette", [False, True])
def test_transparency_is_white(palette):
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 2, 4))
    data = encoded(image.quantize(4) if palette else image)
    pixels = decode_image(data)
    assert pixels[0, 0].tolist() == [0, 0, 255]
    assert pixels[0, 3].tolist() == [255, 255, 255]


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 4), c) for c in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("side", [8, 4400])
def test_exif_turns_the_picture(side):
    # Orientation 6 is a quarter turn: what was left is above. Both with and without
    # the first, rough shrinking of huge pictures.
    image = Image.new("RGB", (side, side), "white")
    image.paste((0, 0, 0), (0, 0, side // 2, side))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode_image(encoded(image, "JPEG", exif=exif), 8)
    assert pixels[1].max() < 30 and pixels[6].min() > 225


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_opened_picture_is_turned_as_its_file(kind, orientation):
    image = Image.effect_noise((12, 8), 50).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    found = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(as_square(found, 8), decode_image(data, 8))
    assert images.upright_size(found) == images.on_white(found).size


def test_huge_pictures_shrink_to_the_same(monkeypatch):
    monkeypatch.setattr(images, "_HUGE", 1 << 20)
    y, x = np.mgrid[:1050, :1050] / 1050
    huge = Image.fromarray((np.stack([y, x, y * x], -1) * 255).astype(np.uint8))
    small = np.asarray(huge.resize((16, 16), Image.Resampling.LANCZOS))
    found = decode_image(encoded(huge, "JPEG", quality=95), 16)
    assert np.abs(found.astype(int) - small).max() <= 4


@pytest.mark.parametrize("shape", [(20_000, 2), (2, 20_000), (1, 1), (9, 5)])
def test_shorter_side_and_centre_crop(shape):
    image = Image.new("RGB", shape, "red")
    image.paste((0, 0, 255), (0, 0, shape[0] // 4, shape[1] // 4))
    pixels = decode_image(encoded(image), 6)
    assert pixels.shape == (6, 6, 3)
    assert (pixels[3, 3] == [255, 0, 0]).all()


def test_png_keeps_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encode_png(pixels)), pixels)


def test_squares_of_one_or_more_pictures():
    image = Image.new("RGB", (9, 5), "red")
    assert stack_squares(image, 4).shape == (1, 4, 4, 3)
    assert stack_squares([image, np.asarray(image)], 4).shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(as_square(image, 4), as_square(np.array(image), 4))
    with pytest.raises(UserError, match="no image"):
        stack_squares([], 4)


def test_what_is_lost_is_counted():
    grey = np.full((8, 8), 40_000, np.uint16)
    turned = Image.new("RGB", (8, 8))
    turned.getexif()[0x0112] = 6
    red, clear = Image.new("RGB", (8, 8), "red"), Image.new("RGBA", (8, 8))
    cases = {
        images.ALPHA: encoded(clear),
        images.DEEP: encoded(Image.fromarray(grey)),
        images.TURNED: encoded(turned, exif=turned.getexif()),
        images.CMYK: encoded(Image.new("CMYK", (8, 8)), "TIFF"),
        images.ANIMATED: encoded(
            red, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]
        ),
        images.CROPPED: encoded(Image.new("RGB", (40, 8))),
        images.ENLARGED: encoded(Image.new("RGB", (4, 4))),
        "": encoded(Image.new("RGBA", (8, 8), "red")),
    }
    for reason, data in cases.items():
        notes = Counter()
        decode_image(data, 8, notes)
        assert +notes == ({reason: 1} if reason else {})


def test_a_file_and_its_opened_image_give_the_same():
    image = Image.effect_noise((16, 8), 50).convert("RGB")
    image.getexif()[0x0112] = 6
    data = encoded(image, exif=image.getexif())
    found = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(as_square(found, 8), decode_image(data, 8))
    assert images.upright_size(found) == images.on_white(found).size
    with pytest.raises(UserError, match="floats"):
        as_square(Image.fromarray(np.ones((4, 4), "f4")), 8)


def test_padding_shows_all_of_an_image_and_cropping_its_middle():
    half = Image.new("RGB", (40, 10), "red")
    half.paste("blue", (20, 0, 40, 10))
    notes = Counter()
    padded = decode_image(encoded(half), (16, 16), notes, pad=True)
    assert +notes == {images.PADDED: 1}
    assert (padded[[0, 5, 10, 15]] == 255).all()  # White above and below.
    assert (padded[8, 0] == (255, 0, 0)).all() and (padded[8, 15] == (0, 0, 255)).all()
    cropped = decode_image(encoded(half), (4, 8))
    assert cropped.shape == (4, 8, 3)
    assert (cropped[:, 0] == (255, 0, 0)).all() and (cropped[:, 7] == (0, 0, 255)).all()
    notes = Counter()
    decode_image(encoded(half), (4, 16), notes, pad=True)
    assert not +notes  # It has that shape.


def test_the_header_of_a_png_says_its_shape():
    assert images.png_shape(encoded(Image.new("RGB", (40, 10)))) == (10, 40)
    assert images.png_shape(encoded(Image.new("RGB", (40, 10)), "JPEG")) is None
    assert images.png_shape(b"") is None


def test_a_squeezed_image_has_its_ends():
    """Squares are as of `stack_squares`, bitwise."""
    square = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    found = stack_squeezed(square, 16)
    np.testing.assert_array_equal(found, stack_squares(square, 16))
    wide = np.zeros((24, 72, 3), np.uint8)
    wide[:, :18], wide[:, 54:] = 255, 255
    [found] = stack_squeezed([wide], 16)
    assert found[:, :3].min() > 250 < found[:, 13:].min() and found[:, 6:10].max() < 5
    assert stack_squares([wide], 16).max() < 5
