"""Holes and negative prompts of a cascade of pixels."""

import dataclasses

import numpy as np
import pytest

from cogjax.data.images import as_square
from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.request import Request
from cogjax.sampling.diffusion.settings import CascadeSampler
from tests.exporting import test_stablehlo


@pytest.fixture(scope="module")
def cascade(nano_model):
    return CascadePipeline(test_stablehlo.cascade(nano_model))


def test_a_hole_of_an_image_is_drawn(cascade):
    """By a mask, in all stages; outside the image's own pixels are shown."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[10:] = True
    settings = {"num_images": 1, "steps": 2, "image": image}
    [[pixels]] = cascade.generate("a cat", mask=mask, **settings).pixels
    np.testing.assert_array_equal(pixels[:8], image[:8])
    assert np.abs(pixels[10:].astype(int) - image[10:]).max() > 10
    request = Request.of("a cat", extend={"top": 16}, **settings)
    [[pixels]] = cascade.generate(request).pixels
    shrunk = as_square(request.given((8, 8))[0], 16)
    np.testing.assert_array_equal(pixels[10:, 6:10], shrunk[10:, 6:10])
    assert np.abs(pixels[:8].astype(int) - shrunk[:8]).max() > 10


def test_a_negative_prompt_takes_the_place_of_no_text(cascade):
    """Guided away from the prompt itself nothing is left of guidance."""
    settings = {"prompts": "a cat", "num_images": 2, "steps": 2, "percentile": 0}
    plain = cascade.generate(guidance=1, **settings).pixels.astype(int)
    same = cascade.generate(guidance=5, negative="a cat", **settings).pixels
    assert np.abs(same - plain).max() <= 1
    # So it is not that of no text.
    other = cascade.generate(guidance=5, negative="a dog", **settings).pixels
    assert np.any(other != same)
    with pytest.raises(UserError, match="negative is heeded by guidance"):
        cascade.generate(guidance=1, negative="a dog", **settings)


def test_the_last_stage_enlarges_what_is_given(cascade):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    texts = ["a cat", "a red apple", "a cat"]
    large = cascade.enlarge(images, texts, seed=2)
    assert large.shape == (3, 16, 16, 3) and large.dtype == np.uint8
    # By two calls, the second filled up.
    cascade.batch_size = 2
    try:
        again = cascade.enlarge(images, texts, seed=2)
    finally:
        cascade.batch_size = 16
    assert abs(again.astype(int) - large).max() <= 1
    for others in (
        cascade.enlarge(images, texts, seed=3),
        cascade.enlarge(images[::-1], texts, seed=2),
    ):
        assert (others != large).mean() > 0.02
    with pytest.raises(UserError, match="3 images but 2 texts"):
        cascade.enlarge(images, texts[:2])


def test_a_base_enlarges_nothing(cascade):
    whole = cascade.model
    parts = {x: whole[x] for x in ("text_encoder", "base")}
    layout = Cascade(("v",), ("cosine",))
    sampler = CascadeSampler()
    base = dataclasses.replace(whole, components=parts, layout=layout, sampler=sampler)
    with pytest.raises(UserError, match="a base alone, and enlarges no images"):
        CascadePipeline(base).enlarge(np.zeros((8, 8, 3), np.uint8), "a cat")
