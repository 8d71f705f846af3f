import functools

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
    return np.float32(x), np.float32(kernel)


def textbook(x, kernel, stride):
    low = stride // 2
    pad = ((low, stride - low),) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), pad, dimension_numbers=LAYOUT
    )


def test_halving_conv_pads_on_the_right_and_bottom():
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(2, 4, 6, 3)))
    kernel = np.float32(rng.normal(size=(3, 3, 3, 5)))

    @jax.jit
    def run(*args):
        pads = ((0, 1), (0, 1)), "SAME"
        conv = functools.partial(jax.lax.conv_general_dilated, dimension_numbers=LAYOUT)
        wants = [conv(*args, (2, 2), pad) for pad in pads]
        return image.halving_conv(*args), wants

    got, wants = run(x, kernel)
    for want in wants:
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_strided_conv_equals_the_textbook_form(stride):
    def with_gradients(conv):
        def loss(x, kernel):
            out = conv(x, kernel, stride)
            return jnp.sum(out**2), out

        return jax.grad(loss, (0, 1), has_aux=True)

    forms = [with_gradients(conv) for conv in (image.strided_conv, textbook)]
    run = jax.jit(lambda *args: [form(*args) for form in forms])
    (grads, got), (wanted, expected) = run(*arrays(stride))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    for a, b in zip(grads, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_transpose_is_the_adjoint(stride):
    """<conv(x), y> = <x, conv_transpose(y)> with input and output widths exchanged."""
    x, kernel = arrays(stride)
    y = np.float32(np.random.default_rng(1).normal(size=(2, 2, 3, 5)))

    @jax.jit
    def run(x, kernel, y):
        back = image.strided_conv_transpose(y, jnp.swapaxes(kernel, 2, 3), stride)
        return image.strided_conv(x, kernel, stride), back

    out, back = run(x, kernel, y)
    assert back.shape == x.shape and out.shape == y.shape
    np.testing.assert_allclose(np.vdot(out, y), np.vdot(x, back), rtol=1e-4)


def test_transpose_follows_torch():
    """ConvTranspose2d(kernel 4, stride 2, padding 1), written as its definition."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 3, 3, 2)), rng.normal(size=(4, 4, 2, 5))
    full = np.zeros((1, 8, 8, 5))
    for i in range(3):
        for j in range(3):
            contribution = np.einsum("c,pqcd->pqd", x[0, i, j], kernel)
            full[0, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += contribution
    transpose = jax.jit(image.strided_conv_transpose, static_argnums=2)
    got = transpose(np.float32(x), np.float32(kernel), 2)
    np.testing.assert_allclose(got, full[:, 1:-1, 1:-1], rtol=1e-4, atol=1e-4)


def test_space_to_depth_is_undone():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    moved = np.asarray(jax.jit(image.space_to_depth, static_argnums=1)(x, 2))
    np.testing.assert_array_equal(moved[0, 0, 0], x[0, :2, :2].reshape(-1))
    back = jax.jit(image.depth_to_space, static_argnums=1)(moved, 2)
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("stride", [2, 3, 4])
def test_resize_conv_repeats_pixels_and_convolves(stride):
    rng = np.random.default_rng(0)
    x = np.float32(rng.normal(size=(2, 4, 3, 3)))
    kernel = np.float32(rng.normal(size=(stride + 1, stride + 1, 3, 5)))
    large = x.repeat(stride, 1).repeat(stride, 2)
    before = stride - stride // 2
    pad = ((before, stride - before),) * 2
    want, got = jax.jit(
        lambda *args: (
            jax.lax.conv_general_dilated(*args, (1, 1), pad, dimension_numbers=LAYOUT),
            image.resize_conv(x, kernel, stride),
        )
    )(large, kernel)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_max_pool_and_where_its_gradient_goes():
    """To the first of equals, row by row."""
    x = np.float32(np.random.default_rng(0).normal(size=(1, 4, 2, 2)))
    x[0, :2, :, 0] = [[1, 3], [3, 2]]

    def run(x):
        out = image.max_pool(x)
        return jnp.sum(out * jnp.arange(1.0, 5).reshape(1, 2, 1, 2)), out

    grad, out = jax.jit(jax.grad(run, has_aux=True))(x)
    np.testing.assert_array_equal(out, x.reshape(1, 2, 2, 1, 2, 2).max((2, 4)))
    np.testing.assert_array_equal(grad[0, :2, :, 0], [[0, 1], [0, 0]])
    rest = x[0, 2:, :, 1]
    np.testing.assert_array_equal(grad[0, 2:, :, 1], 4 * (rest == rest.max()))
