"""A request in parts: the same images, each once, as they are made."""

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.pipelines.contracts import PartByPart
from cogjax.pipelines.request import Request

PROMPTS = ("a red apple", "猫", "a blue cat")


@pytest.fixture
def model(nano_model, monkeypatch):
    """Four images fit into one call."""
    monkeypatch.setattr(nano_model, "batch_size", 4)
    return nano_model


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"num_images": 2}, [(range(0, 2), range(2)), (range(2, 3), range(2))]),
        (
            {"num_images": 5},
            [(range(i, i + 1), x) for i in range(3) for x in (range(3), range(3, 5))],
        ),
        (
            {"num_images": 1, "rerank": 2},
            [(range(0, 2), range(1)), (range(2, 3), range(1))],
        ),
    ],
)
def test_parts_are_the_whole(settings, parts, model):
    request, calls = Request(PROMPTS, seed=3, temperature=1.0, **settings), []
    whole = model.generate(request)
    found = list(model.generate_parts(request, progress=lambda *x: calls.append(x)))
    assert [(part.prompts, part.images) for part in found] == parts
    for prompts, images, result in found:
        here = np.ix_(prompts, images)
        assert result.prompts == PROMPTS[prompts[0] : prompts[-1] + 1]
        np.testing.assert_array_equal(result.codes, whole.codes[here])
        np.testing.assert_array_equal(result.pixels, whole.pixels[here])
        if request.rerank:
            np.testing.assert_allclose(result.scores, whole.scores[here], rtol=1e-5)
        assert len(result.unread) == len(prompts)
    total = 3 * max(request.num_images, request.rerank)
    done = [call[0] for call in calls]
    assert {call[1] for call in calls} == {total}
    assert done[0] == 0 and done[-1] == total and max(done) == total


def test_images_go_on_where_others_end(model):
    whole = model.generate(PROMPTS[0], 4, seed=7, temperature=1.0)
    rest = model.generate(PROMPTS[0], 2, seed=7, first=2, temperature=1.0)
    np.testing.assert_array_equal(rest.codes, whole.codes[:, 2:])
    with pytest.raises(UserError, match="first is -1, expected a whole number from 0"):
        Request("a", first=-1)


def test_a_mistake_is_said_before_the_first_part(model):
    assert isinstance(model, PartByPart)
    with pytest.raises(UserError, match="steps is for a masked model"):
        model.generate_parts(Request(PROMPTS, steps=2))
