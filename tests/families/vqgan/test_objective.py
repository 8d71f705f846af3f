"""Where each gradient of a VQGAN's objective goes, and what it is."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.families.vqgan.objective import GANConfig, make_task
from cogjax.models.vgg import Vgg16Lpips, lpips_distance
from cogjax.models.vqgan import VQGANConfig
from cogjax.parallel.mesh import MeshConfig, batch_sharding, make_mesh
from cogjax.tasks.codebook import Codebook, CodebookConfig

MODEL = VQGANConfig(
    image_size=8,
    width=4,
    multipliers=(1,),
    res_blocks=1,
    attention=(),
    z_dim=6,
    code_dim=5,
    codebook_size=8,
    groups=2,
)
CONFIG = GANConfig(
    perceptual_weight=0.0,
    disc_start=3,
    disc_weight=0.8,
    disc_layers=1,
    disc_width=4,
)
RNG = np.random.default_rng(0)
BATCH = {"image": RNG.integers(0, 256, (8, 8, 8, 3)).astype(np.uint8)}
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def start():
    """(task, params, state) at the random start, every leaf moved a little."""
    task = make_task(MODEL, CONFIG)
    shapes = jax.eval_shape(task.init, jax.random.key(0))
    params = jax.tree.map(
        lambda x: RNG.normal(0, 0.3, x.shape).astype(np.float32), shapes[0]
    )
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes[1])
    # All codes in use: no restart blurs what is compared.
    state["stats"]["counts"] += 64.0
    return task, params, state


def gradients(task):
    """Compiled (params, state, batch) -> (grads, (loss, metrics))."""

    def run(params, state, batch):
        def loss(params):
            value, (_, metrics) = task.loss(params, state, batch, KEY)
            return value, (value, metrics)

        return jax.grad(loss, has_aux=True)(params)

    return jax.jit(run)


@pytest.fixture(scope="module")
def steps(start):
    """Gradients, loss and metrics before and at the discriminator's start."""
    task, params, state = start
    run = gradients(task)
    at = lambda step: {**state, "step": np.int32(step)}  # noqa: E731
    return jax.device_get((run(params, at(2), BATCH), run(params, at(3), BATCH)))


@pytest.fixture(scope="module")
def plain(start):
    """The same by plain differentiation of each term on its own."""
    task, params, state = start

    def terms(params):
        images = BATCH["image"].astype(np.float32) / 255
        net = {"params": params["net"]}
        z = task.model.apply(net, images, method="encode")
        quantized, _, metrics = task.codes.quantize(params, state, z, KEY)
        fake = task.model.apply(net, quantized, method="decode") * 2 - 1
        disc = {"params": params["discriminator"]}
        on_real = task.image_loss.adversary.network.apply(disc, 2 * images - 1)
        on_fake = task.image_loss.adversary.network.apply(disc, fake)
        return {
            "l1": jnp.mean(jnp.abs(fake - (2 * images - 1))),
            "codebook": metrics["codebook_loss"],
            "score": -jnp.mean(on_fake),
            "disc": jnp.mean(nn_relu(1 - on_real)) / 2
            + jnp.mean(nn_relu(1 + on_fake)) / 2,
        }

    def nn_relu(x):
        return jnp.maximum(x, 0)

    return jax.device_get(jax.jit(lambda p: (terms(p), jax.jacrev(terms)(p)))(params))


def close(got, want, rtol=2e-3):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max() + 1e-9)


def test_nothing_adversarial_before_the_start(steps, plain):
    (grads, (loss, metrics)), _ = steps
    values, want = plain
    assert not any(leaf.any() for leaf in jax.tree.leaves(grads["discriminator"]))
    assert float(metrics["disc_weight"]) == float(metrics["disc_loss"]) == 0
    np.testing.assert_allclose(loss, values["l1"] + values["codebook"], rtol=1e-5)
    both = jax.tree.map(lambda a, b: a + b, want["l1"]["net"], want["codebook"]["net"])
    close(grads["net"], both)


def test_the_weight_is_the_ratio_at_the_last_convolution(steps, plain):
    _, (_, (_, metrics)) = steps
    _, want = plain
    norms = [
        np.linalg.norm(want[name]["net"]["decoder"]["conv_out"]["kernel"])
        for name in ("l1", "score")
    ]
    expected = 0.8 * norms[0] / (norms[1] + 1e-4)
    assert 0 < expected < 1e4
    np.testing.assert_allclose(metrics["disc_weight"], expected, rtol=1e-3)


def test_each_network_gets_its_own_gradient(steps, plain):
    _, (grads, (loss, metrics)) = steps
    values, want = plain
    weight = float(metrics["disc_weight"])
    net = jax.tree.map(
        lambda a, b, c: a + b + weight * c,
        *(want[name]["net"] for name in ("l1", "codebook", "score")),
    )
    close(grads["net"], net)
    # And the terms differ enough for this to tell them apart.
    part = want["score"]["net"]["decoder"]["conv_out"]["kernel"]
    assert (
        np.abs(weight * part).max()
        > 0.05 * np.abs(net["decoder"]["conv_out"]["kernel"]).max()
    )
    close(grads["discriminator"], want["disc"]["discriminator"])
    close(grads["codebook"], want["codebook"]["codebook"])
    total = values["l1"] + values["codebook"] + weight * values["score"]
    np.testing.assert_allclose(loss, total + values["disc"], rtol=1e-5)
    np.testing.assert_allclose(metrics["disc_loss"], values["disc"], rtol=1e-5)


@pytest.mark.slow
def test_eight_devices_have_the_statistics_of_one(start, steps):
    """The discriminator's norms see the whole batch, wherever it lies."""
    task, params, state = start
    mesh = make_mesh(MeshConfig(8, 1, 1))
    batch = jax.device_put(BATCH, batch_sharding(mesh))
    with jax.set_mesh(mesh):
        got = gradients(task)(params, {**state, "step": np.int32(3)}, batch)
    close(got, steps[1])


def test_the_perceptual_distance_is_in_the_loss_and_not_in_the_params(start):
    _, params, state = start
    network = Vgg16Lpips(levels=1)
    shapes = jax.eval_shape(network.init, KEY, jnp.zeros((1, 8, 8, 3)))["params"]
    lpips = jax.tree.map(
        lambda x: np.abs(RNG.normal(0, 0.3, x.shape)).astype(np.float32), shapes
    )
    config = dataclasses.replace(CONFIG, perceptual_weight=2.0, lpips_levels=1)
    task = make_task(MODEL, config, lpips)
    tree = jax.eval_shape(task.init, KEY)
    assert jax.tree.structure(tree) == jax.tree.structure((params, state))
    images = BATCH["image"].astype(np.float32) / 255

    @jax.jit
    def run():
        value, (_, metrics) = task.loss(params, state, BATCH, KEY)
        net = {"params": params["net"]}
        z = task.model.apply(net, images, method="encode")
        codes = task.codes.quantize(params, state, z, KEY)[0]
        drawn = task.model.apply(net, codes, method="decode") * 2 - 1
        levels, weights = network.apply({"params": lpips}, drawn)
        others, _ = network.apply({"params": lpips}, 2 * images - 1)
        want = jnp.mean(lpips_distance(levels, others, weights))
        return value, metrics, want

    value, metrics, want = run()
    want = float(want)
    assert want > 1e-4
    np.testing.assert_allclose(metrics["lpips"], want, rtol=1e-3)
    rest = metrics["l1"] + metrics["codebook_loss"]
    np.testing.assert_allclose(value, rest + 2 * want, rtol=1e-4)


def codebook(**settings):
    """A `Codebook` around a network that does nothing."""
    model = types.SimpleNamespace(
        config=types.SimpleNamespace(codebook_size=4, code_dim=2, form="nearest"),
        apply=lambda params, z, codes, method: (
            -jnp.sum(jnp.square(z[..., None, :] - codes), -1)
        ),
    )
    return Codebook(model, CodebookConfig(method="straight_through", **settings))


def test_beta_stands_where_it_is_said():
    z = RNG.normal(size=(1, 3, 3, 2)).astype(np.float32)
    ones, zeros = (np.full((4, 2), value, np.float32) for value in (1, 0))
    state = {
        "stats": {"counts": 9 * ones[:, 0], "sums": ones},
        "step": np.zeros((), np.int32),
        "offset": zeros,
    }
    codes = RNG.normal(size=(4, 2)).astype(np.float32)
    grads = {}
    for beta in ("corrected", "legacy"):
        found = codebook(beta=beta)

        def loss(z, codes, found=found):
            params = {"codebook": codes, "net": {}}
            return found.quantize(params, state, z, KEY)[2]["codebook_loss"]

        grads[beta] = jax.device_get(jax.jit(jax.grad(loss, (0, 1)))(z, codes))
    (z_new, codes_new), (z_old, codes_old) = grads["corrected"], grads["legacy"]
    nearest = np.argmin(np.sum((z[..., None, :] - codes) ** 2, -1), -1)
    want = 0.25 * 2 * (z - codes[nearest]) / z.size
    np.testing.assert_allclose(z_new, want, rtol=1e-5)
    np.testing.assert_allclose(z_old, 4 * want, rtol=1e-5)
    np.testing.assert_allclose(codes_old, codes_new / 4, rtol=1e-5)


@pytest.mark.slow
def test_gumbel_trains_the_projection():
    model = dataclasses.replace(MODEL, form="gumbel")
    config = dataclasses.replace(CONFIG, method="gumbel", kl_weight=0.5)
    task = make_task(model, config)
    shapes = jax.eval_shape(task.init, KEY)
    params = jax.tree.map(
        lambda x: RNG.normal(0, 0.3, x.shape).astype(np.float32), shapes[0]
    )
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes[1])
    grads, (loss, metrics) = gradients(task)(params, state, BATCH)
    assert np.abs(grads["net"]["quantize.proj"]["kernel"]).max() > 0
    assert float(metrics["kl"]) > 0
    np.testing.assert_allclose(loss, metrics["l1"] + 0.5 * metrics["kl"], rtol=1e-5)


def test_the_temperature_falls_along_a_cosine():
    config = dataclasses.replace(CONFIG, method="gumbel")
    task = make_task(dataclasses.replace(MODEL, form="gumbel"), config)
    steps = np.array([0, 500_000, 2e6])
    temperatures = jax.jit(jax.vmap(task.codes._temperature))(steps)
    np.testing.assert_allclose(temperatures, [0.9, 0.45, 1e-6], rtol=1e-3)


@pytest.mark.parametrize(
    ("model", "config", "message"),
    [
        ({"form": "gumbel"}, {}, "'straight_through' does not fit model.form 'gumbel'"),
        ({}, {"method": "gumbel"}, "does not fit model.form 'nearest'"),
        ({}, {"disc_layers": 3}, "too many for pictures of 8 px"),
    ],
)
def test_what_does_not_fit_is_refused(model, config, message):
    with pytest.raises(UserError, match=message):
        make_task(
            dataclasses.replace(MODEL, **model), dataclasses.replace(CONFIG, **config)
        )


@pytest.mark.parametrize(
    "change", [{"lpips_levels": 6}, {"disc_weight": -1.0}, {"disc_width": 0}]
)
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match="expected 1 to 5|negative|above 0"):
        dataclasses.replace(CONFIG, **change)
