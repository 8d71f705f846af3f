"""Holes and negative prompts of a cascade of pixels."""

import numpy as np
import pytest

from cogjax.data.images import as_square
from cogjax.errors import UserError
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.request import Request
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
    other = cascade.generate(guidance=5, negative="a dog", **settings).pixels
    assert np.any(other != cascade.generate(guidance=5, **settings).pixels)
    with pytest.raises(UserError, match="negative is heeded by guidance"):
        cascade.generate(guidance=1, negative="a dog", **settings)
