"""Holes of images: by a mask, at the sides, and of some codes; negative prompts."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from cogjax import cli
from cogjax.errors import UserError
from cogjax.pipelines.masked import MaskedPipeline
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import FILLINGS, TokensPipeline
from tests.pipelines import test_masked
from tests.reference import transformer as reference
from tests.reference.numeric import double, log_softmax

PROMPT = "a red apple"
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
# It touches the second code of the second row of 4 x 4, and no other.
MASK = np.zeros((16, 16), np.uint8)
MASK[5:7, 4:8] = 255
HOLE = np.zeros((4, 4), bool)
HOLE[1, 1] = True


@pytest.fixture(scope="module")
def masked_model(nano_model):
    return MaskedPipeline(test_masked.make(nano_model))


@pytest.fixture(params=["nano_model", "masked_model"])
def model(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def filled(nano_model):
    """Two images whose hole has the best of the usual number of fillings."""
    return nano_model.generate(PROMPT, 2, seed=3, image=IMAGE, mask=MASK)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (32, 32), (40, 32), (4, 6)])
def test_a_code_is_kept_if_the_mask_does_not_touch_it(width, height):
    """Every pixel of the square in the middle counts, and none beside it."""
    image, left = Image.new("RGB", (width, height)), max(0, width - height) // 2
    top, side = max(0, height - width) // 2, min(width, height)
    for y in range(height):
        mask = np.zeros((height, width), bool)
        mask[y, left] = True
        _, keep = Request.of("a", image=image, mask=mask).given((4, 4))
        row = (y - top) * 4 // side
        want = np.zeros((4, 4), bool)
        if top <= y < top + side:
            want[row, 0] = True
        np.testing.assert_array_equal(~keep, want)


def test_a_single_pixel_of_a_large_mask_counts():
    mask = np.zeros((900, 900), bool)
    mask[450, 450] = True
    image = Image.new("RGB", (900, 900))
    _, keep = Request.of("a", image=image, mask=mask).given((4, 4))
    assert np.argwhere(~keep).tolist() == [[2, 2]]


def test_a_mask_beside_the_square_in_the_middle(model):
    """Nothing would be drawn, and the image shown as it is."""
    mask = np.zeros((16, 32), bool)
    mask[:, :8] = True
    with pytest.raises(UserError, match="white only outside of the middle"):
        model.generate(PROMPT, image=np.tile(IMAGE, (1, 2, 1)), mask=mask)


def test_the_image_lies_over_what_is_outside_of_the_hole():
    """Bitwise beyond a sixteenth of a side; between the two it fades."""
    hole = np.zeros((64, 64), bool)
    hole[:, 24:40] = True
    request = Request.of("a", image=np.full((64, 64, 3), 200, np.uint8), mask=hole)
    row = request.laid_over(np.full((1, 64, 64, 3), 100, np.uint8))[0, 30, :, 0]
    assert (row[24:40] == 100).all()
    assert (row[:20] == 200).all() and (row[44:] == 200).all()
    assert (np.diff(row[19:25].astype(int)) < 0).all()
    plain = dataclasses.replace(request, paste=False)
    assert (plain.laid_over(np.full((64, 64, 3), 100, np.uint8)) == 100).all()


@pytest.mark.parametrize(
    ("extend", "size", "place"),
    [
        ({"left": 16}, 64, (16, 8, 48, 48)),
        ({"left": 16, "right": -16}, 48, (16, 0, 32, 48)),
        ({"top": 8, "left": 16}, 64, (16, 16, 48, 48)),
        ({"right": 8, "bottom": 8}, 56, (0, 0, 48, 48)),
        ({"top": 4, "bottom": 9}, 61, (6, 4, 48, 48)),
        ({"left": 16, "bottom": -16}, 64, (16, 16, 48, 32)),
        ({"top": 16, "right": -8}, 64, (12, 16, 40, 48)),
    ],
)
def test_an_image_is_extended(extend, size, place):
    """place: left, top, width and height of what is left of the image."""
    image = np.random.default_rng(1).integers(0, 256, (48, 48, 3), np.uint8)
    request = Request.of("a", image=image, extend=extend)
    canvas, keep = request.given((size, size))
    left, top, width, height = place
    there = slice(top, top + height), slice(left, left + width)
    want = np.zeros((size, size), bool)
    want[there] = True
    assert canvas.size == (size, size)
    np.testing.assert_array_equal(keep, want)
    pixels = np.asarray(canvas)
    np.testing.assert_array_equal(pixels[there], image[:height, :width])
    # What the tokenizer sees beside the image is its edge.
    assert (pixels[there[0], :left] == image[:height, :1]).all()


def test_an_oblong_image_becomes_a_square():
    image = np.zeros((48, 64, 3), np.uint8)
    canvas, keep = Request.of("a", image=image, extend={"top": 16}).given((64, 64))
    assert canvas.size == (64, 64) and keep[16:].all() and not keep[:16].any()


def test_codes_outside_of_the_hole_stay(model):
    """It holds for all images, and for pixels but where the hole's edge fades."""
    settings = {"image": IMAGE, "mask": MASK, "seed": 3}
    [given] = model.encode(IMAGE)
    found = model.generate(PROMPT, 2, **settings)
    np.testing.assert_array_equal(found.codes[0][:, ~HOLE], [given[~HOLE]] * 2)
    near = np.zeros((16, 16), bool)
    near[3:9, 2:10] = True
    np.testing.assert_array_equal(found.pixels[0][:, ~near], [IMAGE[~near]] * 2)
    drawn = model.decode(found.codes[0])
    white = MASK > 0
    np.testing.assert_array_equal(found.pixels[0][:, white], drawn[:, white])
    bare = model.generate(PROMPT, 2, paste=False, **settings)
    np.testing.assert_array_equal(bare.codes, found.codes)
    np.testing.assert_array_equal(bare.pixels[0], drawn)


def test_a_reranker_sees_what_is_shown(nano_model, filled):
    seen = []

    def judge(pixels, texts):
        seen.append(pixels)
        return np.arange(len(texts))

    settings = {"seed": 3, "image": IMAGE, "mask": MASK}
    nano_model.generate(PROMPT, 1, rerank=2, rerank_by=judge, **settings)
    np.testing.assert_array_equal(seen[0], filled.pixels[0])


def losses_behind(model, codes):
    """float64 [n]: of codes [n, 16], those behind the hole that stay."""
    part = model.model["transformer"]
    prompt = model.layout.prompt(model.pieces(PROMPT))
    ids = np.array([[*prompt, *row] for row in codes])
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    masks = [reference.causal(ids.shape[1])] * part.config.depth
    logits = reference.logits(
        double(part.params), ids, places, masks, reference.Form()
    )[:, len(prompt) - 1 : -1, : model.num_codes]
    logits = log_softmax(logits)
    losses = -np.take_along_axis(logits, codes[..., None], -1)[..., 0]
    return losses[:, 6:].sum(1)


def test_the_filling_stays_after_which_the_rest_is_likeliest(
    nano_model, filled, monkeypatch
):
    """By the network in float64; each image has fillings of its own."""
    tried = []
    own = type(nano_model)._code_losses

    def spy(self, codes, pieces):
        tried.append(np.array(codes))
        return own(self, codes, pieces)

    monkeypatch.setattr(type(nano_model), "_code_losses", spy)
    settings = {"seed": 3, "image": IMAGE, "mask": MASK}
    again = nano_model.generate(PROMPT, 2, **settings)
    np.testing.assert_array_equal(again.codes, filled.codes)
    [codes] = tried
    assert codes.shape == (2 * FILLINGS, 16)
    losses = losses_behind(nano_model, codes).reshape(2, FILLINGS)
    best = codes.reshape(2, FILLINGS, 4, 4)[np.arange(2), losses.argmin(1)]
    np.testing.assert_array_equal(filled.codes[0], best)
    assert (losses.argmin(1) > 0).any() and (np.ptp(losses, axis=1) > 1e-3).all()
    # The first filling of each is the image's own of that seed.
    first = nano_model.generate(PROMPT, 2, fillings=1, **settings).codes[0]
    np.testing.assert_array_equal(first, codes.reshape(2, FILLINGS, 4, 4)[:, 0])


def test_an_image_does_not_depend_on_its_company(nano_model, filled):
    settings = {"seed": 3, "image": IMAGE, "mask": MASK}
    alone = TokensPipeline(nano_model.model, 3).generate([PROMPT, "a"], 1, **settings)
    np.testing.assert_array_equal(alone.codes[0, 0], filled.codes[0, 0])
    seen = []
    nano_model.generate(
        PROMPT, 2, preview=lambda pairs, codes: seen.extend(pairs), **settings
    )
    assert set(seen) == {(0, 0), (0, 1)}


def test_nothing_is_compared_where_nothing_follows(nano_model, monkeypatch):
    monkeypatch.setattr(type(nano_model), "_code_losses", None)
    mask = np.zeros((16, 16), np.uint8)
    mask[8:] = 255
    nano_model.generate(PROMPT, 1, image=IMAGE, mask=mask)
    keep = np.ones((4, 4), bool)
    keep[0] = False
    nano_model.generate(PROMPT, 1, image=IMAGE, keep=keep)


def test_a_share_of_the_codes_varies(model):
    """As many as asked, others for each image, and more of a larger share."""
    settings = {"image": IMAGE, "seed": 3, "temperature": 50.0}
    [given] = model.encode(IMAGE)
    few, many = (
        model.generate(PROMPT, 3, vary=share, **settings).codes[0] != given
        for share in (0.25, 0.5)
    )
    assert few.reshape(3, -1).sum(1).max() <= 4 and few.any((1, 2)).all()
    assert many.reshape(3, -1).sum(1).max() <= 8
    assert many.sum() > few.sum()
    assert (few[0] != few[1]).any()
    alone = model.generate(PROMPT, 1, vary=0.25, **settings).codes[0, 0]
    np.testing.assert_array_equal(alone != given, few[0])


def test_a_negative_prompt_takes_the_place_of_the_empty_one(model):
    """Guided away from the prompt itself nothing is left of guidance."""
    settings = {"num_images": 2, "seed": 3}
    plain = model.generate(PROMPT, guidance=1, **settings).codes
    guided = {"guidance": 4.0, **settings}
    same = model.generate(PROMPT, negative=PROMPT, **guided).codes
    np.testing.assert_array_equal(same, plain)
    other = model.generate(PROMPT, negative="line drawing of a whale", **guided).codes
    assert (other != model.generate(PROMPT, **guided).codes).any()
    with pytest.raises(UserError, match="negative is heeded by guidance, and that is"):
        model.generate(PROMPT, negative="a", guidance=1)


def test_what_a_masked_model_cannot_do(masked_model):
    with pytest.raises(UserError, match="a masked model fills a hole from all sides"):
        masked_model.generate(PROMPT, image=IMAGE, mask=MASK, fillings=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": MASK[:9]}, "the mask is 16 x 9 pixels and the image 16 x 16"),
        ({"mask": 0 * MASK}, "the mask has no white: white is what is drawn anew"),
        ({"mask": np.tile(IMAGE[:1], (16, 1, 1))}, "the mask has colours"),
        ({"mask": np.zeros((16, 16, 4), np.uint8)}, "the mask is transparent in pla"),
        ({"mask": "m.png"}, "cannot read image m.png"),
        ({"extend": {"lft": 4}}, "no side 'lft': did you mean 'left'"),
        ({"extend": {"left": 17}}, "left of extend is 17, .* from -16 to 16"),
        ({"extend": {"left": -4}}, "extend adds no pixels to any side"),
        ({"extend": {"left": 4, "right": -16}}, "extend takes away all of the image"),
        ({"extend": 4}, "extend is 4, expected pixels by side"),
        ({"vary": 0}, "vary is 0, expected a number above 0, up to 1"),
        ({"vary": 0.5, "mask": MASK}, "mask and vary do not go together"),
        ({"vary": 0.5, "fillings": 65}, "fillings is 65, .* from 1 to 64"),
        ({"vary": 0.5, "paste": 1}, "paste is 1, expected True or False"),
        ({"vary": 0.5, "paste": False}, "paste is False without a mask or extend"),
        ({"vary": 0.5, "style": "flat"}, "style is for a whole image: leave keep, m"),
        ({"strength": 0.5, "fillings": 2}, "fillings are of a hole in an image"),
        ({"vary": 0.5, "negative": " "}, "negative is empty: write at least a word"),
    ],
)
def test_bad_values(settings, message):
    with pytest.raises(UserError, match=message):
        Request.of(() if "style" in settings else "a cat", image=IMAGE, **settings)


def run(capsys, *words):
    """(exit code, what was said on stderr) of generating."""
    code = cli.main(["generate", PROMPT, "--num-images", "1", *map(str, words)])
    return code, capsys.readouterr().err


def test_the_command_line(nano_model, nano_folder, tmp_path, capsys):
    """As in Python, and the record says what was asked."""
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.fromarray(IMAGE).save(image)
    Image.fromarray(MASK).save(mask)
    words = ["--model", nano_folder, "--out", tmp_path / "out", "--image", image]
    words += ["--seed", 3]
    more = ["--negative", "a house", "--guidance", 2, "--no-paste", "--fillings", 3]
    assert run(capsys, *words, "--mask", mask, *more)[0] == 0
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    settings = record["settings"]
    assert settings["mask"] == str(mask) and settings["paste"] is False
    assert settings["negative"] == "a house" and settings["fillings"] == 3
    given = {"image": IMAGE, "mask": MASK, "seed": 3, "guidance": 2.0}
    given |= {"negative": "a house", "paste": False, "fillings": 3}
    want = nano_model.generate(PROMPT, 1, **given)
    assert record["images"][0]["codes"] == want.codes[0, 0].tolist()
    assert run(capsys, *words, "--extend", "left=4,top=2")[0] == 0
    assert run(capsys, *words, "--vary", 0.25)[0] == 0
    for number, name, value in (
        (2, "extend", {"left": 4, "top": 2}),
        (3, "vary", 0.25),
    ):
        text = (tmp_path / "out" / f"generation-{number}.json").read_text("utf-8")
        assert json.loads(text)["settings"][name] == value


def test_flags_that_do_not_go_together(tmp_path, capsys):
    image, clear = tmp_path / "image.png", tmp_path / "clear.png"
    Image.fromarray(IMAGE).save(image)
    Image.new("RGBA", (16, 16)).save(clear)
    words = ["--out", tmp_path / "out", "--image", image]
    for more, message in (
        (["--mask", image, "--vary", 0.5], "go together"),
        (["--vary", 0.5, "--no-paste"], "--no-paste goes with --mask"),
        (["--strength", 0.5, "--fillings", 2], "--fillings N is of a hole"),
        (["--mask", image], "the mask has colours"),
        (["--mask", clear], f"{clear}: the mask is transparent in places"),
        (["--extend", "left=x"], "expects pixels by side such as left=16,top=8, got"),
        (["--extend", "left=4,left=8"], "has left twice, in 'left=4,left=8'"),
        (["--mask", ""], "cannot read image"),
        (["--extend", "up=4"], "extend has no side 'up': known are left, top"),
    ):
        code, said = run(capsys, *words, *more)
        assert code == 2 and message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_one_filling_is_enough_where_all_are_alike(nano_model):
    asked = {"image": IMAGE, "mask": MASK, "temperature": 0.0}
    request = Request.of(PROMPT, num_images=1, **asked)
    assert nano_model.settings(request)["fillings"] == 1
