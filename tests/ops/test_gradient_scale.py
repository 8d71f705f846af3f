import jax
import jax.numpy as jnp
import numpy as np

from cogjax.ops.gradient_scale import (
    LARGEST,
    SMALLEST,
    next_scales,
    scale_gradient,
    start_scales,
    unscale_gradient,
)

step = jax.jit(next_scales)


def after(finite, updates=1, scales=None):
    """Scales of one layer, both branches equally finite, after so many updates."""
    scales = scales or start_scales(1)
    for _ in range(updates):
        scales = step(scales, np.full((1, 2), finite))
    return scales


def test_a_scale_doubles_in_a_thousand_updates():
    np.testing.assert_allclose(after(True, 1000)["scale"], 2.0**14, rtol=1e-3)


def test_a_scale_falls_once_in_125_updates():
    for updates, falls in ((1, 1), (125, 1), (126, 2)):
        want = 2.0 ** (13 - falls / 2)
        np.testing.assert_allclose(after(False, updates)["scale"], want, rtol=1e-6)


def test_each_branch_moves_by_itself():
    finite = np.array([[True, False], [True, True]])
    moved = np.asarray(step(start_scales(2), finite)["scale"]) / 2.0**13
    rises = 2 ** (1 / 1000)
    np.testing.assert_allclose(moved, [[rises, 2**-0.5], [rises, rises]], rtol=1e-6)


def test_scales_stay_in_their_limits():
    for limit, finite in ((LARGEST, True), (SMALLEST, False)):
        scales = {**start_scales(1), "scale": np.full((1, 2), limit, np.float32)}
        np.testing.assert_array_equal(after(finite, 1, scales)["scale"], limit)


def test_gradients_are_scaled_rounded_filtered_and_unscaled():
    """Through a float16 branch x -> 2 x, one of whose gradients overflows."""
    scale = jnp.float32(2.0**14)

    def branch(x):
        h = unscale_gradient(x, scale).astype(jnp.float16)
        return scale_gradient((2 * h).astype(jnp.float32), scale)

    @jax.jit
    def run(x, pulled):
        out, pull = jax.vjp(branch, x)
        return out, *pull(pulled)

    x = np.float32([1.0, 2.0, 3.0])
    # 1e-8 is below float16, 4 * 2^14 above; the filter makes that one zero.
    out, grad = run(x, np.float32([1e-8, 4.0, 1.0]))
    np.testing.assert_array_equal(out, 2 * x)
    np.testing.assert_allclose(grad, [2e-8, 0.0, 2.0], rtol=1e-3)
