"""Row F3: what overflows 16 bits stays right with the options that are there for it."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM
from tests.programs import NANO, random_params

IDS = np.random.default_rng(0).integers(0, 128, (2, 16))
PLACES = np.broadcast_to(np.arange(16), IDS.shape)
# PB-Relax off: attention as it is, plain LayerNorm.
PLAIN = {"alpha": 1.0, "norm_scope": "none"}


def logits(params, **settings):
    """float32 [2, 16, 128]."""
    net = ImageLM(dataclasses.replace(NANO, **settings))
    run = jax.jit(lambda p: net.apply({"params": p}, IDS, PLACES)[0])
    return np.float32(run(params))


@pytest.mark.parametrize("sandwich", [True, False])
@pytest.mark.parametrize(
    ("kernel", "factor"), [("qkv", 60.0), ("mlp_out", 3000.0)], ids=["scores", "values"]
)
def test_overflow_in_float16(kernel, factor, sandwich):
    """Scores, or values whose squares a norm sums, beyond 65,504."""
    layers = {"sandwich": sandwich}
    params = random_params(ImageLM(dataclasses.replace(NANO, **layers)), std=0.3)
    params["blocks"]["layers"][kernel]["kernel"] *= np.float32(factor)
    # In bfloat16, which has float32's range, and in float32 nothing overflows.
    wanted = logits(params, **layers)
    assert np.isfinite(logits(params, **layers, **PLAIN, dtype="bfloat16")).all()
    found = logits(params, **layers, dtype="float16")
    assert np.isfinite(found).all()
    error = np.abs(found - wanted).mean()
    plain = np.abs(logits(params, **layers, **PLAIN, dtype="float16") - wanted).mean()
    assert error < 0.1 * wanted.std() and not plain < 5 * error, (
        error,
        plain,
        wanted.std(),
    )
