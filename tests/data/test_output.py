"""What becomes of images of other shapes."""

import pytest
from PIL import Image

from cogjax.commands.data_output import _shapes
from cogjax.data.folder import import_folder
from cogjax.data.output import Output
from cogjax.data.records import open_split
from cogjax.errors import UserError


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for name in "abc":
        picture(folder, name, (9, 9))
    return folder


def picture(folder, name, size):
    Image.new("RGB", size, "red").save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text("a cat")


def test_images_are_sorted_into_shapes(src):
    for name, size in {"wide": (50, 20), "tall": (20, 50), "even": (30, 32)}.items():
        picture(src, name, size)
    picture(src, "cut", (9, 9))
    (src / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
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


def test_shapes_of_flags():
    assert _shapes("crop", None, 64) == _shapes(None, None, 64) == ()
    assert len(_shapes("bucket", None, 64)) == 5
    assert _shapes("pad", ("2:1",), 64) == ((48, 96),)
    assert _shapes(None, ("1:1", "2:1"), 64) == ((64, 64), (48, 96))
    with pytest.raises(UserError, match="several shapes are for --fit bucket"):
        _shapes("crop", ("1:1", "2:1"), 64)
