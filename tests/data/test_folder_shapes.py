"""Folders of images of several shapes, and of squares alone."""

import io

import pytest
from PIL import Image

from cogjax.data.folder import import_folder
from cogjax.data.output import Output
from cogjax.data.records import open_split


def add(folder, name, size):
    """An image of (width, height) `size`, and its caption."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    (folder / f"{name}.png").write_bytes(buffer.getvalue())
    (folder / f"{name}.txt").write_text("a picture")


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for i in range(3):
        add(folder, f"good{i}", (16, 16))
    return folder


def test_images_are_sorted_into_shapes(src):
    for name, size in {"wide": (50, 20), "tall": (20, 50), "even": (30, 32)}.items():
        add(src, name, size)
    (src / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (src / "cut.txt").write_text("a picture")
    shapes = (16, 16), (8, 24), (24, 8)
    output = Output(src.parent / "out", 16, shapes=shapes)
    manifest = import_folder(src, output, budget=0.2, val_fraction=0).manifest
    assert manifest.contents["train"]["shape"] == {"16x16": 4, "24x8": 1, "8x24": 1}
    assert manifest.shapes == ((16, 16), (8, 24), (24, 8))
    split = open_split(output.folder, "train")
    found = {example.id: example.shape for example in split}
    assert (found["wide.png"], found["tall.png"]) == ((8, 24), (24, 8))
    assert found["even.png"] == (16, 16)


def test_squares_are_not_counted_as_shapes(src):
    manifest = import_folder(src, Output(src.parent / "out", 8)).manifest
    assert manifest.shapes == ()
    assert "shape" not in manifest.contents["train"]
