"""A nano model of pairs with random weights, in Python and on the command line."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli
from cogjax.errors import UserError
from cogjax.families.dalle import presets
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM
from cogjax.pipelines.pairs import PairsPipeline
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import CodeByCode
from tests.programs import full_forward, random_params

STYLES = ("line drawing", "flat icon", "线稿")
SETTINGS = presets.TransformerConfig(
    width=16, depth=3, heads=2, text_len=28, kernel=3, unroll=3
)


def make(nano_model, images):
    """A DALL-E of as many images a sequence, on the nano model's tokenizers."""
    parts = nano_model.model
    settings = dataclasses.replace(SETTINGS, images=images)
    tokenizer = parts["tokenizer"]
    layout = presets.make_layout(tokenizer.config, parts.text.size, settings)
    layout = dataclasses.replace(layout, styles=STYLES if images == 2 else ())
    network = presets.make_transformer(settings, layout)
    params = random_params(ImageLM(network), std=0.3)
    # Tokens tell more than places: what is given decides what is drawn.
    params["token_embedding"] *= 4
    components = {"tokenizer": tokenizer, "transformer": Component(network, params)}
    return Model("dalle", components, layout, parts.text)


def spread(tokenizer, images):
    """The tokenizer with some of the images' own vectors for codes.

    That of the nano model gives all images the same code.
    """
    encode = jax.jit(
        lambda x: tokenizer.network.apply(
            {"params": tokenizer.params}, x, method="encode"
        )
    )
    vectors = np.asarray(encode(np.stack(images) / np.float32(255)))  # [n, y, x, z]
    vectors = vectors.reshape(-1, vectors.shape[-1])[: tokenizer.config.codebook_size]
    return dataclasses.replace(tokenizer, state={"codebook": vectors})


@pytest.fixture(scope="module")
def folder(nano_model, sources, tmp_path_factory):
    model = make(nano_model, 2)
    tokenizer = spread(model["tokenizer"], sources)
    model = PairsPipeline(model.with_component("tokenizer", tokenizer))
    return model.save(tmp_path_factory.mktemp("pairs") / "model")


@pytest.fixture(scope="module")
def model(folder):
    return cogjax.load(folder)


@pytest.fixture(scope="module")
def sources():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (16, 16, 3)).astype(np.uint8) for _ in STYLES]


@pytest.fixture(scope="module")
def drawn(model, sources):
    """Two images of each source in a style each, of seed 3."""
    return model.generate(image=sources, style=STYLES, num_images=2, seed=3)


def test_it_gives_the_new_image_alone(model, drawn):
    assert type(model) is PairsPipeline and model.styles == STYLES
    assert drawn.pixels.shape == (3, 2, 16, 16, 3)
    assert drawn.codes.shape == (3, 2, model.grid, model.grid)
    np.testing.assert_array_equal(drawn.pixels[1], model.decode(drawn.codes[1]))
    assert drawn.prompts == (
        "the same, as a line drawing",
        "the same, as a flat icon",
        "同样的，画成线稿",
    )


def test_the_likeliest_codes_after_text_and_source(model, sources):
    """Greedily, by the logits of the whole sequences."""
    found = model.generate(image=sources, style=STYLES, num_images=1, temperature=0)
    given = model.encode(np.stack(sources)).reshape(3, -1)
    pieces = [model.model.text.encode(prompt) for prompt in found.prompts]
    texts = model.layout.prompts(pieces).ids
    ids = np.concatenate([texts, given, found.codes.reshape(3, -1)], axis=1)
    net = ImageLM(model.transformer[0].config)
    params = model.model["transformer"].params
    logits = full_forward(net, params, ids)[:, texts.shape[1] + given.shape[1] - 1 : -1]
    best = np.asarray(logits)[..., : model.num_codes].argmax(-1)
    np.testing.assert_array_equal(found.codes.reshape(3, -1), best)


def test_an_image_does_not_depend_on_its_company(model, sources, drawn):
    alone = model.generate(image=sources[1], style=STYLES[1], num_images=1, seed=3)
    np.testing.assert_array_equal(alone.codes[0, 0], drawn.codes[1, 0])
    # But on its source.
    assert (model.encode(sources[0]) != model.encode(sources[1])).any()
    other = model.generate(image=sources[0], style=STYLES[1], num_images=1, seed=3)
    assert (other.codes != alone.codes).any()


def test_a_preview_is_of_the_new_image(model, sources, drawn):
    seen = []
    settings = {"image": sources, "style": STYLES, "num_images": 2, "seed": 3}
    model.generate(preview=lambda pairs, codes: seen.append((pairs, codes)), **settings)
    assert len(seen) == model.grid  # After each of its rows.
    for row, (pairs, codes) in enumerate(seen, 1):
        for (prompt, image), each in zip(pairs, codes, strict=True):
            want = drawn.codes[prompt, image]
            np.testing.assert_array_equal(each[:row], want[:row])
            assert (each[row:] == -1).all()


def test_a_reranker_reads_the_prompts(model, sources, drawn):
    """And the model those that ask for the styles."""
    asked = []

    def dark(images, texts):
        asked.extend(texts)
        return images.mean((1, 2, 3))

    settings = {"image": sources, "style": STYLES, "rerank": 2, "seed": 3}
    settings |= {"rerank_by": dark, "num_images": 1}
    words = ["a cat, line drawing", "a cat, flat", "猫"]
    found = model.generate(words, **settings)
    assert asked == [text for text in words for _ in range(2)]
    want = drawn.pixels.mean((2, 3, 4)).min(1)
    np.testing.assert_array_equal(found.pixels.mean((1, 2, 3, 4)), want)
    request = Request("a cat", image=sources[0], style=STYLES[:2], rerank=8)
    assert dataclasses.replace(request, seed=1).prompts == ("a cat", "a cat")


def test_what_it_cannot_do_is_one_line(model, sources):
    image = sources[0]
    for settings, words in (
        ({"prompts": "a red apple"}, "in another style, .*: give image and style"),
        ({"image": image, "style": "line drawin"}, "did you mean 'line drawing'"),
        ({"image": image, "style": "oil"}, "no style 'oil': known are line drawing, f"),
        (
            {"prompts": "a cat", "image": image, "style": STYLES[0], "rerank": 8},
            "rerank by a CLIP",
        ),
    ):
        with pytest.raises(UserError, match=words):
            model.generate(**settings)


def test_a_model_of_single_images_takes_no_style(nano_model, sources):
    plain = CodeByCode(make(nano_model, 1))
    for model in (plain, nano_model):
        with pytest.raises(UserError, match="style is for a model of pairs"):
            model.generate(image=sources[0], style=STYLES[0])


def test_a_sequence_of_other_codes_is_refused(nano_model):
    model = make(nano_model, 2)
    layout = dataclasses.replace(model.layout, image_len=16)
    with pytest.raises(UserError, match="32 and 16 codes a sequence"):
        PairsPipeline(dataclasses.replace(model, layout=layout))


def test_requests_that_do_not_go_together(sources):
    image, keep = sources[0], np.ones((4, 4), bool)
    for prompts, settings, words in (
        ((), {"style": "flat"}, "give image too"),
        ("a cat", {"style": "flat", "image": image}, "leave the prompts out"),
        ((), {"style": "flat", "image": image, "keep": keep}, "leave keep, mask, ext"),
        ((), {"style": ("a", "b"), "image": sources}, "3 images and 2 styles"),
        ((), {"style": (), "image": image}, "there is no style"),
        ((), {"style": "flat", "image": image, "rerank": 8}, "give a prompt too"),
        (
            ("a", "b", "c"),
            {"style": ("a", "b"), "image": image, "rerank": 8},
            "3 prompts and 2 styles",
        ),
        ((), {"style": "flat", "image": [3]}, "an image is int"),
        ((), {"image": image}, "there is no prompt"),
    ):
        with pytest.raises(UserError, match=words):
            Request(prompts, **settings)
    request = Request((), style="flat", image=image)
    again = dataclasses.replace(request, seed=1)
    assert (again.style, again.prompts) == (("flat",), ("the same, as a flat",))


def test_the_command(folder, model, sources, tmp_path, capsys):
    picture, out = tmp_path / "sketch.png", tmp_path / "out"
    Image.fromarray(sources[0]).save(picture)
    words = ["generate", "--model", str(folder), "--out", str(out), "--seed", "3"]
    words += ["--image", str(picture), "--num-images", "1"]
    assert cli.main([*words, "--as", "flat icon", "--as", "线稿"]) == 0
    record = json.loads((out / "generation.json").read_text())
    assert record["settings"]["style"] == ["flat icon", "线稿"]
    names = [image["file"] for image in record["images"]]
    assert names == ["the-same-as-a-flat-icon-1.png", "同样的-画成线稿-1.png"]
    found = model.generate(
        image=sources[0], style=("flat icon", "线稿"), num_images=1, seed=3
    )
    codes = [image["codes"] for image in record["images"]]
    assert codes == found.codes[:, 0].tolist()
    capsys.readouterr()
    for more, message in (
        ([], "--image-prompt IMAGE and --rows N go together, or --keep"),
        (["--as", "flat icon", "--rows", "1"], "--as makes the whole image anew"),
        (["--as", "oil"], "there is no style 'oil': known are line drawing"),
        (["a cat", "--as", "flat icon"], "leave the prompts out"),
    ):
        assert cli.main([*words, *more]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line
    plain = ["generate", "a cat", "--model", str(folder), "--out", str(out)]
    assert cli.main(plain) == 2
    assert "give image and style" in capsys.readouterr().err
