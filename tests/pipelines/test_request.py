"""A request checks itself, before any model is there."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.pipelines.checks import NUM_IMAGES
from cogjax.pipelines.request import Request

IMAGE = np.zeros((16, 16, 3), np.uint8)


def test_what_is_left_out_has_its_default():
    request = Request.of(" a cat ")
    assert request.prompts == ("a cat",)
    assert request.num_images == NUM_IMAGES
    assert request.temperature is None and request.image is None


def test_numbers_and_images_of_other_libraries_are_taken():
    request = Request.of(
        ["a"],
        num_images=np.int64(2),
        temperature=np.float32(0.5),
        image=IMAGE,
        keep=[[True, False], [False, False]],
    )
    assert type(request.num_images) is int
    assert isinstance(request.image, Image.Image)
    assert request.keep.dtype == bool and request.keep.sum() == 1


def test_what_is_drawn_has_the_size_of_what_extends_it():
    turned = Image.fromarray(IMAGE[:, :8])
    turned.getexif()[0x0112] = 6  # It is shown on its side.
    given = {"image": turned, "extend": {"left": 16, "bottom": -2}}
    assert Request.of("a cat", **given).drawn_size == (6, 32)
    assert Request.of("a cat", image=turned, vary=0.5).drawn_size == (8, 16)
    assert Request.of("a cat").drawn_size is None


def test_a_mapping_is_no_list_of_prompts():
    with pytest.raises(UserError, match="expected a text or a list of texts"):
        Request.of({"a": 1})


@pytest.mark.parametrize("text", ["\U0001fae8", "\U000e0fff"])
def test_characters_that_are_newer_than_the_tables_are_a_prompt(text):
    """An emoji of Unicode 15, and a place that no version fills."""
    assert Request.of(text).prompts == (text,)


def test_a_request_is_taken_as_it_is():
    request = Request(("a", "b"), seed=3)
    assert Request.of(request, num_images=NUM_IMAGES, seed=0) is request


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": ()}, "no prompt"),
        ({"prompts": " "}, "prompt 1 is empty"),
        ({"prompts": ["a", "\u200b"]}, "prompt 2 is empty"),
        ({"prompts": 5}, "prompts is 5, expected a text or a list of texts"),
        ({"prompts": ["a", 5]}, "prompt 2 is 5, expected a text"),
        ({"prompts": ["a"] * 10_001}, "10001 prompts, at most 10000"),
        ({"num_images": 10**9}, "num_images is 1000000000, .* from 1 to 1000"),
        ({"num_images": 2.5}, "num_images is 2.5, expected a whole number"),
        ({"num_images": True}, "num_images is True"),
        ({"rerank": 10**9}, "rerank is 1000000000, .* from 0 to 1000"),
        ({"seed": -1}, "seed is -1"),
        ({"guidance": 1e308}, "guidance is 1e.308, expected a number from 0 to 100"),
        ({"guidance": np.array(3.0)}, r"guidance is array.3..*, expected a number"),
        ({"steps": b"ab"}, "steps is b'ab', expected a whole number"),
        ({"steps": {9, 2}}, "steps is {.*}, expected a whole number"),
        ({"temperature": "hot"}, "temperature is 'hot', expected a number"),
        ({"decode": "states"}, "decode is 'states'"),
        ({"temprature": 1.0}, "no setting 'temprature': did you mean 'temperature'"),
        ({"num_images": 0}, "num_images is 0"),
        ({"num_images": 4, "rerank": 2}, "at least num_images"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"guidance": float("inf")}, "guidance is inf"),
        ({"keep": np.ones((4, 4), bool)}, "give both or neither"),
        ({"image": IMAGE}, "give both or neither"),
        ({"strength": 0.5}, "give both or neither"),
        ({"image": IMAGE, "strength": 0}, "strength is 0, expected a number from 0.05"),
        ({"image": IMAGE, "keep": np.ones((4, 4))}, "expected bool .rows, columns."),
        ({"image": IMAGE[0, 0], "keep": np.ones((4, 4), bool)}, "expected a PIL image"),
        ({"speculate": 1}, "speculate is 1, expected 0 or 2 to"),
        ({"speculate": 2.5}, "speculate is 2.5"),
        ({"guidance": (5, -1)}, "guidance of stage 2 is -1, expected a number from 0"),
        ({"steps": [4, 2.5]}, "steps of stage 2 is 2.5, expected a whole number"),
        ({"percentile": (0, 0.995)}, "percentile of stage 2 is 0.995, of 100"),
        ({"guidance": ()}, "guidance has 0 values, expected one, or one a stage"),
        ({"steps": (4,) * 9}, "steps has 9 values"),
    ],
)
def test_bad_values(settings, message):
    with pytest.raises(UserError, match=message):
        Request.of(**{"prompts": "a cat"} | settings)


def test_a_request_needs_no_jax():
    """So that the command line refuses it at once."""
    code = "import sys, cogjax.pipelines.request; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
