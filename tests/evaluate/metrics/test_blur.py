import numpy as np
import pytest
from PIL import Image, ImageFilter

from cogjax.errors import UserError
from cogjax.evaluate.metrics.blur import (
    RADII,
    RULES,
    blur_matrix,
    blurred_fid,
    gaussian_blur,
)
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
# Flat areas with hard edges, as far from a Gaussian's own spectrum as pictures go.
IMAGES = RNG.integers(0, 256, (4, 6, 6, 3)).astype(np.uint8).repeat(12, 1).repeat(11, 2)


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
def test_the_pil_rule_is_pils_filter(radius):
    blurred = gaussian_blur(IMAGES, radius, "pil")
    blur = ImageFilter.GaussianBlur(radius)
    theirs = [np.asarray(Image.fromarray(image).filter(blur)) for image in IMAGES]
    differences = np.abs(blurred.astype(int) - np.stack(theirs))
    assert differences.max() <= 2 and differences.mean() < 0.6


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
def test_the_gaussian_rule_against_the_direct_sum(radius):
    reach = 4 * radius
    taps = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * radius**2))
    taps /= taps.sum()
    row = RNG.uniform(0, 255, 70)
    direct = np.convolve(np.pad(row, reach, mode="edge"), taps, mode="valid")
    np.testing.assert_allclose(blur_matrix(70, radius, "gaussian") @ row, direct, 1e-5)


def test_sigmas_of_the_rules():
    """Deviation of the response to one bright pixel."""

    def sigma(radius, rule):
        weights = blur_matrix(201, radius, rule)[100].astype(np.float64)
        return np.sqrt(np.sum(weights * (np.arange(201) - 100.0) ** 2))

    for radius in (1, 2, 4, 8):
        assert sigma(radius, "pil") == pytest.approx(radius, rel=1e-5)
        assert sigma(radius, "gaussian") == pytest.approx(radius, rel=2e-3)
    # Cut after k pixels, the lafite rule's Gaussian is narrower than its own sigma.
    lafite = blur_matrix(9, 1, "lafite")[4, 3:6]
    beside = np.exp(-1 / (2 * 0.8165**2))
    expected = np.array([beside, 1, beside]) / (1 + 2 * beside)
    np.testing.assert_allclose(lafite, expected, 1e-3)
    # Mirrored, not repeated: pixel 0 sees pixel 1 twice.
    np.testing.assert_allclose(blur_matrix(9, 1, "lafite")[0, 1], 2 * expected[0], 1e-3)


@pytest.mark.parametrize("rule", RULES)
def test_nothing_and_everything(rule):
    np.testing.assert_array_equal(gaussian_blur(IMAGES, 0, rule), IMAGES)
    for level in (0, 77, 255):
        flat = np.full((1, 12, 9, 3), level, np.uint8)
        np.testing.assert_array_equal(gaussian_blur(flat, 8, rule), flat)


def means(images):
    """A stand-in for a network: 12 numbers that see edges."""
    pixels = images.astype(np.float64) / 255
    parts = [pixels, np.abs(np.diff(pixels, axis=1)), np.abs(np.diff(pixels, axis=2))]
    return np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1)


@pytest.mark.parametrize("mode", ["both", "reference"])
def test_blurred_fid(mode):
    images = RNG.integers(0, 256, (40, 16, 16, 3)).astype(np.uint8)
    source = Source("stub:1", "none")
    batches = [images[:25], images[25:]]
    figures = blurred_fid(batches, [images], means, source, mode, "pil")
    assert [f.name for f in figures] == [f"FD-stub-{k}[{mode}]" for k in RADII]
    assert figures[2].source.blur == f"{mode}, pil, radius 2"
    assert [(f.n, f.reference) for f in figures] == [(40, 40)] * 5
    values = [f.value for f in figures]
    if mode == "both":
        np.testing.assert_allclose(values, 0, atol=1e-12)
    else:
        assert values[0] < 1e-12 and values[1] > 1e-3 and values[2] > values[1]


def test_mistakes():
    source = Source("stub", "none")
    with pytest.raises(UserError, match="both or reference"):
        blurred_fid([IMAGES], [IMAGES], means, source, "all", "pil")
    with pytest.raises(UserError, match="no generator"):
        blurred_fid([IMAGES], iter([IMAGES]), means, source, "both", "pil")
    with pytest.raises(UserError, match="empty"):
        blurred_fid([], [IMAGES], means, source, "both", "pil")
    with pytest.raises(UserError, match="expected 0 or more and one of pil"):
        gaussian_blur(IMAGES, 1, "box")
    with pytest.raises(UserError, match="uint8"):
        gaussian_blur(IMAGES / 255, 1, "pil")
