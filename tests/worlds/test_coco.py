import json

import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.worlds.coco import sample_captions


def write(folder, count=6, split="val2014", pictures="val2014", annotations=""):
    """`count` pictures of two captions each; picture i is of one grey level, 10 i."""
    content = {"images": [], "annotations": []}
    (folder / pictures).mkdir(parents=True, exist_ok=True)
    (folder / annotations).mkdir(exist_ok=True)
    for i in range(count):
        name = f"COCO_{i:03d}.png"
        content["images"].append({"id": i, "file_name": name})
        for j in range(2):
            text = f" thing {i}\n of kind {j} "
            content["annotations"].append({"image_id": i, "id": j, "caption": text})
        Image.new("RGB", (40, 20), (10 * i,) * 3).save(folder / pictures / name)
    path = folder / annotations / f"captions_{split}.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("pictures", ["val2014", "images/val2014", "images", "."])
@pytest.mark.parametrize("annotations", [".", "annotations"])
def test_captions_come_with_their_pictures(tmp_path, pictures, annotations):
    write(tmp_path, pictures=pictures, annotations=annotations)
    name, found = sample_captions(tmp_path, 5, seed=3)
    assert name == "captions_val2014.json"
    numbers = [int(each.caption.split()[1]) for each in found]
    assert len(set(numbers)) == 5
    for number, each in zip(numbers, found, strict=True):
        assert each.caption[:-1] == f"thing {number} of kind "
        pixels = each.pixels(8)
        assert pixels.shape == (8, 8, 3)
        assert np.unique(pixels).tolist() == [10 * number]
    assert found == sample_captions(tmp_path, 5, seed=3)[1]
    assert found != sample_captions(tmp_path, 5, seed=4)[1]
    # Any of a picture's captions may be taken.
    seen = {
        each.caption for s in range(9) for each in sample_captions(tmp_path, 6, s)[1]
    }
    assert len(seen) == 12


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is no folder"):
        sample_captions(tmp_path / "nowhere", 2)
    with pytest.raises(UserError, match=r"has no captions_val\*\.json"):
        sample_captions(tmp_path, 2)
    path = write(tmp_path)
    with pytest.raises(UserError, match="captions of 6 images, 7 are wanted"):
        sample_captions(tmp_path, 7)
    (tmp_path / "val2014" / "COCO_004.png").unlink()
    with pytest.raises(UserError, match=r"1 of 6 images are not in .*COCO_004\.png"):
        sample_captions(tmp_path, 6)
    content = json.loads(path.read_text())
    content["annotations"][0]["image_id"] = "x" * 5000
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        sample_captions(tmp_path, 2)
    assert len(str(caught.value)) < 500
    content["annotations"][0]["image_id"] = content["annotations"][1]["image_id"]
    del content["images"][2]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="1 images that it does not name.* 2"):
        sample_captions(tmp_path, 2)
    write(tmp_path, split="val2017")
    with pytest.raises(UserError, match="leave one of them"):
        sample_captions(tmp_path, 2)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": [], "annotations": [{"caption": 3}]}']
)
def test_files_of_something_else(tmp_path, text):
    write(tmp_path).write_text(text)
    with pytest.raises(UserError, match="no file of MS-COCO captions"):
        sample_captions(tmp_path, 2)


@pytest.mark.parametrize("name", [["a"], "a" * 300, "../a.png", ""])
def test_names_that_are_no_files(tmp_path, name):
    path = write(tmp_path)
    content = json.loads(path.read_text())
    content["images"][2]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="no file of MS-COCO captions"):
        sample_captions(tmp_path, 2)


def test_broken_pictures_are_named(tmp_path):
    write(tmp_path, count=1)
    (tmp_path / "val2014" / "COCO_000.png").write_bytes(b"<html>")
    _, (only,) = sample_captions(tmp_path, 1)
    with pytest.raises(UserError, match=r"COCO_000\.png: not a readable image"):
        only.pixels(8)
