"""A CLIP at work: it reranks what another model generates, and scores files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli
from cogjax.data.images import decode_image
from cogjax.worlds.shapes.captions import read_caption
from cogjax.worlds.shapes.dataset import CAPTIONS, example, satisfied
from cogjax.worlds.shapes.scenes import Scene
from tests.conftest import TOY_COLOURS

NAMES, COLOURS = list(TOY_COLOURS), np.uint8(list(TOY_COLOURS.values()))


@pytest.fixture
def painter(nano_model, monkeypatch):
    """A model that generates plain images, whose colour follows from their codes."""

    def decode(codes):
        picks = COLOURS[codes.sum((1, 2)) % 4]
        return np.broadcast_to(picks[:, None, None], (len(codes), 16, 16, 3))

    monkeypatch.setattr(nano_model, "decode", decode)
    return nano_model


def test_reranking_keeps_the_image_that_fits(painter, toy_clip):
    found = painter.generate(NAMES, 1, rerank=16, rerank_by=toy_clip.score)
    np.testing.assert_array_equal(found.pixels[:, 0, 0, 0], COLOURS)
    first = painter.generate(NAMES, 1).pixels[:, 0, 0, 0]
    assert (first != COLOURS).any()
    want = toy_clip.score(found.pixels[:, 0], NAMES)
    np.testing.assert_allclose(found.scores[:, 0], want, atol=1e-6)


def test_the_command_reranks_by_a_clip(
    nano_folder, toy_clip, toy_clip_folder, tmp_path
):
    words = ["generate", "red", "--model", nano_folder, "--out", tmp_path / "out"]
    words += ["--num-images", 2, "--rerank", 4]
    words += ["--rerank-by", "clip", "--clip", toy_clip_folder]
    assert cli.main([str(word) for word in words]) == 0
    record = json.loads((tmp_path / "out" / "generation.json").read_text())
    judge = {"rerank_by": "clip", "clip": str(toy_clip_folder)}
    assert judge.items() <= record["settings"].items()
    images = [
        decode_image((tmp_path / "out" / f"red-{i}.png").read_bytes()) for i in (1, 2)
    ]
    scores = toy_clip.score(images, "red")
    assert scores[0] <= scores[1]
    written = [image["score"] for image in record["images"]]
    np.testing.assert_allclose(written, scores, atol=1e-4)


def test_the_command_scores_by_a_clip(toy_clip_folder, tmp_path, capsys):
    path = str(tmp_path / "red.png")
    Image.new("RGB", (20, 20), "red").save(path)
    scores = []
    for text in ("red", "蓝色"):
        words = ["score", path, text, "--by", "clip", "--clip", str(toy_clip_folder)]
        assert cli.main(words) == 0
        scores.append(float(capsys.readouterr().out.split()[0]))
    assert 0 <= scores[0] < scores[1] <= 2


def test_a_model_that_is_no_clip(nano_folder, tmp_path, capsys):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    words = ["score", str(tmp_path / "red.png"), "red", "--by", "clip", "--clip"]
    assert cli.main([*words, str(nano_folder)]) == 2
    assert "does not compare images and texts by vectors" in capsys.readouterr().err


@pytest.mark.parametrize("language", range(2))
def test_the_shipped_one_finds_captions_that_are_true(language):
    """64 held-out scenes: the best of all their captions in a language is true."""
    clip = cogjax.load("clip-shapes")
    items = [example(0, "val", i, easy=True) for i in range(64)]
    captions = [item.captions[language * CAPTIONS][1] for item in items]
    images = clip.embed_images([decode_image(item.image) for item in items])
    best = (images @ clip.embed_texts(captions).T).argmax(1)
    scenes = [Scene.from_json(item.meta["scene"]).items for item in items]
    true = [
        satisfied(read_caption(captions[i]), scene)
        for i, scene in zip(best, scenes, strict=True)
    ]
    assert np.mean(true) > 0.9


def test_the_shipped_one_of_icons_knows_what_a_picture_shows():
    """The names below the pictures of docs/icons.png, of 128 pixels each."""
    sheet = Image.open(Path(__file__).parents[1] / "docs/icons.png").convert("RGB")
    rows = (
        {1: "gem stone", 2: "calendar", 5: "magnet", 7: "chef hat one"},
        {1: "sleep", 2: "latin cross", 6: "kiss", 7: "open file folder", 11: "lock"},
        {0: "chicken leg", 6: "star of David", 9: "love letter"},
        {2: "test tube", 4: "cheese", 8: "delivery", 10: "check mark"},
        {1: "wavy dash", 4: "newspaper", 6: "luggage", 8: "chili"},
        {1: "devices", 4: "snowflake"},
    )
    places = [(x, y) for y, row in enumerate(rows) for x in row]
    corners = [(130 * x, 158 * y) for x, y in places]
    names = [name for row in rows for name in row.values()]
    pictures = [sheet.crop((x, y, x + 128, y + 128)) for x, y in corners]
    clip = cogjax.load("clip-icons")
    best = (clip.embed_images(pictures) @ clip.embed_texts(names).T).argmax(1)
    assert np.mean(best == np.arange(len(names))) > 0.8
