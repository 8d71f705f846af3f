"""The dVAE's objective against its statement, its schedules and what it counts."""

import jax
import numpy as np
import pytest

from cogjax.families.dalle.dvae import RelaxedConfig, RelaxedTask
from cogjax.models.dvae import DVAEConfig
from tests.reference import dvae as reference
from tests.reference.numeric import double, slope, with_leaf

MODEL = DVAEConfig(image_size=8, grid=4, width=4, blocks=1, code_dim=6, codebook_size=8)
CONFIG = RelaxedConfig(temperature_steps=100, kl_steps=10, least_log_scale=-0.2)
TASK = RelaxedTask(MODEL, CONFIG)
RNG = np.random.default_rng(0)
BATCH = {"image": RNG.integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)}
KEY, STEP = jax.random.key(5), 4
SIZE = MODEL.levels, MODEL.blocks


@pytest.fixture(scope="module")
def start():
    """(params, state) far from the start values, after four updates."""
    shapes, state = jax.eval_shape(TASK.init, jax.random.key(0))
    params = jax.tree.map(
        lambda x: RNG.normal(0, 0.5, x.shape).astype(np.float32), shapes
    )
    state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state)
    return params, {**state, "step": np.int32(STEP)}


@jax.jit
def run(params, state, batch):
    """(gradients, (loss, next state, metrics))."""

    def loss(params):
        value, (state_, metrics) = TASK.loss(params, state, batch, KEY)
        return value, (value, state_, metrics)

    return jax.grad(loss, has_aux=True)(params)


def temperature(step):
    return 1 / 16 + (1 - 1 / 16) * (1 + np.cos(np.pi * step / 100)) / 2


def beta(step):
    return 6.6 * (1 - np.cos(np.pi * step / 10)) / 2


def exact_bound(params):
    """The loss in float64, by the noise that the key gives."""
    images = BATCH["image"] / 255
    logits = reference.encode(params["net"]["encoder"], images, *SIZE)
    noise = np.asarray(jax.random.gumbel(KEY, logits.shape), np.float64)
    drawn = np.exp((logits + noise) / temperature(STEP))
    drawn /= drawn.sum(-1, keepdims=True)
    decoder, codebook = params["net"]["decoder"], params["codebook"]
    maps = reference.decode(decoder, drawn, codebook, *SIZE)
    return reference.bound(images, maps, logits, beta(STEP), -0.2)


def test_the_loss_is_the_bound_a_value(start):
    _, (loss, _, metrics) = run(*start, BATCH)
    params = double(start[0])
    assert float(loss) == pytest.approx(exact_bound(params), rel=1e-5)
    logits = reference.encode(params["net"]["encoder"], BATCH["image"] / 255, *SIZE)
    assert float(metrics["kl"]) == pytest.approx(reference.kl(logits) / 16, rel=1e-5)
    weight = beta(STEP) / (3 * 2**2)  # a code stands for 2 x 2 pixels
    assert float(loss - metrics["nll"]) == pytest.approx(
        weight * float(metrics["kl"]), rel=1e-4
    )


@pytest.mark.parametrize(
    "path",
    [
        ("codebook",),
        ("net", "encoder", "out", "kernel"),
        ("net", "encoder", "down_0_0", "conv_1", "kernel"),
        ("net", "decoder", "out", "kernel"),
    ],
    ids="/".join,
)
def test_gradients_are_slopes_of_the_bound(start, path):
    grads, params = run(*start, BATCH)[0], double(start[0])
    for name in path:
        grads = grads[name]
    leaf = params
    for name in path:
        leaf = leaf[name]
    direction = RNG.normal(size=leaf.shape)
    wanted = slope(lambda x: exact_bound(with_leaf(params, path, x)), leaf, direction)
    assert abs(wanted) > 1e-4
    assert np.sum(np.asarray(grads) * direction) == pytest.approx(wanted, rel=2e-3)


def test_schedules_are_half_cosines_that_end():
    steps = np.array([0, 3, 10, 50, 100, 10_000])
    found = jax.jit(jax.vmap(TASK._schedules))(steps)
    np.testing.assert_allclose(found[0], temperature(np.minimum(steps, 100)), rtol=1e-5)
    np.testing.assert_allclose(found[1], beta(np.minimum(steps, 10)), rtol=1e-5)


def test_defaults_are_the_papers():
    task = RelaxedTask(MODEL, RelaxedConfig())
    at = [0, 2_500, 5_000, 75_000, 150_000]
    temperature, beta = jax.jit(jax.vmap(task._schedules))(np.array(at))
    np.testing.assert_allclose(beta, [0, 3.3, 6.6, 6.6, 6.6], rtol=1e-5)
    middle = (1 + 1 / 16) / 2
    np.testing.assert_allclose(temperature[-2:], [middle, 1 / 16], rtol=1e-5)


def test_a_flat_image_does_not_drive_the_loss_to_minus_infinity(start):
    """Every wanted ln b is far below the bound: the loss is that of the bound."""
    params, state = jax.tree.map(np.array, start)
    out = params["net"]["decoder"]["out"]
    out["kernel"][...] = 0
    out["bias"][...] = np.log(9.0), np.log(9.0), np.log(9.0), -60, -60, -60
    white = {"image": np.full_like(BATCH["image"], 255)}
    _, (_, _, metrics) = run(params, state, white)
    assert float(metrics["at_bound"]) == 1
    assert float(metrics["nll"]) == pytest.approx(np.log(2) - 0.2 + np.log(0.09), 1e-5)
    out["bias"][3:5] = 0.5
    _, (_, _, metrics) = run(params, state, white)
    assert float(metrics["at_bound"]) == pytest.approx(1 / 3)


def test_codes_are_counted(start):
    _, (_, state, metrics) = run(*start, BATCH)
    logits = reference.encode(
        double(start[0])["net"]["encoder"], BATCH["image"] / 255, *SIZE
    )
    counts = np.bincount(logits.argmax(-1).reshape(-1), minlength=8)
    np.testing.assert_allclose(state["counts"], 0.01 * counts, rtol=1e-5)
    assert int(state["step"]) == STEP + 1
    assert float(metrics["usage"]) == np.mean(counts / counts.sum() > 0.05 / 8)
    shares = counts[counts > 0] / counts.sum()
    wanted = np.exp(-np.sum(shares * np.log(shares)))
    assert float(metrics["perplexity"]) == pytest.approx(wanted, rel=1e-5)


def test_evaluation_takes_the_best_codes(start):
    params, exact = start[0], double(start[0])
    metrics = jax.jit(TASK.eval_metrics)(*start, BATCH, None)
    images = BATCH["image"] / 255
    logits = reference.encode(exact["net"]["encoder"], images, *SIZE)
    best = np.eye(8)[logits.argmax(-1)]
    maps = reference.decode(
        exact["net"]["decoder"], best, double(params["codebook"]), *SIZE
    )
    error = np.square(reference.pixels(maps) - images)
    assert float(metrics["l2"]) == pytest.approx(error.mean(), rel=1e-5)
    psnr = np.mean(-10 * np.log10(error.mean((1, 2, 3))))
    assert float(metrics["psnr"]) == pytest.approx(psnr, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kl_steps", 0),
        ("temperature_end", 0.0),
        ("kl_weight", -1.0),
        ("kl_start", -1.0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected"):
        RelaxedConfig(**{name: value})


def test_beta_may_fall():
    config = RelaxedConfig(kl_start=26.0, kl_weight=6.0, kl_steps=10)
    task = RelaxedTask(TASK.model.config, config)
    found = [float(task._schedules(step)[1]) for step in (0, 5, 10, 20)]
    assert found == pytest.approx([26, 16, 6, 6])


def test_a_trained_one_starts_with_all_codes_in_use(start):
    params, state = TASK.start_at(start[0]["net"], start[0]["codebook"], 4)
    assert params.keys() == start[0].keys()
    np.testing.assert_array_equal(state["counts"], np.full(8, 4 * 16 / 8))
