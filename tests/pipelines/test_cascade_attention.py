"""`attention` of a cascade's stages: which places of an image take a text's pieces."""

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.families.imagen.presets import STAGES
from cogjax.model import Model
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.sampling.diffusion.settings import CascadeSampler
from tests.test_distillation import TEXT, component

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def cascade(nano_model):
    """Two stages with random weights."""
    parts = {"text_encoder": component(TEXT)}
    parts |= {
        n: component(STAGES["nano"][i]) for i, n in enumerate(("base", "super_1"))
    }
    layout = Cascade(("v", "v"), ("cosine", "cosine"), ("linear",))
    text = nano_model.model.text
    return CascadePipeline(Model("imagen", parts, layout, text, CascadeSampler()))


@pytest.mark.parametrize("stage", [0, 1])
def test_each_stage_reads_the_text(cascade, stage):
    found = cascade.attention(IMAGE, "a cat", stage=stage)
    pieces = cascade.model.text.encode("a cat")
    assert len(found.keys) == len(pieces) + 1 and found.keys[-1] == ""
    rows, columns = found.shape
    layers = len(found.layers)
    assert found.over_text.shape == (layers, 1, rows * columns, len(found.keys))
    taken = found.over_text.sum(-1)
    # The image itself has the rest.
    assert np.all(taken > 0) and np.all(taken < 1)
    other = cascade.attention(IMAGE, "a cat", stage=stage, time=0.9)
    assert np.abs(other.over_text - found.over_text).max() > 1e-5
    assert found.picture().width > 144
    with pytest.raises(UserError, match="no codes were predicted"):
        found.of_code(0)


def test_stages_and_times_that_are_not_there(cascade):
    with pytest.raises(UserError, match="stage is 2, expected"):
        cascade.attention(IMAGE, "a cat", stage=2)
    with pytest.raises(UserError, match="time is 2"):
        cascade.attention(IMAGE, "a cat", time=2)
