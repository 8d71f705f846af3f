"""Samplers on normal data, whose best denoiser is known in closed form."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.ops import diffusion
from cogjax.pipelines.checks import METHODS
from cogjax.sampling.diffusion import denoisers, samplers
from tests.reference import diffusion as reference

MEAN, STD = 0.3, 0.2
DETERMINISTIC = ("ddim", "dpmpp2m", "heun")
KEYS = jax.random.split(jax.random.key(0), 8)
SHAPE = (4, 4, 3)


def best(z, log_snr, mean=MEAN):
    alpha, sigma = diffusion.alpha_sigma(log_snr)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return mean + gain * (z - alpha * mean)


@functools.partial(jax.jit, static_argnums=(2, 3))
def carry(z, log_snrs, method, gamma=0.0):
    state = samplers.State(z, jnp.zeros_like(z), jnp.int32(0), KEYS)
    count = len(log_snrs) - 1
    return samplers.advance(best, state, log_snrs, count, method, gamma).z


@functools.partial(jax.jit, static_argnames=("shape", "method", "steps"))
def draw(keys, shape=SHAPE, method="dpmpp2m", steps=16, gamma=0.0):
    log_snrs = samplers.log_snr_grid("cosine", steps)
    return samplers.sample(best, samplers.start(keys, shape), log_snrs, method, gamma)


def best_of_brightness(z, log_snr):
    """Images of one brightness each, normal with deviation 0.6, and little else."""
    alpha, sigma = diffusion.alpha_sigma(log_snr)
    count, spread = z[0].size, 0.6
    mean = jnp.mean(z, axis=(1, 2, 3), keepdims=True)
    power = alpha**2 * spread**2 + sigma**2 / count
    shared = alpha * spread**2 / power * mean
    return shared + alpha * 1e-4 / (alpha**2 * 1e-4 + sigma**2) * (z - alpha * shared)


@functools.partial(jax.jit, static_argnames=("method", "steps"))
def draw_brightness(keys, method, steps):
    log_snrs = samplers.log_snr_grid("cosine", steps)
    state = samplers.start(keys, (32, 32, 3))
    return samplers.sample(best_of_brightness, state, log_snrs, method)


def test_the_denoiser_of_these_tests_is_the_closed_form():
    z = np.random.default_rng(0).normal(size=(3, 4, 4, 3))
    log_snrs = np.array([-3.0, 0.0, 4.0])
    found = jax.jit(best)(np.float32(z), np.float32(log_snrs))
    wanted = reference.gaussian_estimate(z, log_snrs[:, None, None, None], MEAN, STD)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", DETERMINISTIC)
def test_deterministic_samplers_follow_the_flow_with_their_order(method):
    """Twice the steps: half the error at first order, a quarter at second."""
    z = np.random.default_rng(1).normal(size=(8, *SHAPE)).astype(np.float32)
    wanted = reference.gaussian_flow(z.astype(np.float64), -5.0, 7.0, MEAN, STD)
    errors = []
    for steps in (16, 32, 64):
        found = carry(z, np.linspace(-5, 7, steps + 1, dtype=np.float32), method)
        errors.append(np.abs(found - wanted).mean())
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    expected = 1 if method == "ddim" else 2
    assert np.all(np.abs(rates - expected) < 0.35), (errors, rates)


@pytest.mark.parametrize("method", METHODS)
def test_samples_have_the_datas_mean_and_deviation(method):
    # The gamma that adds most is right only with many steps, as is the least.
    images = draw(KEYS, (16, 16, 3), method, steps=128, gamma=0.5)
    assert np.mean(images) == pytest.approx(MEAN, abs=0.02)
    assert np.std(images) == pytest.approx(STD, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_large_patches_keep_their_contrast_in_few_steps(method):
    """What even times lose: a shared brightness is settled while noise is high."""
    keys = jax.random.split(jax.random.key(5), 128)
    brightness = np.mean(draw_brightness(keys, method, 24), axis=(1, 2, 3))
    assert np.std(brightness) == pytest.approx(0.6, rel=0.25)


@pytest.mark.parametrize("method", METHODS)
def test_one_step_is_the_first_estimate(method):
    noise = samplers._noise(KEYS, 0, SHAPE)
    wanted = jax.jit(best)(noise, np.full(8, -10, np.float32))
    np.testing.assert_allclose(draw(KEYS, method=method, steps=1), wanted, atol=1e-5)


def test_the_command_line_names_the_methods():
    assert get_args(samplers.Method) == METHODS


@pytest.mark.parametrize("method", ["ddim", "dpmpp2m"])
def test_a_first_step_is_dpm_solvers_of_first_order(method):
    z = np.random.default_rng(4).normal(size=(8, *SHAPE)).astype(np.float32)
    x0 = reference.gaussian_estimate(np.float64(z), -2.0, MEAN, STD)
    wanted = reference.dpmpp_first(np.float64(z), x0, -2.0, 1.0)
    found = carry(z, np.float32([-2, 1]), method)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_step_of_ddpm_without_gamma_is_the_discrete_posterior():
    alpha_bar = reference.discrete_linear_alpha_bar()
    later, earlier = alpha_bar[500], alpha_bar[499]
    z = np.random.default_rng(2).normal(size=(8, *SHAPE)).astype(np.float32)
    grid = np.float32(reference.log_snr(np.array([later, earlier])))
    x0 = reference.gaussian_estimate(z.astype(np.float64), grid[0], MEAN, STD)
    mean, variance = reference.discrete_posterior(z, x0, later, earlier)
    noise = samplers._noise(KEYS, 1, SHAPE)
    found = carry(z, grid, "ddpm", 0.0)
    # The step's own 1 - alpha ratio is 1e-2: float32 log-SNRs leave four digits of it.
    np.testing.assert_allclose(found, mean + np.sqrt(variance) * noise, atol=2e-4)
    beta = 1 - later / earlier
    forward = mean + np.sqrt(beta) * noise
    np.testing.assert_allclose(carry(z, grid, "ddpm", 1.0), forward, atol=2e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_a_long_step_of_ddpm_has_the_variance_of_its_gamma(gamma):
    """Imagen's interpolation, from much noise to little, where the ends differ most."""
    here, there = -2.0, 3.0
    z = np.random.default_rng(2).normal(size=(8, *SHAPE)).astype(np.float32)
    grid, noise = np.float32([here, there]), samplers._noise(KEYS, 1, SHAPE)
    x0 = reference.gaussian_estimate(z.astype(np.float64), here, MEAN, STD)
    (alpha, sigma), (next_alpha, next_sigma) = (
        (np.sqrt(1 / (1 + np.exp(-at))), np.sqrt(1 / (1 + np.exp(at))))
        for at in (here, there)
    )
    gone = 1 - np.exp(here - there)
    mean = np.exp(here - there) * next_alpha / alpha * z + gone * next_alpha * x0
    variance = (gone * next_sigma**2) ** (1 - gamma) * (gone * sigma**2) ** gamma
    found = carry(z, grid, "ddpm", gamma)
    np.testing.assert_allclose(found, mean + np.sqrt(variance) * noise, atol=1e-4)


def test_an_image_does_not_depend_on_its_batch():
    together, alone = draw(KEYS, method="ddpm"), draw(KEYS[3:4], method="ddpm")
    np.testing.assert_allclose(together[3:4], alone, atol=1e-6)
    assert np.abs(together[2] - together[3]).max() > 0.1


def test_other_weights_compile_nothing():
    @jax.jit
    def run(mean, keys, percentile):
        denoise = denoisers.thresholded(functools.partial(best, mean=mean), percentile)
        log_snrs = samplers.log_snr_grid("cosine", 4)
        return samplers.sample(denoise, samplers.start(keys, SHAPE), log_snrs)

    first = run(0.3, KEYS, np.full(8, 99, np.float32))
    second = run(-0.5, KEYS, np.full(8, 90, np.float32))
    assert run._cache_size() == 1
    assert np.mean(first) > 0 > np.mean(second)


@pytest.mark.parametrize(("method", "count"), [("dpmpp2m", 1), ("heun", 3)])
def test_a_program_has_no_network_behind_its_loop(method, count):
    """Which takes most of the time to compile; Heun's second estimates need more."""
    traced = []

    def denoise(z, log_snr):
        traced.append(z)
        return best(z, log_snr)

    def run(keys):
        log_snrs = samplers.log_snr_grid("cosine", 4)
        state = samplers.start(keys, SHAPE)
        return samplers.sample(denoise, state, log_snrs, method)

    assert jax.eval_shape(run, KEYS).shape == (8, *SHAPE)
    assert len(traced) == count


def test_known_pixels_stay_and_the_rest_is_drawn():
    images = np.full((8, *SHAPE), -0.9, np.float32)
    known = np.zeros((8, 4, 4, 1), bool)
    known[:, :2] = True

    @jax.jit
    def run(keys):
        denoise = denoisers.with_known(best, images, known)
        log_snrs = samplers.log_snr_grid("cosine", 16)
        return samplers.sample(denoise, samplers.start(keys, SHAPE), log_snrs)

    found = run(KEYS)
    np.testing.assert_array_equal(found[:, :2], images[:, :2])
    np.testing.assert_allclose(found[:, 2:], draw(KEYS)[:, 2:], atol=1e-5)


@pytest.mark.parametrize("time", [0.05, 0.5])
def test_a_noisy_image_is_started_from(time):
    """How much of an image is left is the share that it has in the noisy one."""
    rng = np.random.default_rng(3)
    images = np.float32(MEAN + STD * rng.normal(size=(8, 16, 16, 3)))

    @jax.jit
    def run(images, time):
        log_snrs = samplers.log_snr_grid("cosine", 16, time)
        state = samplers.start_from(KEYS, images, log_snrs[0])
        return log_snrs, state.z, samplers.sample(best, state, log_snrs)

    log_snrs, z, found = run(images, np.float32(time))
    wanted = reference.log_snr(reference.cosine_alpha_bar(time))
    assert log_snrs[0] == pytest.approx(wanted, abs=1e-3)
    flow = reference.gaussian_flow(np.float64(z), wanted, 20.0, MEAN, STD)
    assert np.abs(found - flow).mean() < 0.1 * STD
    signal = reference.cosine_alpha_bar(time) * STD**2
    share = np.sqrt(signal / (signal + 1 - reference.cosine_alpha_bar(time)))
    kept = np.corrcoef(np.ravel(found), images.ravel())[0, 1]
    assert kept == pytest.approx(share, abs=0.03)


def say_number(z, log_snr, condition):
    """An x0 network that says a flat image of the prompt's number."""
    del log_snr
    return 0 * z + condition["number"][:, None, None, None]


def test_guidance_of_a_half_precision_network_is_in_float32():
    """In bfloat16 a large weight would round the difference of two predictions."""
    low = lambda *args: say_number(*args).astype(jnp.bfloat16)  # noqa: E731
    said = np.float32([[1.0, 0.5], [0.99609375, 0.498046875]])  # bfloat16 has them.

    @jax.jit
    def run(prompt, empty, weights):
        both = {"number": prompt}, {"number": empty}
        denoise = denoisers.guided(low, "x0", *both, weights)
        return denoise(jnp.zeros((2, *SHAPE)), jnp.zeros(2))

    found = run(*said, np.full(2, 7.3, np.float32))
    assert found.dtype == np.float32
    wanted = said[1] + np.float64(7.3) * (said[0] - said[1])
    np.testing.assert_allclose(found[:, 0, 0, 0], wanted, rtol=1e-6)


@jax.jit
def estimates(number, empty, weights):
    """The flat network: guided, then clipped, then by a percentile, then alone."""
    z, log_snr = np.zeros((2, *SHAPE), np.float32), np.zeros(2, np.float32)
    prompt = {"number": number}
    free = denoisers.guided(say_number, "x0", prompt, {"number": empty}, weights)
    wide = np.full(2, 99.5, np.float32)
    kinds = free, denoisers.thresholded(free), denoisers.thresholded(free, wide)
    kinds += (denoisers.unguided(say_number, "x0", prompt),)
    return [denoise(z, log_snr)[:, 0, 0, 0] for denoise in kinds]


def test_guidance_pushes_away_from_the_empty_prompt():
    numbers, empty = np.float32([0.5, 0.2]), np.float32([0.1, 0.1])
    guided, _, _, alone = estimates(numbers, empty, np.float32([1, 4]))
    np.testing.assert_allclose(guided, [0.5, 0.1 + 4 * (0.2 - 0.1)], rtol=1e-6)
    np.testing.assert_allclose(alone, numbers, rtol=1e-6)


def test_high_guidance_leaves_the_range_only_without_a_threshold():
    numbers, empty = np.float32([0.9, -0.9]), np.float32([0.1, 0.1])
    guided, static, dynamic, _ = estimates(numbers, empty, np.full(2, 8, np.float32))
    assert np.abs(guided).max() > 6
    np.testing.assert_allclose(static, [1, -1], rtol=1e-6)
    np.testing.assert_allclose(dynamic, [1, -1], rtol=1e-6)
