"""Plans of imported models at the sizes of their releases."""

import jax
import pytest

from cogjax import config as configs
from cogjax.errors import UserError
from cogjax.plan import sampling, training
from cogjax.plan.drawing import drawing_of
from cogjax.plan.flops import count_flops
from cogjax.plan.sampling import plan_sampling
from cogjax.plan.workload import Workload

# Weights in millions, as their authors count them.
MILLIONS = {
    "dalle_mini/released.py:mega": 2600,
    "llamagen/released.py:xl": 775,
    "llamagen/released.py:captions,xl-512": 775,
    "llamagen/released.py:3b": 3100,
    "mindalle/released.py:1.3b": 1300,
    "rudalle/released.py:v2": 1300,
}


@pytest.mark.parametrize("name", MILLIONS)
def test_released_sizes_are_planned(name):
    """Two passes of other lengths, gated MLPs and captions are counted too."""
    config = configs.load(f"experiments/{name}", [])
    report = training.plan(config, "v5e:8x8", estimate=True)
    assert report.parameters == pytest.approx(MILLIONS[name] * 1e6, rel=0.02)
    # Captions have padding: what its mask hides is computed.
    assert report.counted_flops == pytest.approx(report.flops, rel=0.08)
    assert report.fits
    drawn = plan_sampling(config, "v5e:2x2", 8, estimate=True)
    assert drawn.fits and drawn.parameters == report.parameters


@pytest.mark.parametrize(
    "name", ["dalle_mini/released.py:mini", "llamagen/released.py:b"]
)
def test_flops_of_drawing(name):
    """One row: with many, the CPU computes attention by sums, not by products."""
    config = configs.load(f"experiments/{name}", []) | {"sample": {"sampler": {}}}
    drawing = drawing_of(Workload.of(config), 1)
    until = jax.ShapeDtypeStruct((), "int32")
    counted = count_flops(drawing.draw, drawing.params, drawing.state, until)
    assert sampling.token_flops(drawing) == pytest.approx(counted, rel=0.02)


def test_a_size_that_was_not_released():
    config = configs.load("experiments/llamagen/released.py:xs", [])
    with pytest.raises(UserError, match="model.size is 'xs', expected b, l, xl, xxl"):
        training.plan(config, "v5e:8x8", estimate=True)
