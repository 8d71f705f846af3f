import jax
import numpy as np
from scipy import signal

from cogjax.nn.conv import ResBlock


def test_residual_block_equals_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 5, 6, 3))
    init = ResBlock(4).init, jax.random.key(0), x
    shapes = jax.eval_shape(*init)["params"]
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)
    got = jax.jit(ResBlock(4).apply)({"params": params}, x)
    kernel, small = params["conv3"]["kernel"], params["conv1"]["kernel"][0, 0]
    relu = np.maximum(x[0], 0)  # [y, x, c]
    wide = np.stack(
        [
            sum(
                signal.correlate2d(relu[..., i], kernel[..., i, o], mode="same")
                for i in range(3)
            )
            for o in range(4)
        ],
        axis=-1,
    )
    wide = np.maximum(wide + params["conv3"]["bias"], 0)
    want = x[0] + wide @ small + params["conv1"]["bias"]
    np.testing.assert_allclose(got[0], want, rtol=1e-4, atol=1e-4)
