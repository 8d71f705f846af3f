import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops import image

LAYOUT = ("NHWC", "HWIO", "NHWC")


def arrays(stride):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2 * stride, 3 * stride, 3))
    kernel = rng.normal(size=(2 * stride, 2 * stride, 3, 5))
    return jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32)


def textbook(x, kernel, stride):
    low = stride // 2
    pad = ((low, stride - low),) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pad, dimension_numbers=LAYOUT
    )


def test_halving_conv_pads_on_the_right_and_bottom():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, 4, 6, 3)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 3, 5)), jnp.float32)
    wants = [
        jax.lax.conv_general_dilated(x, kernel, (2, 2), pad, dimension_numbers=LAYOUT)
        for pad in (((0, 1), (0, 1)), "SAME")
    ]
    got = image.halving_conv(x, kernel)
    for want in wants:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_strided_conv_equals_the_textbook_form(stride):
    x, kernel = arrays(stride)
    args = (x, kernel)
    got, expected = image.strided_conv(*args, stride), textbook(*args, stride)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    grads = [
        jax.grad(lambda x, w, f=f: jnp.sum(f(x, w, stride) ** 2), (0, 1))(*args)
        for f in (image.strided_conv, textbook)
    ]
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_transpose_is_the_adjoint(stride):
    """<conv(x), y> = <x, conv_transpose(y)> with input and output widths exchanged."""
    x, kernel = arrays(stride)
    out = image.strided_conv(x, kernel, stride)
    y = jnp.asarray(np.random.default_rng(1).normal(size=out.shape), jnp.float32)
    back = image.strided_conv_transpose(y, jnp.swapaxes(kernel, 2, 3), stride)
    assert back.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(out, y), jnp.vdot(x, back), rtol=1e-4)


def test_transpose_follows_torch():
    """ConvTranspose2d(kernel 4, stride 2, padding 1), written as its definition."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 3, 2)), rng.normal(size=(4, 4, 2, 5))
    full = np.zeros((1, 8, 8, 5))
    for i in range(3):
        for j in range(3):
            contribution = np.einsum("c,pqcd->pqd", x[0, i, j], kernel)
            full[0, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += contribution
    got = image.strided_conv_transpose(jnp.asarray(x), jnp.asarray(kernel), 2)
    np.testing.assert_allclose(got, full[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_space_to_depth_is_undone():
    x = jnp.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    moved = image.space_to_depth(x, 2)
    np.testing.assert_array_equal(moved[0, 0, 0], x[0, :2, :2].reshape(-1))
    np.testing.assert_array_equal(image.depth_to_space(moved, 2), x)
