"""The judge of super-resolution: its seams, its shares and its columns."""

from types import SimpleNamespace

import numpy as np
import pytest

from cogjax.pipelines.enlarge import owners, windows
from tests.scripts import load_script

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def script():
    return load_script("cogview/judge_super.py")


def test_a_seam_is_a_step_where_windows_meet(script):
    owner = owners(windows(8, 8), 16)
    side = 3
    flat = RNG.integers(0, 200, (2, 16 * side, 16 * side, 3), np.uint8)
    assert script.across(flat, owner) == pytest.approx(1, abs=0.1)
    # Each window 5 brighter than the one before: steps where they meet.
    stairs = 5 * owner.repeat(side, 0).repeat(side, 1)[None, :, :, None]
    codes = RNG.integers(0, 3, (1, 16, 16, 1)).repeat(side, 1).repeat(side, 2)
    assert script.across(np.uint8(stairs + codes).repeat(3, -1), owner) > 4
    # What is inside of a code is no border of any.
    inner = np.zeros((1, 16 * side, 16 * side, 3), np.uint8)
    inner[:, 1::side, 1::side] = 200
    codes = np.uint8(codes + inner)
    assert script.across(codes, owner) == pytest.approx(1, abs=0.2)


def test_a_share_is_of_the_same_images(script):
    reference = RNG.uniform(0.1, 1, 50)
    found = script.share_of(0.75 * reference, reference)
    np.testing.assert_allclose(found, 0.75)
    value, low, high = script.share_of(RNG.uniform(0, 1, 50), reference)
    assert low < value < high


def test_columns_are_made_of_the_small_image(script):
    """By a model whose code is the first pixel of a square of 2 x 2."""

    def show(codes):
        return np.uint8(codes[..., None]).repeat(2, 1).repeat(2, 2).repeat(3, -1)

    asked = []

    def enlarge(images, texts, seed):
        asked.append((texts, seed))
        return images.repeat(2, 1).repeat(2, 2)

    model = SimpleNamespace(
        image_size=8,
        codes_of=lambda images: images[:, ::2, ::2, 0].astype(int),
        show=show,
        enlarge_codes=lambda codes, texts, seed: codes.repeat(2, 1).repeat(2, 2) + seed,
    )
    images = np.full((2, 8, 8, 3), 40, np.uint8)
    imagen = SimpleNamespace(enlarge=enlarge)
    columns = script.enlarged(model, images, ["a", "b"], imagen, seed=3)
    found = {name: np.unique(x).tolist() for name, x in columns.items()}
    wanted = dict.fromkeys(("bicubic", "decoder", "Imagen", "own codes"), [40])
    assert found == wanted | {"super-resolution": [43]} and asked == [(["a", "b"], 3)]
    assert {x.shape for x in columns.values()} == {(2, 8, 8, 3)}
    report = script.judged(
        {name: x for name, x in columns.items() if name not in ("Imagen", "own codes")},
        images,
        lambda one, other: abs(one - 36.0).mean((1, 2, 3)),
        lambda pixels: np.array([pixels[0, 0, 0, 0] == 40, np.nan], float),
    )
    assert report["super-resolution"]["lpips_of_bicubic"][0] == pytest.approx(7 / 4)
    assert report["bicubic"]["psnr"]["mean"] == 100
    assert [x["recognised"][0] for x in report.values()] == [1, 1, 0]
