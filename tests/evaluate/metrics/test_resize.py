import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.evaluate.metrics.resize import RULES, resize, resize_matrix

RNG = np.random.default_rng(0)
# Noise has every overshoot; a photograph has fewer.
IMAGES = RNG.integers(0, 256, (2, 40, 33, 3)).astype(np.uint8)
SIZES = [(47, 51), (17, 20), (40, 33)]


def by_pil(image, size, filter_, quantised):
    """clean-fid resizes each channel in float, all else a picture of uint8."""
    if quantised:
        return np.asarray(Image.fromarray(image).resize(size[::-1], filter_))
    channels = [
        Image.fromarray(channel).resize(size[::-1], filter_)
        for channel in np.moveaxis(image.astype(np.float32), -1, 0)
    ]
    return np.clip(np.stack([np.asarray(c) for c in channels], -1), 0, 255)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("rule", "filter_", "quantised"),
    [
        ("clean_bicubic", Image.Resampling.BICUBIC, False),
        ("pil_bicubic", Image.Resampling.BICUBIC, True),
        ("pil_bilinear", Image.Resampling.BILINEAR, True),
    ],
)
def test_against_pil(rule, filter_, quantised, size):
    ours = resize(IMAGES, size, rule)
    assert ours.dtype == np.float32
    theirs = np.stack([by_pil(image, size, filter_, quantised) for image in IMAGES])
    differences = np.abs(ours - theirs)
    if quantised:
        # A level where fixed-point weights turn a tie.
        assert differences.max() <= 1 and np.mean(differences > 0) < 0.01
    else:
        assert differences.max() < 2e-4


def tf1_by_hand(row, new):
    scale = len(row) / new
    out = []
    for i in range(new):
        low = int(i * scale)
        high = min(low + 1, len(row) - 1)
        out.append(row[low] + (row[high] - row[low]) * (i * scale - low))
    return np.array(out)


def test_tf1_puts_corners_at_whole_pixels():
    row = RNG.uniform(0, 255, 29)
    for new in (10, 29, 64):
        matrix = resize_matrix(29, new, "tf1_bilinear")
        np.testing.assert_allclose(matrix @ row, tf1_by_hand(row, new), rtol=1e-4)


def test_torch_has_half_pixels_and_reads_two_of_them_however_much_it_reduces():
    up = resize_matrix(2, 4, "torch_bilinear")
    np.testing.assert_allclose(up, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    down = resize_matrix(8, 2, "torch_bilinear")
    np.testing.assert_allclose(down[0], [0, 0.5, 0.5, 0, 0, 0, 0, 0])
    assert np.count_nonzero(resize_matrix(8, 2, "pil_bilinear")[0]) > 2


@pytest.mark.parametrize("rule", RULES)
def test_a_flat_picture_stays_flat_and_one_of_the_right_size_the_same(rule):
    np.testing.assert_allclose(resize(IMAGES, (40, 33), rule), IMAGES, atol=1e-4)
    if rule != "none":
        flat = np.full((1, 9, 9, 1), 255, np.uint8)
        larger = resize(flat, 14, rule)
        assert larger.shape == (1, 14, 14, 1)
        np.testing.assert_allclose(larger, 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("images", "rule", "message"),
    [
        (IMAGES, "bilinear", "expected one of torch_bilinear"),
        (IMAGES, "none", "needs images of 9 x 9, got 40 x 33"),
        (IMAGES[0], "tf1_bilinear", "must be"),
        (IMAGES / 2, "pil_bicubic", "is of uint8"),
    ],
)
def test_mistakes(images, rule, message):
    with pytest.raises(UserError, match=message):
        resize(images, 9, rule)
