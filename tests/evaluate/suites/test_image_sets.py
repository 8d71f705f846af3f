import json

import numpy as np
import pytest
from PIL import Image

from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.evaluate.suites.image_sets import open_set


def grey(path, level, shape=(8, 8)):
    path.write_bytes(encode_png(np.full((*shape, 3), level, np.uint8)))


@pytest.fixture
def folder(tmp_path):
    """Three images of 8 px, one of 8 x 12, then one of 8 px; two have captions."""
    for i, shape in enumerate([(8, 8), (8, 8), (8, 8), (8, 12), (8, 8)]):
        grey(tmp_path / f"{i}.png", 10 * i, shape)
    (tmp_path / "0.txt").write_text("a cat\na second line")
    (tmp_path / "3.txt").write_text("a dog")
    return tmp_path


def levels(images):
    return [batch[:, 0, 0, 0].tolist() for batch in images]


def shapes(images):
    return images.shapes(lambda *words: None)


def test_batches_have_one_shape_and_keep_the_order(folder):
    images = open_set(str(folder), "val")
    assert images.names == ("0", "1", "2", "3", "4") and len(images) == 5
    assert images.captions == ("a cat", "", "", "a dog", "")
    assert levels(images) == [[0, 10, 20], [30], [40]] == levels(images)
    assert shapes(images) == [(8, 8)] * 3 + [(8, 12), (8, 8)]
    squares = open_set(str(folder), "val", size=4)
    assert levels(squares) == [[0, 10, 20, 30, 40]]
    assert shapes(squares) == [(4, 4)] * 5
    assert levels(images.picked(["4", "0"])) == [[40, 0]]
    assert levels(images.first(2)) == [[0, 10]] and images.first(None) is images
    with pytest.raises(UserError, match="--n 6: .* has 5 images"):
        images.first(6)


def test_data_sets_and_folders_of_generate(folder, nano_data):
    found = open_set(str(nano_data), "val")
    assert found.names == ("10", "11") and found.captions[0] == "a red apple 10"
    assert next(iter(found)).shape == (2, 16, 16, 3)
    record = {"images": [{"file": "3.png", "prompt": "three"}]}
    (folder / "generation.json").write_text(json.dumps(record))
    found = open_set(str(folder), "val")
    assert found.names == ("3",) and found.captions == ("three",)


def test_turned_photographs_have_the_shape_that_they_are_read_with(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 8)).save(tmp_path / "a.jpg", exif=exif)
    found = open_set(str(tmp_path), "val")
    assert shapes(found) == [(12, 8)] == [found.pixels(0).shape[:2]]


def test_bad_sets(folder, tmp_path):
    grey(folder / "0.webp", 1)
    with pytest.raises(UserError, match="has two images '0': rename one"):
        open_set(str(folder), "val")
    (folder / "0.webp").unlink()
    (folder / "2.png").write_bytes(b"<html>")
    with pytest.raises(UserError, match="image 2 of .*: not a readable image: it is"):
        shapes(open_set(str(folder), "val"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no images"):
        open_set(str(tmp_path / "empty"), "val")
    with pytest.raises(UserError, match="gone is not there"):
        open_set("gone", "val")
