"""Large convolutions have fewer products than XLA's, and the same values."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from cogjax.ops import convolution, winograd
from cogjax.plan.flops import count_flops

SETTINGS = {
    "lhs_dilation": (1, 1),
    "rhs_dilation": (1, 1),
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
    "feature_group_count": 1,
    "precision": None,
}
# Sides of images that are no multiples of tiles or bands, by the kernel's side.
SIDES = {1: (5, 7), 2: (8, 5), 3: (11, 6)}


def arrays(side):
    rng = np.random.default_rng(side)
    height, width = (each + side - 1 for each in SIDES[side])
    x = rng.normal(size=(2, height, width, 3)).astype(np.float32)
    return x, rng.normal(size=(side, side, 3, 5)).astype(np.float32)


def by_taps(x, kernel):
    """The sum over taps in float64, without padding."""
    side = len(kernel)
    height, width = (each - side + 1 for each in x.shape[1:3])
    x, kernel = x.astype(np.float64), kernel.astype(np.float64)
    return sum(
        x[:, i : i + height, j : j + width] @ kernel[i, j]
        for i in range(side)
        for j in range(side)
    )


@pytest.fixture
def all_are_large(monkeypatch):
    for name in ("PLACES", "CHANNELS", "PRODUCTS", "POINT_PRODUCTS"):
        monkeypatch.setattr(convolution, f"_LEAST_{name}", 1)


@pytest.mark.parametrize("band_bytes", [2**24, 4 * 6 * 8 * 4])
@pytest.mark.parametrize("side", [2, 3])
def test_fewer_products_give_the_same(monkeypatch, side, band_bytes):
    """In one piece, and image by image in bands."""
    monkeypatch.setattr(winograd, "_BAND_BYTES", band_bytes)
    x, kernel = arrays(side)
    run = jax.jit(functools.partial(winograd.convolve, plain=convolution._plain))
    wanted = by_taps(x, kernel)
    assert wanted.shape[1:3] == SIDES[side]
    np.testing.assert_allclose(run(x, kernel), wanted, atol=2e-6 * wanted.max())


@pytest.mark.parametrize("side", [2, 3])
def test_no_images(side):
    x, kernel = arrays(side)
    run = functools.partial(winograd.convolve, plain=convolution._plain)
    assert jax.eval_shape(run, x[:0], kernel).shape == (0, *SIDES[side], 5)


def test_any_number_of_images_in_one_program(monkeypatch):
    """As programs are exported."""
    monkeypatch.setattr(winograd, "_BAND_BYTES", 4 * 6 * 8 * 4)
    x, kernel = arrays(3)
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, *x.shape[1:]), x.dtype)
    run = jax.jit(lambda x: winograd.convolve(x, kernel, convolution._plain))
    wanted = by_taps(x, kernel)
    found = jax.export.export(run)(shape).call(x)
    np.testing.assert_allclose(found, wanted, atol=2e-6 * wanted.max())


@pytest.mark.parametrize("side", [1, 3])
def test_convolution_of_flax_and_its_gradients(all_are_large, side):
    x, kernel = arrays(side)

    def loss(form):
        def run(x, kernel):
            out = form(x, kernel, (1, 1), "SAME", **SETTINGS)
            return jnp.sum(out**2), out

        return jax.grad(run, (0, 1), has_aux=True)

    forms = convolution.general, jax.lax.conv_general_dilated
    got, want = jax.jit(lambda *args: [loss(form)(*args) for form in forms])(x, kernel)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), got, want
    )


def test_images_on_several_devices_stay_there(all_are_large):
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2])
    whole, split = (NamedSharding(mesh, PartitionSpec(*x)) for x in ((), ("data",)))
    x, kernel = arrays(3)
    run = functools.partial(
        convolution.general, strides=(1, 1), padding="SAME", **SETTINGS
    )
    with jax.set_mesh(mesh):
        placed = jax.device_put(x, split), jax.device_put(kernel, whole)
        compiled = jax.jit(run).lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()
    assert compiled.output_shardings.is_equivalent_to(split, x.ndim)


def test_other_convolutions_are_left_to_xla(all_are_large):
    """Strides, dilations, groups, and other kernels."""
    x = jnp.zeros((1, 8, 8, 4))
    same = {"strides": (1, 1), "padding": "SAME"}
    cases = [
        ((3, 3, 4, 4), same | {"strides": (2, 2)}),
        ((3, 3, 4, 4), same | {"rhs_dilation": (2, 2)}),
        ((3, 3, 1, 4), same | {"feature_group_count": 4}),
        ((1, 7, 4, 4), same),
    ]
    for shape, change in cases:
        settings = SETTINGS | change
        run = functools.partial(convolution.general, **settings)
        strides = settings.pop("strides")
        padding = settings.pop("padding")
        found = jax.make_jaxpr(run)(x, jnp.zeros(shape))
        plain = functools.partial(
            jax.lax.conv_general_dilated,
            window_strides=strides,
            padding=padding,
            **settings,
        )
        assert str(found) == str(jax.make_jaxpr(plain)(x, jnp.zeros(shape)))


@pytest.mark.parametrize(
    ("shape", "share"),
    [
        ((3, 3, 64, 1024), 1 / 2),
        ((2, 2, 64, 1024), 4 / 9),
        # Few channels, and few products.
        ((3, 3, 16, 4096), 1),
        ((3, 3, 64, 512), 1),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_only_large_ones_in_float32_have_fewer_products(shape, share, dtype):
    """Counted on 64 x 64 places, which 4 divides and 3 does not."""
    side, _, width, outputs = shape
    x = jax.ShapeDtypeStruct((1, 63 + side, 63 + side, width), dtype)
    kernel = jax.ShapeDtypeStruct(shape, dtype)
    if side == 2:
        run = convolution.valid_2x2
    else:
        run = functools.partial(
            convolution.general, strides=(1, 1), padding="VALID", **SETTINGS
        )
    wanted = 2 * 64**2 * side**2 * width * outputs
    if share < 1 and dtype == "float32":
        wanted *= share * (1 if side == 3 else (66 / 64) ** 2)
    np.testing.assert_allclose(count_flops(run, x, kernel), wanted, rtol=1e-6)
