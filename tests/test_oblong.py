"""Images of several shapes in one model: training, sampling, reading, editing."""

import functools
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax.cli import main
from cogjax.data.images import encode_png, png_shape
from cogjax.data.records import DatasetBuilder, Example, contents_of
from cogjax.errors import UserError
from cogjax.evaluate.suites.retrieval import RetrievalSuite
from cogjax.evaluate.suites.run import run
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Mixture
from cogjax.families.cogview.stage import LM, MASKED
from cogjax.families.dalle import presets as dalle
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.stages.code_model import Setup
from tests.conftest import make_nano_model

pytestmark = pytest.mark.usefixtures("one_device")

SHAPES = ((4, 4), (2, 6), (6, 2))  # rows and columns of codes of 4 pixels
UNIT = 4
LIKELIEST = {"num_images": 1, "temperature": 0.0}


@pytest.fixture(scope="module")
def model():
    return make_nano_model(shapes=SHAPES)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return model.save(tmp_path_factory.mktemp("oblong"))


@pytest.fixture(scope="module")
def task(model):
    network = model.model["transformer"].config
    layout, mixture = model.layout, Mixture()
    return LM.make_task(Setup(mixture, None, None, model.model.text, layout, network))


@pytest.fixture(scope="module")
def drawn(model):
    """The likeliest image of each shape."""
    aspects = zip(SHAPES, ("1:1", "3:1", "1:3"), strict=True)
    return {
        shape: model.generate("a cat", **LIKELIEST, aspect=aspect)
        for shape, aspect in aspects
    }


def pictures(count=2):
    """Wide ones, tall ones and squares, in turn."""
    rng = np.random.default_rng(0)
    sides = [(8, 24), (24, 8), (16, 16)]
    return [
        Image.fromarray(rng.integers(0, 256, (*side, 3), np.uint8))
        for _ in range(count)
        for side in sides
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_codes_and_pixels_have_the_shape(drawn, shape):
    found = drawn[shape]
    rows, columns = shape
    assert found.codes.shape == (1, 1, rows, columns)
    assert found.pixels.shape == (1, 1, UNIT * rows, UNIT * columns, 3)


@functools.partial(jax.jit, static_argnums=0)
def _apply(network, params, ids, positions):
    return network.apply({"params": params}, ids, positions)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_drawn_is_likeliest_by_the_positions_of_training(
    model, task, drawn, shape
):
    """Two ways to the same: the cache, and one pass over the sequence of training."""
    layout, network = model.layout.of(shape), model.model["transformer"]
    codes = drawn[shape].codes.ravel()
    ids = layout.text_to_image(model.pieces("a cat"), codes)[0][None, :-1]
    positions = task._positions(ids)
    logits, _ = _apply(network.network, network.params, ids, positions)
    [start] = np.flatnonzero(ids[0] == layout.vocab.command("[BOI1]"))
    best = logits[0, start : start + len(codes), : model.num_codes]
    np.testing.assert_array_equal(np.asarray(best).argmax(-1), codes)
    losses = -np.asarray(jax.nn.log_softmax(best))[np.arange(len(codes)), codes]
    [found] = model.image_losses(codes.reshape(1, *shape), "a cat")
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-5)
    # Rows and columns of one table, and the id tells the shape.
    here = np.asarray(positions)[0, start + 1 :][: len(codes)] - layout.image_start
    wanted = np.divmod(np.arange(len(codes)), shape[1])
    np.testing.assert_array_equal(np.divmod(here, 6), wanted)
    assert ids[0, start - 1] == layout.vocab.shape(SHAPES.index(shape))


def test_training_reads_as_reading_does(model, task):
    for shape in SHAPES:
        layout = model.layout.of(shape)
        codes = np.arange(np.prod(shape))
        ids, weights = layout.image_to_text([1, 2], codes)
        count = int(weights.nonzero()[0].max())
        positions = np.asarray(task._positions(ids[None, :-1]))[0, :count]
        np.testing.assert_array_equal(positions, layout.reading_positions[:count])
        assert len(ids) == layout.length == model.layout.length


def test_examples_of_all_shapes_share_a_batch(model):
    rng, mixture = np.random.default_rng(0), Mixture()
    for shape in SHAPES:
        grid = np.arange(np.prod(shape)).reshape(shape)
        example = mixture.example(model.layout, [[1, 2]], grid, rng)
        ids = example["ids"]
        assert ids.shape == example["weights"].shape == (model.layout.length,)
        assert model.layout.vocab.shape(SHAPES.index(shape)) in ids
        np.testing.assert_array_equal(ids[ids < model.num_codes], grid.ravel())


def test_each_picture_is_read_in_its_nearest_shape(model):
    images, texts = [*pictures(1), pictures(1)[0]], ["cat", "a cat", "red", "cats"]
    scores, captions = model.score(images, texts), model.caption(images)
    assert len(captions) == len(set(scores.tolist())) == 4
    wide = model.encode(np.stack([images[0], images[3]]))
    assert wide.shape == (2, 2, 6)
    alone = model.score_codes(wide, [texts[0], texts[3]])
    np.testing.assert_allclose(scores[[0, 3]], alone, rtol=1e-5)
    [tall] = model.encode(np.asarray(images[1]))
    assert tall.shape == (6, 2)
    alone = model.score_codes(tall[None], texts[1])
    np.testing.assert_allclose(scores[1], alone[0], rtol=1e-5)
    assert model.caption(images[1]) == [captions[1]]


def test_a_picture_is_read_as_its_exif_turns_it(model):
    wide, tall, _ = pictures(1)
    tall.getexif()[0x0112] = 6
    [(own, which, codes)] = model.by_shape([tall, wide])
    assert own.shape == (2, 6) and which == [0, 1] and codes.shape == (2, 2, 6)


def test_pairs_of_wide_images_are_no_squares_one_above_the_other():
    counted = SimpleNamespace(counts=lambda: {"shape": {"12x12": 4}})
    assert contents_of({"train": counted}, 2) == {"train": {"shape": {"12x12": 4}}}
    assert contents_of({"train": counted}) == {"train": {}}


def test_evaluations_are_of_squares():
    wide = SimpleNamespace(shapes=((2, 6), (4, 4)))
    with pytest.raises(UserError, match="squares, and this model draws 2 x 6 codes"):
        run(RetrievalSuite("data"), wide, out=None, identity={}, about={})


def test_reranked_by_its_own_loss(model):
    found = model.generate("a cat", 2, rerank=2, aspect="3:1")
    scores = model.score_codes(found.codes[0], "a cat")
    np.testing.assert_allclose(found.scores[0], scores, rtol=1e-4)
    assert (np.diff(found.scores[0]) >= 0).all()


def test_a_part_of_a_wide_picture_is_drawn_anew(model):
    wide, _, _ = pictures(1)
    mask = np.zeros((8, 24), bool)
    mask[:, 12:] = True
    found = model.generate("a cat", **LIKELIEST, image=wide, mask=mask)
    [codes] = model.encode(np.asarray(wide)[None])
    assert found.codes.shape == (1, 1, 2, 6)
    np.testing.assert_array_equal(found.codes[0, 0][:, :3], codes[:, :3])
    np.testing.assert_array_equal(found.pixels[0, 0][:, :10], np.asarray(wide)[:, :10])
    keep = np.zeros((2, 6), bool)
    keep[0] = True
    kept = model.generate("a cat", **LIKELIEST, image=wide, keep=keep)
    np.testing.assert_array_equal(kept.codes[0, 0, 0], codes[0])
    sides = {"left": 24, "top": 8}
    extended = model.generate("a cat", **LIKELIEST, image=wide, extend=sides)
    assert extended.pixels.shape == (1, 1, 8, 24, 3)
    small = wide.resize((12, 4), Image.Resampling.LANCZOS)
    own = extended.pixels[0, 0, 4:, 12:]  # The lower right quarter, but for its edges.
    np.testing.assert_allclose(own[2:, 2:], np.asarray(small)[2:, 2:], atol=40)


def test_drafts_are_the_same_images(model, drawn):
    drafted = model.generate("a cat", **LIKELIEST, aspect="1:3", speculate=4)
    np.testing.assert_array_equal(drafted.codes, drawn[6, 2].codes)


def test_shapes_that_were_not_learnt_are_refused(model):
    with pytest.raises(UserError, match=r"aspect is 2:3.*1:1 \(4 x 4 codes\), 3:1 \(2"):
        model.generate("a cat", aspect="2:3")
    with pytest.raises(UserError, match=r"expected integers \[n, 4, 4\] or \[n, 2, 6"):
        model.decode(np.zeros((1, 3, 3), int))
    with pytest.raises(UserError, match=r"pixels \[n, 16, 16, 3\] or"):
        model.encode(np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="aspect is 'wide'"):
        model.generate("a cat", aspect="wide")


def test_previews_are_rows_of_the_shape(model):
    seen = []
    look = lambda pairs, codes: seen.append(codes[0])  # noqa: E731
    model.generate("a cat", **LIKELIEST, aspect="3:1", preview=look)
    assert [codes.shape for codes in seen] == [(2, 6)] * 2
    assert [(codes >= 0).all(1).sum() for codes in seen] == [1, 2]


def test_the_command_line_draws_an_aspect(folder, tmp_path, capsys):
    word = ["generate", "a cat", "--model", str(folder), "--out", str(tmp_path / "out")]
    word += ["--num-images", "1", "--temperature", "0"]
    main([*word, "--aspect", "1:3"])
    [record] = (tmp_path / "out").glob("generation*.json")
    found = json.loads(record.read_text())
    assert found["settings"]["aspect"] == "1:3"
    assert np.shape(found["images"][0]["codes"]) == (6, 2)
    assert png_shape((tmp_path / "out" / "a-cat-1.png").read_bytes()) == (24, 8)
    Image.new("RGB", (24, 8), "red").save(tmp_path / "wide.png")
    main([*word, "--image", str(tmp_path / "wide.png"), "--rows", "1"])
    assert png_shape((tmp_path / "out" / "a-cat-2.png").read_bytes()) == (8, 24)
    assert main([*word, "--aspect", "9:8:7"]) == 2
    assert "aspect is '9:8:7'" in capsys.readouterr().err


def test_what_is_learnt_of_a_data_set_of_shapes(folder, tmp_path, capsys):
    """Two steps, exported and loaded: it draws each shape of the data."""
    rng = np.random.default_rng(0)
    with DatasetBuilder(tmp_path / "data", "nano", 16, {"train": 1, "val": 1}) as made:
        for i, image in enumerate(pictures(4)):
            pixels = rng.integers(0, 256, np.asarray(image).shape, np.uint8)
            example = Example(str(i), encode_png(pixels), (("en", "a red apple"),))
            made.write("val" if i > 8 else "train", example)
        made.finish({})
    config = {
        "task": {"name": "lm"},
        "model": {"width": 32, "depth": 2, "heads": 2, "text_len": 12},
        "data": {"path": str(tmp_path / "data"), "tokenizer": str(folder)},
        "train": {"steps": 2, "batch_size": 8, "eval_every": 2},
        "eval": {"batches": 1},
    }
    config["data"]["text"] = str(folder)
    (tmp_path / "config.json").write_text(json.dumps(config))
    word = ["train", "--config", str(tmp_path / "config.json")]
    assert main([*word, "--workdir", str(tmp_path / "no")]) == 2
    assert "the data has 3 shapes of images" in capsys.readouterr().err
    config["model"] |= {"positions": "grid"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    out = tmp_path / "run"
    main([*word, "--workdir", str(out)])
    model = cogjax.load(out / "export")
    assert model.shapes == SHAPES
    found = model.generate("apple", **LIKELIEST, aspect="3:1")
    assert found.codes.shape == (1, 1, 2, 6)


@pytest.mark.parametrize("family", [dalle, ernie_vilg])
def test_other_families_learn_one_shape(family):
    tokenizer, nano = dalle.TOKENIZERS["nano"], family.TRANSFORMERS["nano"]
    layout = family.make_layout(tokenizer, 300, nano, ((2, 6),))
    network = family.make_transformer(nano, layout)
    assert (layout.shape, layout.image_len) == ((2, 6), 12)
    assert network.image_grid == network.sequence.image.grid == (2, 6)
    with pytest.raises(ValueError, match="has 3 shapes of images, and this family"):
        family.make_layout(tokenizer, 300, nano, SHAPES)


def test_masked_codes_are_learnt_of_one_shape():
    sizes = cogview.TOKENIZERS["nano"], 300, cogview.TRANSFORMERS["nano"]
    layout = MASKED.make_layout(*sizes, ((2, 6),))
    assert cogview.make_transformer(sizes[2], layout).sequence.image.grid == (2, 6)
    with pytest.raises(ValueError, match="masked codes are learnt of one"):
        MASKED.make_layout(*sizes, SHAPES)
