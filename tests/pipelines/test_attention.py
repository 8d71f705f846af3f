"""`attention` of models, and its picture."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.models import unet
from cogjax.models.image_lm import ImageLM
from cogjax.nn.unet import Text
from cogjax.ops import diffusion
from cogjax.pipelines import attention as module
from cogjax.pipelines import cascade_stage
from cogjax.pipelines.attention_found import Attention, of_places
from cogjax.pipelines.attention_sheet import attention_sheet
from cogjax.pipelines.cascade_stage import StageProgram
from cogjax.pipelines.clip import ClipPipeline
from cogjax.pipelines.contracts import Attending
from tests.models.test_unet import MASK, TINY, TOKENS, params_of
from tests.reference import unet as reference
from tests.reference.numeric import double

TEXT = "a cat"


@pytest.fixture(scope="module")
def found(nano_model, pictures):
    return nano_model.attention(pictures[0], TEXT)


def test_what_a_code_takes_sums_to_one(nano_model, found):
    rows, columns = nano_model.shape
    layers, heads, count, keys = found.over_text.shape
    config = nano_model.transformer[0].config
    assert (layers, heads, count) == (config.depth, config.heads, rows * columns)
    assert found.over_image.shape == (layers, heads, count, rows, columns)
    assert found.layers == ("full",) * layers
    whole = found.over_text.sum(-1) + found.over_image.sum((-2, -1))
    np.testing.assert_allclose(whole, 1, rtol=1e-5)
    assert len(found.keys) == keys == nano_model.layout.prompt_len


def test_keys_are_the_pieces_of_the_text(nano_model, found):
    pieces = [nano_model.model.text.decode([i]) for i in nano_model.pieces(TEXT)]
    assert 1 < len(pieces) < nano_model.layout.text_len
    assert [key for key in found.keys if key] == [piece or "_" for piece in pieces]
    # Padding before the text, [BASE] and [BOI1] behind it.
    assert found.keys[-2:] == ("", "") and not found.over_text[..., 0].any()


def test_a_code_takes_of_codes_before_it(found):
    flat = found.over_image.reshape(*found.over_image.shape[:3], -1)
    for code in range(flat.shape[2]):
        assert not flat[:, :, code, code:].any()
        over_text, over_image = found.of_code(code)
        np.testing.assert_array_equal(
            over_image.reshape(*flat.shape[:2], -1), flat[:, :, code]
        )
        np.testing.assert_array_equal(over_text, found.over_text[:, :, code])
    assert flat[:, :, -1, :-1].all()
    of_piece = found.of_piece(len(found.keys) - 3)
    assert of_piece.shape == (*flat.shape[:2], *found.shape)
    np.testing.assert_array_equal(
        of_piece[0, 0, 0], found.over_text[0, 0, : found.shape[1], -3]
    )


def test_means_and_parts_are_of_the_same_weights(
    nano_model, pictures, found, monkeypatch
):
    monkeypatch.setattr(module, "_CALL_BYTES", 3 * found.over_text[:, :, 0].nbytes)
    means = nano_model.attention(pictures[0], TEXT, heads=False)
    np.testing.assert_allclose(
        means.over_text, found.over_text.mean(1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(
        means.over_image, found.over_image.mean(1, keepdims=True), atol=1e-6
    )


def test_a_caption_takes_of_the_image(nano_model, pictures):
    found = nano_model.attention_of_caption(pictures[0], TEXT)
    pieces = nano_model.pieces(TEXT)
    assert found.over_text.shape[2:] == (len(pieces), len(pieces))
    # Where a piece is predicted it is not there yet.
    assert not np.triu(found.over_text).any()
    assert np.tril(np.ones(found.shape)).any() and found.over_image.all()
    whole = found.over_text.sum(-1) + found.over_image.sum((-2, -1))
    assert np.all(whole < 1) and np.all(whole > 0)
    np.testing.assert_array_equal(found.of_piece(1), found.over_image[:, :, 1])
    with pytest.raises(UserError, match="no codes were predicted"):
        found.of_code(0)


def test_what_cannot_be_asked(nano_model, pictures, found, monkeypatch):
    with pytest.raises(UserError, match="code is 16, expected a whole number"):
        found.picture(code=16)
    with pytest.raises(UserError, match="layer is 9, expected"):
        found.picture(layer=9)
    with pytest.raises(UserError, match="a text is empty|has no|expected"):
        nano_model.attention(pictures[0], " ")
    monkeypatch.setattr(module, "_MOST_BYTES", 10)
    with pytest.raises(UserError, match="would take .* GiB.*heads to False"):
        nano_model.attention(pictures[0], TEXT)
    monkeypatch.setattr(nano_model, "images", 2, raising=False)
    with pytest.raises(UserError, match="models that draw one image by one decoder"):
        nano_model.attention(pictures[0], TEXT)
    assert isinstance(nano_model, Attending) and not issubclass(ClipPipeline, Attending)


def test_windows_are_refused(nano_model, pictures, monkeypatch):
    network = nano_model.transformer[0]
    config = dataclasses.replace(
        network.config, window=8, num_pivots=24, num_codes=8, image_len=16
    )
    monkeypatch.setattr(nano_model, "_generator", ImageLM(config))
    for ask in (nano_model.attention, nano_model.attention_of_caption):
        with pytest.raises(UserError, match="window and pivots"):
            ask(pictures[0], TEXT)


def picture_of(over_text, over_image):
    keys = ("", "cat", "dog")
    black = Image.new("RGB", (8, 8))
    return Attention(black, over_text, over_image, "codes", (2, 2), keys, ("full",))


def test_pictures_show_each_piece_in_its_place():
    over_text = np.zeros((1, 2, 4, 3), np.float32)
    over_text[0, :, 0, 1], over_text[0, 1, 3, 2] = 1.0, 0.5
    found = picture_of(over_text, np.zeros((1, 2, 4, 2, 2), np.float32))
    sheet = np.asarray(found.picture()).astype(int).sum(-1)
    assert found._repr_png_().startswith(b"\x89PNG")
    # Panels of 144 pixels, 6 between: the image, cat, dog.
    assert sheet.shape[1] == 3 * 144 + 2 * 6
    cat, dog = sheet[:144, 150:294], sheet[:144, 300:]
    assert cat[10, 10] > 400 > cat[100, 100] and dog[100, 100] > 400 > dog[10, 10]
    one = np.asarray(found.picture(head=0)).astype(int).sum(-1)
    assert one[100, 400] < 100


def test_a_picture_of_a_code_marks_it():
    over_image = np.zeros((1, 1, 4, 2, 2), np.float32)
    over_image[0, 0, 3, 0, 1] = 0.75
    found = picture_of(np.full((1, 1, 4, 3), 0.1, np.float32), over_image)
    sheet = np.asarray(found.picture(code=3))
    panel = sheet[:144, 150:]
    assert panel[73, 100].tolist() == [0, 200, 255]
    assert panel[36, 108].sum() > 400 and panel[100, 100].sum() < 100


def test_a_sheet_keeps_the_shape_of_an_image():
    sheet = attention_sheet(np.zeros((4, 8, 3), np.uint8), [np.eye(2)], ["x"])
    assert sheet.size == (2 * 144 + 6, 72 + 28 + 6 - 6)


def test_places_of_coarse_layers_are_repeated():
    fine = np.arange(32, dtype=np.float32).reshape(1, 16, 2)
    coarse = np.array([[[1, 5], [2, 6], [3, 7], [4, 8]]], np.float32)
    found = of_places(Image.new("RGB", (4, 4)), {"mid": coarse, "up": fine}, ("a",))
    assert (found.shape, found.layers) == ((4, 4), ("mid", "up"))
    up = found.of_piece(0)[1, 0]
    np.testing.assert_array_equal(up, fine[0, :, 0].reshape(4, 4))
    want = np.array([[1, 2], [3, 4]]).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(found.of_piece(0)[0, 0], want)


def test_weights_of_a_unet_are_the_papers(monkeypatch):
    """The last layer of the way up, which all others come before."""
    stage = StageProgram(TINY, "v", "cosine", "", 4, "ddim", False, False)
    net, rows = unet.UNet(TINY), slice(1, 2)
    key, image = jax.random.key(3), np.zeros((1, 8, 8, 3), np.float32)
    text = Text(TOKENS[rows], MASK[rows])
    params, time = params_of(net), np.float32(0.5)
    found = cascade_stage.watch(stage, params, key, image, time, (text, None))
    assert sorted(found) == [
        "down.1.0.attention",
        "mid.attention",
        "up.1.0.attention",
        "up.1.1.attention",
    ]
    log_snr = np.float64(diffusion.SCHEDULES["cosine"](time[None]))
    noise = np.float64(jax.random.normal(key, (8, 8, 3)))[None]
    z = noise * np.sqrt(1 / (1 + np.exp(log_snr)))
    seen = []
    attend = reference.attention_weights
    monkeypatch.setattr(
        reference,
        "attention_weights",
        lambda *args: seen.append(attend(*args)) or seen[-1],
    )
    reference.unet(TINY, double(params), z, log_snr, *text)
    # The first is of the pooling.
    want = dict(zip(found, (x[..., -TOKENS.shape[1] :] for x in seen[1:]), strict=True))
    for name, weights in found.items():
        np.testing.assert_allclose(weights, want[name], atol=1e-5)
        assert not weights[..., 2:].any() and 0.01 < weights.max() < 1
