import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.models.discriminator import BatchNorm, Discriminator, DiscriminatorConfig


def shapes(config, size):
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    net = Discriminator(config)
    params = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
    out = jax.eval_shape(lambda p, x: net.apply({"params": p}, x), params, images)
    return params, out


def test_it_has_the_size_of_the_published_one():
    """Convolutions 3 -> 64 -> 128 -> 256 -> 512 -> 1."""
    params, out = shapes(DiscriminatorConfig(), 256)
    sizes = [3 * 64, 64 * 128, 128 * 256, 256 * 512, 512 * 1]
    biases, norms = 64 + 1, 2 * (128 + 256 + 512)
    want = 16 * sum(sizes) + biases + norms
    assert want == 2_765_633
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == want
    assert out.shape == (2, 30, 30, 1)


@pytest.mark.parametrize(("layers", "size"), [(1, 16), (2, 16), (3, 64), (3, 72)])
def test_patches_are_counted(layers, size):
    config = DiscriminatorConfig(layers, 4)
    side = config.patches(size)
    assert shapes(config, size)[1].shape == (2, side, side, 1)


def test_it_starts_small():
    net = Discriminator(DiscriminatorConfig(2, 16))
    params = jax.jit(net.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    kernel, norm = params["conv_1"]["kernel"], params["norm_1"]
    assert float(jnp.std(kernel)) == pytest.approx(0.02, rel=0.05)
    assert float(jnp.std(norm["scale"] - 1)) == pytest.approx(0.02, rel=0.5)
    assert not params["conv_0"]["bias"].any()
    assert not norm["bias"].any()


def test_norm_takes_the_statistics_of_the_batch():
    x = np.random.default_rng(0).normal(3, 5, (4, 3, 3, 2)).astype(np.float32)
    params = {"scale": np.float32([2, 1]), "bias": np.float32([0, 7])}
    got = BatchNorm().apply({"params": params}, x)
    np.testing.assert_allclose(got.mean((0, 1, 2)), [0, 7], atol=1e-5)
    np.testing.assert_allclose(got.std((0, 1, 2)), [2, 1], rtol=1e-5)


def convolved(x, params, stride):
    """4x4 with a border of 1, in float64."""
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(x, (4, 4), (1, 2))
    seen = seen[:, ::stride, ::stride]  # [b, y, x, c, 4, 4]
    return np.einsum("byxcij,ijcd->byxd", seen, params["kernel"]) + params.get(
        "bias", 0
    )


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def test_logits_equal_numpy():
    config, rng = DiscriminatorConfig(2, 3), np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.5, leaf.shape), shapes(config, 16)[0]
    )
    images = rng.uniform(-1, 1, (2, 16, 16, 3))
    x = leaky(convolved(images, params["conv_0"], 2))
    for i, stride in ((1, 2), (2, 1)):
        x = convolved(x, params[f"conv_{i}"], stride)
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        norm = params[f"norm_{i}"]
        x = leaky(norm["scale"] * x + norm["bias"])
    found = jax.jit(Discriminator(config).apply)(
        {"params": jax.tree.map(np.float32, params)}, images.astype(np.float32)
    )
    np.testing.assert_allclose(found, convolved(x, params["out"], 1), atol=1e-4)
