"""`cogjax attention-map --weights`, and `cogjax report`."""

import json

import numpy as np
import pytest
from PIL import Image

from cogjax import cli
from cogjax.data.images import encode_png


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "x.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path.write_bytes(encode_png(pixels))
    return path


def run(capsys, *words):
    status = cli.main(["attention-map", *map(str, words)])
    return status, capsys.readouterr()


def test_weights_are_drawn(image, nano_folder, tmp_path, capsys):
    own = image, "a cat", "--weights", "--model", nano_folder, "--out"
    sizes = {}
    for name, more in (
        ("pieces", ()),
        ("code", ("--query", 5, "--layer", 1, "--head", 0)),
        ("reading", ("--reading",)),
    ):
        out = tmp_path / f"{name}.png"
        status, said = run(capsys, *own, out, *more)
        assert (status, said.out) == (0, f"wrote {out}\n")
        with Image.open(out) as sheet:
            sizes[name] = sheet.width
    # The image and a panel for each piece of the text; for a code one.
    assert sizes["code"] == 2 * 144 + 6 < sizes["pieces"] == sizes["reading"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("IMAGE", "--weights"), "--weights needs an image and its text"),
        (("IMAGE", "a cat"), "goes with --weights: give both or neither"),
        (("none.png", "a cat", "--weights"), "cannot read image none.png"),
        (("IMAGE", "a cat", "--weights", "--model", "nano"), "no model 'nano'"),
        (
            ("IMAGE", "a cat", "--weights", "--reading", "--query", "1"),
            "--query is a code, and --reading predicts none",
        ),
        (("IMAGE", "a cat", "--weights", "--model", "clip-icons"), "their attention"),
        (("IMAGE", "a cat", "--weights", "--out", "x.gif"), "expects a .png file"),
        (("IMAGE", "a cat", "--weights", "--grid", "8x8"), "--grid does not go with"),
        (("IMAGE", "a cat", "--weights", "--text", "8"), "--text does not go with --w"),
        (("IMAGE", "a cat", "--weights", "--edge", "clip"), "--edge does not go with"),
        (
            ("IMAGE", "a cat", "--weights", "--reading", "--time", "1"),
            "--time does not go with --reading",
        ),
        (
            ("IMAGE", "a cat", "--weights", "--model", "shapes", "--stage", "1"),
            "--stage is of a cascade, which shapes is not",
        ),
        (("--head", "1"), "--head goes with --weights"),
        (("--model", "nano"), "--model goes with --weights"),
        (("--kinds", "row", "--kernel", "3"), "--kernel goes with --kinds conv"),
        (("--row-extent", "own", "--kinds", "conv"), "--row-extent goes with --kinds"),
        (("--pivots", "3"), "--pivots goes with --kinds three-region"),
        (("--seed", "3"), "--seed goes with --kinds three-region"),
    ],
)
def test_what_cannot_be_drawn(image, words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, said = run(capsys, *(image if x == "IMAGE" else x for x in words))
    assert status == 2 and message in said.err
    assert not list(tmp_path.iterdir())


def test_a_code_that_is_not_there(image, nano_folder, tmp_path, capsys):
    out = tmp_path / "x.png"
    own = "a cat", "--weights", "--model", nano_folder, "--query", 16, "--out", out
    status, said = run(capsys, image, *own)
    assert (
        status == 2 and "code is 16, expected a whole number from 0 to 15" in said.err
    )
    assert not out.exists()


def test_a_report_is_made_anew(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"task": {"name": "lm"}}))
    for _ in range(2):
        assert cli.main(["report", str(tmp_path)]) == 0
        assert capsys.readouterr().out == f"wrote {tmp_path / 'report.html'}\n"
    assert "cogjax training report" in (tmp_path / "report.html").read_text()


def test_a_folder_that_is_no_run_gets_no_report(tmp_path, capsys):
    assert cli.main(["report", str(tmp_path)]) == 2
    assert "no config.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
