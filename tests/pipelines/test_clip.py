"""A CLIP that knows four colours: vectors, scores, and what it refuses."""

import dataclasses

import numpy as np
import pytest

import cogjax
from cogjax.data.clip_bpe import ClipText
from cogjax.errors import Notice, UserError
from cogjax.model import Model
from cogjax.pipelines.clip import ClipPipeline
from cogjax.pipelines.contracts import Reader
from tests.conftest import TOY_COLOURS

NAMES = list(TOY_COLOURS)
# Their size is another than the network's.
IMAGES = np.zeros((4, 24, 24, 3), np.uint8) + np.uint8(
    [[[colour]] for colour in TOY_COLOURS.values()]
)


@pytest.fixture(scope="module")
def table(toy_clip):
    """Scores of each image with each name, lower is better: [4, 4]."""
    images, texts = np.repeat(IMAGES, 4, axis=0), NAMES * 4
    return toy_clip.score(images, texts).reshape(4, 4)


def test_the_right_name_has_the_lowest_score(table):
    np.testing.assert_array_equal(table.argmin(0), np.arange(4))
    np.testing.assert_array_equal(table.argmin(1), np.arange(4))
    assert table.min() >= 0 and table.max() <= 2


def test_a_score_is_the_distance_of_unit_vectors(toy_clip, table):
    images, texts = toy_clip.embed_images(IMAGES), toy_clip.embed_texts(NAMES)
    assert images.shape == texts.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(1 - images @ texts.T, table, atol=1e-5)


def test_what_is_at_the_sides_of_an_oblong_image_counts(toy_clip):
    """The one of four candidates that is red at both ends is the reddest."""
    wide = np.repeat(IMAGES, 3, axis=2)
    wide[:, :, 24:48] = IMAGES[3]
    for image, name in zip(wide[:3], NAMES[:3], strict=True):
        scores = toy_clip.score([image, IMAGES[3]], name)
        assert scores[0] < scores[1] - 0.01


def test_an_imported_one_sees_the_middle_square(toy_clip):
    """As it was published."""
    card = {"imported_as": "openai-clip"}
    imported = ClipPipeline(dataclasses.replace(toy_clip.model, card=card))
    assert (imported.oblong, toy_clip.oblong) == ("middle", "squeezed")
    wide = np.repeat(IMAGES, 3, axis=2)
    # A little more than the middle: a filter reads beyond the edge.
    wide[:, :, 12:60] = np.repeat(IMAGES[3], 2, axis=1)
    found, middle = imported.embed_images(wide), toy_clip.embed_images(IMAGES)[3]
    np.testing.assert_allclose(found, np.stack([middle] * 4), atol=1e-5)


def test_batches_and_repeated_texts_change_nothing(toy_clip):
    small = ClipPipeline(toy_clip.model, batch_size=3)
    texts = [NAMES[i] for i in (2, 0, 2, 2, 1, 0, 3)]
    want = toy_clip.embed_texts(NAMES)[[2, 0, 2, 2, 1, 0, 3]]
    np.testing.assert_allclose(small.embed_texts(texts), want, atol=1e-6)
    np.testing.assert_allclose(
        small.embed_images(IMAGES), toy_clip.embed_images(IMAGES), atol=1e-6
    )


def test_a_folder_loads_as_what_was_saved(toy_clip, toy_clip_folder, table):
    clip = cogjax.load(toy_clip_folder)
    assert clip.card == {"name": "toy"} and not isinstance(clip, Reader)
    np.testing.assert_allclose(clip.score(IMAGES, NAMES), np.diag(table), atol=1e-6)


def test_what_is_left_off_is_said_once_a_call(toy_clip):
    """The network reads the start, six pieces and the end."""
    text, tokenizer = "red 绿色 red 绿色 red 绿色", toy_clip.model.text
    ids = tokenizer.encode(text)
    read, rest = (tokenizer.decode(part) for part in (ids[:6], ids[6:]))
    said = f"a text has {len(ids)} pieces and the model reads 6; left off: '{rest}'"
    with pytest.warns(Notice, match=said):
        cut = toy_clip.embed_texts([*NAMES[:3], text])
    whole = toy_clip.embed_texts([*NAMES[:3], read])
    np.testing.assert_allclose(cut, whole, atol=1e-6)
    with pytest.warns(Notice, match="the first of 2 long texts has") as caught:
        toy_clip.embed_texts(["red", text, text, f"{text} red", "绿色"])
    assert len(caught) == 1


def test_refusals(toy_clip, toy_clip_folder):
    with pytest.raises(UserError, match="4 images but 3 texts"):
        toy_clip.score(IMAGES, NAMES[:3])
    with pytest.raises(UserError, match="there is no text: give at least one"):
        toy_clip.embed_texts([])
    with pytest.raises(UserError, match="a text is empty"):
        toy_clip.score(IMAGES, " ")
    with pytest.raises(UserError, match="has float32 weights, not int8"):
        cogjax.load(toy_clip_folder, weights="int8")
    parts = toy_clip.model.components
    with pytest.raises(UserError, match="no text tokenizer: import it again"):
        ClipPipeline(Model("clip", parts))
    text = ClipText(b"#version: 0.2\na b\n")
    with pytest.raises(UserError, match="text.model does not fit its network"):
        ClipPipeline(Model("clip", parts, text=text))
