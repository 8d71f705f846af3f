"""What imported models can do beside drawing: the table of docs/importing.md, tried."""

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import cogjax
from cogjax.catalogue import families
from cogjax.cli import main
from cogjax.errors import Notice, UserError
from cogjax.pipelines.contracts import Codec, Generator, Reader, Scorer
from tests.importing import public

PAGE = Path(__file__).parents[2] / "docs" / "importing.md"
PROMPTS = {
    "cogview": "a red cat",
    "dalle-mini": "a red cat",
    "llamagen-c2i": "tench",
    "llamagen-t2i": "a red cat",
    "mindalle": "a red cat",
    "rudalle-v2": "кот",
    "rudalle-v3": "кот",
}
# Names of the columns of the page's table.
COLUMNS = {name: name for name in PROMPTS} | {"rudalle-v2": "rudalle v2"}
COLUMNS |= {"rudalle-v3": "rudalle v3", "llamagen-c2i": "llamagen, classes"}
COLUMNS |= {"llamagen-t2i": "llamagen, captions"}
# All but one of each kind of loop are tried by the slow tests.
NAMES = [
    name
    if name in ("dalle-mini", "mindalle")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in PROMPTS
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """name -> model folder."""
    return public.imported(tmp_path_factory)


def page():
    """{column: {ability: cell}} of the table of abilities."""
    lines = PAGE.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| ability |"))
    cells = [re.split(r"\s*\|\s*", line.strip("| ")) for line in lines[start:]]
    names, rows = cells[0][1:], {}
    for line, row in zip(lines[start + 2 :], cells[2:], strict=False):
        if not line.startswith("|"):
            break
        rows[row[0]] = row[1:]
    return {
        name: {ability: row[i] for ability, row in rows.items()}
        for i, name in enumerate(names)
    }


def generate(model, name, num_images=2, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)
        return model.generate(PROMPTS[name], num_images, seed=3, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_all_at_once(folders, name):
    """int8, guidance, an image prompt, a preview, and candidates that are judged.

    Kept codes are those of the image, each image has a seed of its own, the same among
    candidates, and what is chosen is what the judge likes best.
    """
    model = cogjax.load(folders(name), weights="int8")
    image = np.random.default_rng(0).integers(
        0, 256, (model.image_size, model.image_size, 3), np.uint8
    )
    keep = np.arange(model.grid)[:, None] < np.full(model.grid, model.grid // 2)
    settings = {"image": image, "keep": keep, "guidance": 2.0, "top_k": 8}
    settings["temperature"] = 50.0  # Some random networks are sure of a code.
    seen = []
    found = generate(
        model, name, 3, preview=lambda *each: seen.append(each), **settings
    )
    kept, [own] = found.codes[0][:, keep], model.encode(image)
    assert (kept == own[keep]).all()
    assert (found.codes[0, 0] != found.codes[0, 1]).any()
    rows = [int((codes[0] >= 0).sum()) // model.grid for _, codes in seen]
    assert rows == list(range(1, model.grid + 1))
    again = generate(model, name, 1, rerank=3, rerank_by=_likes(found), **settings)
    np.testing.assert_array_equal(again.codes[0, 0], found.codes[0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_a_hole_and_a_negative_prompt(folders, name):
    """Codes outside of the hole stay, and of two fillings the better one.

    Guided away from the prompt itself nothing is left of guidance.
    """
    model = cogjax.load(folders(name))
    size, grid = model.image_size, model.grid
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    mask = np.zeros((size, size), bool)
    mask[size // 2 : -size // grid] = True
    settings = {"image": image, "mask": mask, "temperature": 50.0, "top_k": 8}
    one, two = (
        generate(model, name, 2, guidance=1.0, fillings=k, **settings).codes[0]
        for k in (1, 2)
    )
    keep = np.ones((grid, grid), bool)
    keep[grid // 2 : -1] = False
    [own] = model.encode(image)
    np.testing.assert_array_equal(two[:, keep], [own[keep]] * 2)
    losses = model._code_losses(
        np.concatenate([one, two]).reshape(4, -1), [model.pieces(PROMPTS[name])] * 4
    )
    behind = losses[:, -grid:].sum(1)
    assert (behind[2:] <= behind[:2]).all()
    same = generate(
        model, name, 2, guidance=3.0, fillings=2, negative=PROMPTS[name], **settings
    )
    np.testing.assert_array_equal(same.codes[0], two)


def _likes(found):
    """A judge that likes the second image best."""

    def score(pixels, texts):
        assert len(pixels) == len(texts) == 3
        return np.array([(x != found.pixels[0, 1]).mean() for x in pixels])

    return score


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_texts(folders, name):
    """A likelier image scores less; the table says who writes texts."""
    model, said = cogjax.load(folders(name)), page()[COLUMNS[name]]
    assert isinstance(model, Generator) and isinstance(model, Codec)
    assert isinstance(model, Scorer) == (said["`score`, `--rerank N`"] == "yes")
    assert isinstance(model, Reader) == (said["`caption`"] == "yes")
    found = generate(model, name, 1, temperature=0, guidance=1.0)
    other = (found.codes[0] + 1) % model.num_codes
    if not isinstance(model, Reader):
        codes = np.concatenate([found.codes[0], other])
        losses = model.image_losses(codes, PROMPTS[name])
        assert losses[0] < losses[1]
        return
    assert model.score(found.images, [PROMPTS[name]]).shape == (1,)
    assert isinstance(model.caption(found.images)[0], str)


@pytest.mark.parametrize("name", NAMES)
def test_drafts_change_nothing(folders, name):
    """The likeliest codes are the same, or it is refused, as the table says."""
    model, said = cogjax.load(folders(name)), page()[COLUMNS[name]]
    if said["`--speculate N`"] == "no":
        with pytest.raises(UserError, match="speculate is not for a model whose codes"):
            generate(model, name, 1, speculate=4)
        return
    one, many = (
        generate(model, name, 1, temperature=0, guidance=1.0, speculate=count).codes
        for count in (0, 4)
    )
    np.testing.assert_array_equal(one, many)


def test_a_text_that_is_encoded_scores_images(folders):
    """The mean loss of the codes, by the network's logits in float64."""
    model = cogjax.load(folders("dalle-mini"))
    texts, part = ["a red cat", "a car"], model.model["transformer"]
    codes = np.random.default_rng(0).integers(24, size=(2, 16, 16))
    prompts, _ = model.prompts([model.pieces(text) for text in texts])
    length = prompts.ids.shape[1]
    mask = np.arange(length) < length - prompts.num_padding[:, None]
    flat = codes.reshape(2, -1).astype(np.int32)
    weights = {"params": part.params}
    logits = part.network.apply(
        weights, prompts.ids, mask, flat[:, :-1], method="score"
    )
    logits = np.asarray(logits, np.float64)[..., :24]
    own = np.take_along_axis(logits, flat[..., None], -1)[..., 0]
    losses = (np.log(np.exp(logits).sum(-1)) - own).mean(-1)
    np.testing.assert_allclose(model.image_losses(codes, texts), losses, atol=1e-4)


def test_commands_of_an_imported_model(folders, tmp_path, capsys):
    """A CLIP chooses, an image is scored, and what writes no text says so."""
    model, clip = str(folders("mindalle")), str(folders("clip"))
    command = ["generate", "a red cat", "--model", model, "--out", str(tmp_path)]
    more = ["--num-images", "1", "--rerank", "3", "--rerank-by", "clip", "--clip", clip]
    assert main([*command, *more]) == 0
    record = json.loads((tmp_path / "generation.json").read_text())
    assert record["settings"]["rerank_by"] == "clip"
    assert main([*command, "--num-images", "1", "--rerank", "2"]) == 0
    own = json.loads((tmp_path / "generation-2.json").read_text())
    assert own["settings"]["rerank_by"] == "images"
    image = str(tmp_path / record["images"][0]["file"])
    capsys.readouterr()
    assert main(["score", image, "a red cat", "--model", model]) == 0
    loss = float(capsys.readouterr().out.split()[0])
    codes = np.array(record["images"][0]["codes"])[None]
    # The losses are of the codes that it was drawn from, not of those it is read as.
    own = cogjax.load(folders("mindalle")).image_losses(codes, "a red cat")
    assert 0 < loss < 2 * own[0]
    assert main(["caption", image, "--model", model]) == 2
    printed = capsys.readouterr().err
    assert printed == "cogjax: error: " + printed.partition("error: ")[2]
    assert "this model does not read images" in printed and printed.count("\n") == 1


def test_who_can_be_trained():
    """The page's row of training against the catalogue."""
    for column, said in page().items():
        family = families()[re.split("[, ]", column)[0].replace("-", "_")]
        assert (said["`train`"] == "yes") == bool(family.stages), column
