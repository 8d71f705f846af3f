"""Results in a notebook and on disk, models in a notebook, and paths as images."""

import io
import json

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax.data.images import as_image, as_images, encode_png, open_image
from cogjax.errors import UserError
from cogjax.pipelines.contracts import Generation

GREYS = np.arange(6, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * 40
RESULT = Generation(
    ("a <cat>", "狗"),
    np.broadcast_to(GREYS, (2, 3, 4, 4, 3)),
    np.arange(24).reshape(2, 3, 2, 2),
    np.arange(6.0).reshape(2, 3),
)


def grey(image):
    return int(np.asarray(image)[0, 0, 0])


def test_a_result_is_a_sequence_of_its_images():
    assert len(RESULT) == 6
    assert [grey(x) for x in RESULT] == [0, 40, 80, 120, 160, 200]
    assert grey(RESULT[4]) == grey(RESULT[-2]) == 160
    assert [grey(x) for x in RESULT[1:3]] == [40, 80]
    with pytest.raises(IndexError):
        RESULT[6]
    with pytest.raises(TypeError):
        RESULT["a"]


def test_one_image_is_made_of_its_own_pixels_alone(monkeypatch):
    made, fromarray = [], Image.fromarray
    monkeypatch.setattr(Image, "fromarray", lambda x: made.append(x) or fromarray(x))
    assert grey(RESULT[4]) == 160 and len(made) == 1
    assert grey(next(iter(RESULT))) == 0 and len(made) == 2


def test_a_grid_has_a_row_a_prompt():
    pixels = np.asarray(RESULT.grid())
    assert pixels.shape == (2 * 4 + 2, 3 * 4 + 2 * 2, 3)
    assert pixels[0, ::6, 0].tolist() == [0, 40, 80]
    assert pixels[6, ::6, 0].tolist() == [120, 160, 200]
    assert np.asarray(RESULT.grid(columns=1)).shape == (6 * 4 + 5 * 2, 4, 3)
    with pytest.raises(UserError, match="columns is 0"):
        RESULT.grid(columns=0)


def test_a_saved_result_names_its_files(tmp_path):
    folder = RESULT.save(tmp_path / "new")
    record = json.loads((folder / "generation.json").read_text())
    assert [x["file"] for x in record["images"]] == [
        *(f"cat-{i}.png".replace("cat", "a-cat") for i in (1, 2, 3)),
        *(f"狗-{i}.png" for i in (1, 2, 3)),
    ]
    assert record["images"][4] | {"file": ""} == {
        "file": "",
        "prompt": "狗",
        "index": 1,
        "score": 4.0,
        "codes": [[16, 17], [18, 19]],
    }
    with Image.open(folder / "狗-2.png") as image:
        assert grey(image) == 160
        assert json.loads(image.text["cogjax"])["prompt"] == "狗"
    assert np.array_equal(open_image(folder / "grid.png"), RESULT.grid())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    RESULT.save(folder)
    assert all((folder / name).read_bytes() == data for name, data in before.items())
    assert (folder / "generation-2.json").is_file()


def test_a_result_is_not_saved_in_a_file(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        RESULT.save(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_notebook_shows_a_result():
    text = RESULT._repr_html_()
    assert text.count("<img") == 6 and "a &lt;cat&gt; (0.000)" in text
    assert "<cat>" not in text and "http" not in text
    shown = Image.open(io.BytesIO(RESULT._repr_png_()))
    assert shown.size == RESULT.grid().size
    many = Generation(("x",), np.zeros((1, 70, 1, 1, 3), np.uint8))
    text = many._repr_html_()
    assert text.count("<img") == 64 and "6 more in" in text
    side = 8 * 1 + 7 * 2
    assert Image.open(io.BytesIO(many._repr_png_())).size == (side, side)
    # Nor does a terminal show all numbers.
    assert repr(many) == "Generation(prompts=('x',), scores=None, unread=(), unseen=())"
    rows = Generation(("x",) * 70, np.zeros((70, 1, 1, 1, 3), np.uint8))
    assert Image.open(io.BytesIO(rows._repr_png_())).size == (1, 64 * 3 - 2)


def test_a_notebook_shows_a_model(nano_model):
    text = nano_model._repr_html_()
    assert "<td" in text and "nano" in text and "cogview" in text
    assert "generate, caption, ask, score, attention, encode, decode, save" in text
    assert "vqvae, " in text and " parameters" in text


def test_paths_are_images(nano_model, pictures, tmp_path):
    paths = []
    for i, pixels in enumerate(pictures[:2]):
        paths.append(tmp_path / f"{i}.png")
        paths[-1].write_bytes(encode_png(pixels))
    own = nano_model.encode(pictures[:2])
    np.testing.assert_array_equal(nano_model.encode(paths), own)
    np.testing.assert_array_equal(nano_model.encode(str(paths[1])), own[1:])
    np.testing.assert_array_equal(nano_model.encode(Image.open(paths[0])), own[:1])
    wanted = nano_model.score(pictures[:2], "a cat")
    np.testing.assert_array_equal(nano_model.score(paths, "a cat"), wanted)
    request = cogjax.Request("a cat", image=str(paths[0]), vary=0.5)
    assert request.image.size == (16, 16)


def test_a_path_keeps_what_a_mask_needs(tmp_path):
    Image.new("RGBA", (3, 2), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    assert as_image(tmp_path / "clear.png").mode == "RGBA"
    assert [x.size for x in as_images(str(tmp_path / "clear.png"))] == [(3, 2)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "image .*x.png: the file is empty"),
        (b"<html>", "image .*x.png: not a readable image: it is an HTML page"),
        (None, "cannot read image .*x.png: No such file"),
    ],
)
def test_files_that_are_no_images_are_named(data, message, tmp_path):
    if data is not None:
        (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(UserError, match=message):
        open_image(tmp_path / "x.png")


def test_public_names_are_there():
    assert sorted(cogjax._PUBLIC) == sorted(cogjax.__all__)
    for name in cogjax.__all__:
        assert getattr(cogjax, name).__doc__
    assert set(cogjax.__all__) <= set(dir(cogjax))
