"""Two sets of images by networks that are no networks: values, and why not."""

import numpy as np
import pytest

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.evaluate.metrics.blur import blurred_fid
from cogjax.evaluate.metrics.frechet import Moments, fid
from cogjax.evaluate.metrics.inception_score import inception_score
from cogjax.evaluate.metrics.mmd import cmmd, kid
from cogjax.evaluate.metrics.precision_recall import precision_recall
from cogjax.evaluate.metrics.psnr_ssim import psnr, ssim
from cogjax.evaluate.metrics.result import Source
from cogjax.evaluate.suites.image_sets import open_set
from cogjax.evaluate.suites.set_metrics import Networks, measure

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (24, 16, 16, 3), np.uint8)
NEAR = np.clip(PIXELS.astype(int) + RNG.integers(-20, 20, PIXELS.shape), 0, 255)


class Means:
    """Features: means of the channels; logits: three of the pixels."""

    id, resize = "means:1", "none"

    def __init__(self, classes=True):
        self.classes = classes

    def __call__(self, images):
        return images.astype(float).mean((1, 2))

    def outputs(self, images):
        logits = images[:, 0, :3, 0].astype(float) / 64
        return self(images), logits if self.classes else None

    def without_bias(self, logits):
        return logits - 1

    def text(self, captions):
        return np.array([[len(text), 1.0, 2.0] for text in captions])


class Distance:
    id = "far:1"

    def __call__(self, images, others):
        return np.abs(images.astype(float) - others).mean((1, 2, 3))


NETWORKS = Networks(Means(), Means(), Distance())


def write(folder, pixels, captions=True):
    folder.mkdir()
    for i, image in enumerate(pixels.astype(np.uint8)):
        (folder / f"{i:02}.png").write_bytes(encode_png(image))
        if captions:
            (folder / f"{i:02}.txt").write_text("word " * (1 + i % 3))
    return open_set(str(folder), "val")


@pytest.fixture
def sets(tmp_path):
    return write(tmp_path / "a", NEAR), write(tmp_path / "b", PIXELS, captions=False)


def named(values):
    return {value.name: value for value in values}


def quiet(done, total, label):
    assert done <= total


def test_every_value_is_that_of_its_function(sets):
    images, reference = sets
    found = measure(images, reference, NETWORKS, quiet)
    values, near = named(found.values), NEAR.astype(np.uint8)
    means, source = Means(), Source("means:1", "none")
    a, b = means(near), means(PIXELS)
    wanted = [*precision_recall(b, a, source), cmmd(b, a, source)]
    wanted += [kid(b, a, source, subsets=None)]
    wanted += blurred_fid([PIXELS], [near], means, source, "both", "pil")
    logits = means.outputs(near)[1] - 1
    wanted += [inception_score(logits, source, name) for name in ("dmgan", "guided")]
    for value in wanted:
        assert values[value.name].value == pytest.approx(value.value, rel=1e-9)
        assert (values[value.name].n, values[value.name].reference) == (
            (value.n, value.reference)
        )
    plain = fid(Moments.of(b), Moments.of(a), source)
    assert values["FD-means-0[both]"].value == pytest.approx(plain.value)
    for name, function in (("PSNR", psnr), ("SSIM", ssim), ("LPIPS", Distance())):
        each = function(near, PIXELS)
        assert values[name].value == pytest.approx(each.mean(), rel=1e-6)
        assert values[name].n == 24
    assert values["LPIPS"].source.extractor == "far:1"
    assert {"FD-inf-means", "clip_cosine", "clipscore_2.5"} <= values.keys()
    assert found.missing == {
        f"clip_cosine, clipscore_2.5 of {reference.path}": (
            "24 of 24 images have no caption"
        )
    }


def test_sides_of_different_size_and_captions_of_both(sets, tmp_path):
    images, _ = sets
    fewer = write(tmp_path / "c", PIXELS[:15])
    found = measure(images, fewer, NETWORKS, quiet)
    values = named(found.values)
    assert "unequal n" in values["FD-means-0[both]"].note
    assert (values["precision"].n, values["precision"].reference) == (24, 15)
    # By name: the fifteen that both have.
    assert values["PSNR"].n == 15 and not found.missing
    assert set(named(found.of_reference)) == {"clip_cosine", "clipscore_2.5"}
    assert found.of_reference[0].n == 15


def test_one_set_alone(sets):
    images, _ = sets
    found = measure(images, None, NETWORKS, quiet)
    names = {value.name.partition("[")[0] for value in found.values}
    assert names == {"IS-means", "clip_cosine", "clipscore_2.5"}
    assert "two sets" in found.missing["CMMD"]
    assert sum("second" in reason for reason in found.missing.values()) == 2
    found = measure(images.first(9), None, NETWORKS, quiet)
    assert found.missing["IS"] == "needs 10 images a side"


@pytest.mark.parametrize(
    ("count", "gone"),
    [
        (3, {"precision", "recall"}),
        (2, {"FD-inf-means"}),
        (1, {"KID-means", "MMD-means"}),
    ],
)
def test_too_few_images(sets, count, gone):
    images, reference = (each.first(count) for each in sets)
    found = measure(images, reference, NETWORKS, quiet)
    assert not gone & named(found.values).keys()
    assert found.missing["IS"] == "needs 10 images a side"
    assert found.missing["precision, recall"] == "needs 4 images a side"
    assert {"PSNR", "SSIM", "LPIPS", "clip_cosine"} <= named(found.values).keys()


def test_networks_that_are_not_here(sets):
    networks = Networks("no package", "no clip", "no weights")
    found = measure(*sets, networks, quiet)
    assert set(named(found.values)) == {"PSNR", "SSIM"}
    assert sorted(found.missing.values()) == ["no clip", "no package", "no weights"]
    networks = Networks(Means(classes=False), "no clip", "no weights")
    for reference in (sets[1], None):
        found = measure(sets[0], reference, networks, quiet)
        assert found.missing["IS"] == "means has no classes"


def test_pairs_that_are_none(sets, tmp_path):
    images, _ = sets
    other = write(tmp_path / "wide", np.full((24, 16, 20, 3), 9))
    found = measure(images, other, NETWORKS, quiet)
    reason = found.missing["PSNR, SSIM, LPIPS"]
    assert "24 of 24 pairs are of two sizes, such as 00: give --size N" in reason
    assert "FD-means-8[both]" in named(found.values)
    tiny = [open_set(each.path, "val", size=8) for each in (images, other)]
    found = measure(*tiny, NETWORKS, quiet)
    assert found.missing["SSIM"] == "needs 11 pixels a side"
    assert found.missing["LPIPS"] == "needs 16 pixels a side"
    assert "PSNR" in named(found.values)
    (tmp_path / "wide" / "00.png").rename(tmp_path / "wide" / "x.png")
    only = open_set(other.path, "val").picked(["x"])
    reason = measure(images, only, NETWORKS, quiet).missing["PSNR, SSIM, LPIPS"]
    assert "has the name of one of" in reason


def test_a_broken_image_is_named_before_any_network(sets, tmp_path):
    class Never:
        id, resize = "never:1", "none"

    (tmp_path / "b" / "23.png").write_bytes(b"nothing")
    images, _ = sets
    with pytest.raises(UserError, match="image 23 of .*not a readable image"):
        measure(images, open_set(sets[1].path, "val"), Networks(Never(), Never(), ""),
                quiet)  # fmt: skip
