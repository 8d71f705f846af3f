import json

import numpy as np
import pytest

from cogjax import cli
from cogjax.errors import UserError
from cogjax.evaluate.judges import features, lpips
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.psnr_ssim import psnr, ssim
from cogjax.evaluate.suites.reconstruction import Measures, compare
from cogjax.model_folder import load_component
from cogjax.pipelines.tokenize import decode, encode


class Means:
    """Mean colours of four quarters: a network that needs no weights."""

    id = "means"

    def __call__(self, images):
        size = len(images), 2, images.shape[1] // 2, 2, images.shape[2] // 2, 3
        return images.reshape(size).mean((2, 4)).reshape(len(images), -1) / 255


def distance(a, b):
    return np.abs(a.astype(float) - b).mean((1, 2, 3)) / 255


def judge(images):
    """Finds the first right, the third wrong, and cannot judge the rest."""
    return np.array([1, np.nan, 0, *[np.nan] * (len(images) - 3)])


def test_figures_are_those_of_the_reconstructions(nano_data, nano_folder, nano_model):
    found = compare(
        [str(nano_folder)],
        str(nano_data),
        "train",
        6,
        Measures(distance, Means(), judge),
    )
    from cogjax.data.records import decode_image, open_split

    source = open_split(nano_data, "train")
    images = np.stack([decode_image(source[i].image, 16) for i in range(6)])
    tokenizer = load_component(nano_folder, "tokenizer")
    codes = encode(tokenizer, images)
    drawn = decode(tokenizer, codes)
    (row,) = found.rows
    assert row.psnr == pytest.approx(psnr(images, drawn).mean(), rel=1e-5)
    assert row.ssim == pytest.approx(ssim(images, drawn).mean(), rel=1e-6)
    assert row.lpips == pytest.approx(distance(images, drawn).mean(), rel=1e-6)
    assert row.used == len(np.unique(codes)) / 32
    assert 1 <= row.perplexity <= len(np.unique(codes)) + 1e-6
    assert row.rfd > 0
    assert (row.kind, row.grid, found.n) == ("vqvae", 4, 6)
    # Two rows of three pictures of 16 px and gaps of 2.
    assert found.sheet.size == (106, 34)
    shown = np.asarray(found.sheet)
    np.testing.assert_array_equal(shown[:16, 18:34], images[1])
    np.testing.assert_array_equal(shown[18:, 18:34], drawn[1])
    assert row.recognised == found.recognised == (0.5, *wilson(1, 2))
    assert "vqvae" in found.table() and "50.0 % [" in found.table()
    assert len(set(map(len, found.table().splitlines()))) <= 2


def test_sizes_must_agree(nano_data, nano_folder):
    with pytest.raises(UserError, match="one size can be compared: .* 16 px, emoji"):
        compare(
            [str(nano_folder), "emoji"],
            str(nano_data),
            "val",
            2,
            Measures(distance, Means()),
        )


def test_images_that_no_judge_can_judge_have_no_share():
    measures = Measures(distance, Means(), lambda images: np.full(len(images), np.nan))
    with pytest.raises(UserError, match="none of the 2 images can be judged"):
        measures.recognised(np.zeros((2, 8, 8, 3), np.uint8))


def test_the_command_writes_a_report(
    nano_data, nano_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(lpips, "load_lpips", lambda weights: distance)
    monkeypatch.setattr(features, "make_extractor", lambda name, weights: Means())
    words = ["tokenizer", "compare", str(nano_folder), "--data", str(nano_data)]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["rows"][0]["kind"] == "vqvae"
    assert report["n"] == 2
    assert (tmp_path / "out" / "images.png").stat().st_size > 100
    said = capsys.readouterr()
    assert "2 images of val, rFD by means" in said.out
    assert "compared: 1 of 1" in said.err
