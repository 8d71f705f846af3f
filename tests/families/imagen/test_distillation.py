"""Distillation, with teachers whose students are known: linear ones, of normal data."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cogjax.families.imagen.denoising import DenoisingConfig
from cogjax.families.imagen.distillation import (
    DistillationConfig,
    DistillingTask,
    several_as_one,
)
from cogjax.ops import diffusion
from cogjax.sampling.diffusion import samplers
from tests.models.test_unet import FLAT, TINY, TINY_SR
from tests.programs import random_like
from tests.reference import diffusion as reference

MEAN, STD, SHAPE = 0.3, 0.2, (4, 4, 3)
RNG = np.random.default_rng(0)
Z = np.float32(RNG.normal(size=(8, *SHAPE)))
GRID = np.array([-4.0, -1.5, 0.0, 2.5])
FOUR = np.asarray(jax.jit(samplers.log_snr_grid, static_argnums=(0, 1))("cosine", 4))


def best(z, log_snr):
    """The estimate for normal data, as in `tests/sampling/diffusion`."""
    alpha, sigma = diffusion.alpha_sigma(log_snr)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


@functools.partial(jax.jit, static_argnums=3)
def student(z, here, there, count):
    full = [jnp.full(len(z), at) for at in (here, there)]
    return several_as_one(best, best(z, full[0]), z, full, count)


def known(z, here, there, count):
    """In float64: the teacher's steps one by one, then the student's one solved."""
    now, places = np.float64(z), np.linspace(here, there, count + 1)
    for start, end in zip(places, places[1:], strict=False):
        x0 = reference.gaussian_estimate(now, start, MEAN, STD)
        now = reference.dpmpp_first(now, x0, start, end)
    (alpha, sigma), (after, noise) = (
        (np.sqrt(1 / (1 + np.exp(-at))), np.sqrt(1 / (1 + np.exp(at))))
        for at in (here, there)
    )
    return (now - noise / sigma * z) / (after - noise / sigma * alpha)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_one_step_ends_where_the_teachers_end(count):
    for here, there in zip(GRID, GRID[1:], strict=False):
        found = student(Z, np.float32(here), np.float32(there), count)
        wanted = known(Z, here, there, count)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    if count == 1:  # It is the teacher's own estimate.
        own = reference.gaussian_estimate(np.float64(Z), GRID[2], MEAN, STD)
        np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)


def test_steps_that_are_close_lose_no_digits():
    """A student of 1,000 steps."""
    grid = np.linspace(-10, 7.1, 1000, dtype=np.float32)
    for i in (0, 300, 600, 998):
        found = student(Z, grid[i], grid[i + 1], 5)
        wanted = known(np.float64(Z), *np.float64(grid[i : i + 2]), 5)
        np.testing.assert_allclose(found, wanted, rtol=2e-6, atol=1e-6)


def test_many_steps_of_the_teacher_are_the_exact_flow():
    here, there = np.float32(-1.5), np.float32(2.5)

    @jax.jit
    def move(x0):
        return diffusion.move(Z, x0, here[None], there[None])

    reached = move(student(Z, here, there, 256))
    flow = reference.gaussian_flow(np.float64(Z), -1.5, 2.5, MEAN, STD)
    coarse = move(student(Z, here, there, 1))
    assert np.abs(reached - flow).max() < 0.02 * np.abs(coarse - flow).max()


class Linear:
    """x0 = gain[i] z + shift[i] at step i of a grid; its prediction is x0."""

    config = TINY

    def __init__(self, grid):
        self.grid = grid

    def apply(self, variables, z, log_snr, text):
        index = jnp.argmin(jnp.abs(log_snr[:, None] - self.grid), axis=1)
        wide = (slice(None), None, None, None)
        gain, shift = (variables["params"][name][index] for name in ("gain", "shift"))
        return gain[wide] * z + shift[wide]


class Teacher(DistillingTask):
    """With the closed form in the place of a network."""

    def _teacher(self, params, made):
        return best


def test_a_linear_student_learns_the_known_answer():
    """From nothing, on images of noise; by the loss of the task and plain Adam."""
    settings = DistillationConfig(prediction="x0", steps=4, substeps=3)
    task, grid = Teacher(TINY, settings, 2), FOUR
    task.model = Linear(grid)
    params = {name: np.zeros(4, np.float32) for name in ("gain", "shift")}
    tx = optax.adam(optax.cosine_decay_schedule(0.05, 600))
    images = RNG.integers(0, 256, (64, 8, 8, 3)).astype(np.uint8)
    batch = {
        "image": images,
        "tokens": np.zeros((64, 2, 6), np.float32),
        "mask": np.ones((64, 2), bool),
    }

    @jax.jit
    def run(params):
        def step(carry, key):
            params, moments = carry
            state = {"teacher": {}}
            grads = jax.grad(lambda p: task.loss(p, state, batch, key)[0])(params)
            updates, moments = tx.update(grads, moments)
            return (optax.apply_updates(params, updates), moments), None

        keys = jax.random.split(jax.random.key(0), 600)
        (params, _), _ = jax.lax.scan(step, (params, tx.init(params)), keys)
        return params, task.eval_metrics(params, {"teacher": {}}, batch, keys[0])

    params, metrics = run(params)
    ends = np.float64([*grid[1:], np.nan])
    for i, (here, there) in enumerate(zip(np.float64(grid), ends, strict=True)):
        if i < 3:
            shift, slope = known(np.array([0.0, 1.0]), here, there, 3)
        else:  # The last call gives the teacher's own estimate.
            pair = reference.gaussian_estimate(np.array([0.0, 1.0]), here, MEAN, STD)
            shift, slope = pair
        assert params["shift"][i] == pytest.approx(shift, abs=0.01)
        assert params["gain"][i] == pytest.approx(slope - shift, abs=0.01)
    assert metrics["loss"] < 1e-4


def test_a_student_samples_as_its_teacher_with_more_steps():
    """By the sampler that is there: 4 steps that end where 10 of the teacher's do."""
    settings = DistillationConfig(steps=4, substeps=3)
    grid = jnp.asarray(FOUR)

    def one(z, log_snr):
        place = jnp.searchsorted(grid, log_snr - 0.01)
        there = grid[jnp.minimum(place + 1, 3)] + (place == 3)
        first = best(z, log_snr)
        x0 = several_as_one(best, first, z, (log_snr, there), 3)
        return jnp.where((place == 3)[:, None, None, None], first, x0)

    @jax.jit
    def draw(z):
        start = samplers.State(z, jnp.zeros_like(z), jnp.int32(0), None)
        fine = jnp.linspace(grid[0], grid[-1], settings.teacher_steps)
        return (
            samplers.sample(one, start, grid, "ddim"),
            samplers.sample(best, start, fine, "ddim"),
        )

    found, wanted = draw(Z)
    assert len(found) == 8 and np.std(wanted) > 0.1
    np.testing.assert_allclose(found, wanted, atol=2e-4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_prediction_is_made_of_an_image_and_back(prediction):
    log_snr = np.linspace(-5, 6, 8, dtype=np.float32)

    @jax.jit
    def there_and_back(x0):
        said = diffusion.of_x0(prediction, x0, Z, log_snr)
        return diffusion.to_x0(prediction, said, Z, log_snr)

    x0 = np.float32(RNG.uniform(-1, 1, Z.shape))
    np.testing.assert_allclose(there_and_back(x0), x0, atol=1e-4)


class Recording:
    """Says the mean of its text, and remembers what it was asked."""

    config = TINY

    def __init__(self):
        self.calls = []

    def apply(self, variables, z, log_snr, text):
        self.calls.append((variables["params"], text))
        return jnp.mean(text.tokens, axis=(1, 2))[:, None, None, None] + 0 * z


def test_a_teacher_is_guided_and_its_student_is_not():
    """x0 of constants c and u = 0 is c (w c): known, whatever the noise."""
    settings = DistillationConfig(prediction="x0", steps=2, substeps=2, guidance=3.0)
    task = DistillingTask(TINY, settings, 2)
    batch = {
        "image": np.zeros((4, 8, 8, 3), np.uint8),
        "tokens": np.full((4, 2, 6), 0.25, np.float32),
        "mask": np.ones((4, 2), bool),
    }
    network = task.model = Recording()

    @jax.jit
    def loss(key):
        return task.loss("student", {"teacher": jnp.zeros(())}, batch, key)[0]

    # The student says 0.25 and its teacher 3 * 0.25; the text that is left out says 0.
    assert loss(jax.random.key(0)) == pytest.approx((0.75 - 0.25) ** 2, rel=1e-3)
    students = [text for params, text in network.calls if isinstance(params, str)]
    assert [len(text.mask) for text in students] == [4]
    assert all(len(text.mask) == 8 for p, text in network.calls if p != "student")


@pytest.mark.parametrize(
    "config", [FLAT, pytest.param(TINY_SR, marks=pytest.mark.slow)]
)
def test_no_gradient_goes_to_the_teacher(config):
    task = DistillingTask(config, DistillationConfig(steps=2, substeps=1), 2)
    init, state = jax.eval_shape(task.init, jax.random.key(0))
    params, shapes = random_like(init), task.batch_spec(2)
    batch = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)

    @jax.jit
    def grads(params, teacher):
        def loss(params, teacher):
            return task.loss(params, {"teacher": teacher}, batch, jax.random.key(0))[0]

        return jax.grad(loss, argnums=(0, 1))(params, teacher)

    own, teachers = jax.device_get(grads(params, params))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(own))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(teachers))
    same = jax.tree.map(lambda a, b: a.shape == b.shape, state["teacher"], params)
    assert all(jax.tree.leaves(same))


def test_settings_that_fit_nothing_are_refused():
    for values in ({"steps": 1}, {"substeps": 0}, {"guidance": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(values))} is"):
            DistillationConfig(**values)
    assert DistillationConfig().text_dropout == 0 != DenoisingConfig().text_dropout
    assert DistillationConfig(steps=8, substeps=2).teacher_steps == 15
