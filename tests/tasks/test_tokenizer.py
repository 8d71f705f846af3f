import dataclasses

import jax
import numpy as np
import optax
import pytest

from cogjax.families.cogview.presets import TOKENIZERS
from cogjax.tasks.codebook import METHODS, CodebookConfig
from cogjax.tasks.tokenizer import TokenizerTask

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 4, 4, 3)).astype(np.uint8)
BATCH = {"image": IMAGES.repeat(4, 1).repeat(4, 2)}


def train(method, steps):
    """Returns (task, codebook after the first step, end, metrics of all steps)."""
    levels, model = (), TOKENIZERS["nano"]
    if method == "fsq":
        levels, model = (4, 4, 2), dataclasses.replace(model, code_dim=3)
    config = CodebookConfig(method=method, anneal_steps=steps, levels=levels)
    task = TokenizerTask(model, config)
    params, state = jax.jit(task.init)(jax.random.key(0))
    tx = optax.adam(1e-2)
    opt_state = jax.jit(tx.init)(params)

    @jax.jit
    def step(params, state, opt_state, key):
        grads, (state, metrics) = jax.grad(task.loss, has_aux=True)(
            params, state, BATCH, key
        )
        updates, opt_state = tx.update(grads, opt_state)
        return optax.apply_updates(params, updates), state, opt_state, metrics

    keys, rows = [jax.random.key(i) for i in range(steps)], []
    for i in range(steps):
        params, state, opt_state, metrics = step(params, state, opt_state, keys[i])
        rows.append({name: float(value) for name, value in metrics.items()})
        if i == 0:
            first = np.asarray(task.codebook(params, state))
    return task, first, (params, state), rows


@pytest.fixture(scope="module", params=METHODS)
def trained(request):
    return request.param, *train(request.param, 60)


def test_reconstruction_improves(trained):
    _, task, _, (params, state), rows = trained
    assert rows[-1]["l2"] < 0.97 * rows[0]["l2"]
    metrics = jax.jit(task.eval_metrics)(params, state, BATCH, None)
    assert float(metrics["l2"]) < 0.97 * rows[0]["l2"]
    assert 1 <= float(metrics["perplexity"]) <= 32
    assert 0 < float(metrics["usage"]) <= 1


def test_only_codebooks_that_are_not_learnt_stay(trained):
    method, task, first, end, _ = trained
    same = np.array_equal(first, task.codebook(*end))
    assert same == (method in ("fixed", "fsq"))


def test_codebook_moves_by_gradient_only_where_it_should(trained):
    method, _, _, (params, _), _ = trained
    assert ("codebook" in params) == (method in ("straight_through", "gumbel"))


@pytest.mark.parametrize("method", ["straight_through", "gumbel"])
def test_a_dead_code_restarts_at_a_vector_of_the_batch(method):
    """Wherever the optimiser has brought it: here all codes are far off, and unused."""
    task = TokenizerTask(TOKENIZERS["nano"], CodebookConfig(method=method))
    params, state = jax.jit(task.init)(jax.random.key(0))
    params["codebook"] = params["codebook"] + 100.0
    _, (state, _) = jax.jit(task.loss)(params, state, BATCH, jax.random.key(1))
    codes = np.asarray(task.codebook(params, state))
    assert np.abs(codes).max() < 50


def test_unknown_method_is_refused():
    with pytest.raises(ValueError, match="expected one of"):
        TokenizerTask(TOKENIZERS["nano"], CodebookConfig(method="magic"))


def test_levels_must_fit_the_network_and_the_method():
    with pytest.raises(
        ValueError, match="make 16 codes of 2 numbers; the network has 32"
    ):
        TokenizerTask(TOKENIZERS["nano"], CodebookConfig(method="fsq", levels=(4, 4)))
    for settings in ({"method": "fsq"}, {"levels": (4, 8)}, {"levels": (1, 32)}):
        with pytest.raises(ValueError, match="levels are .*, expected 2 or more"):
            CodebookConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"decay": 1.0}, {"anneal_steps": 0}, {"commitment": -1.0}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is .*, expected"):
        CodebookConfig(**settings)


def test_psnr_is_that_of_the_clipped_reconstruction():
    task = TokenizerTask(TOKENIZERS["nano"], CodebookConfig(method="fixed"))
    shapes, state = jax.eval_shape(task.init, jax.random.key(0))
    params, state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), (shapes, state))
    # Zero weights draw the mean grey, 0.5.
    error = np.square(BATCH["image"] / 255 - 0.5).mean((1, 2, 3))
    metrics = jax.jit(task.eval_metrics)(params, state, BATCH, None)
    expected = np.mean(-10 * np.log10(error))
    np.testing.assert_allclose(metrics["psnr"], expected, rtol=1e-4)


def test_the_temperature_falls_along_an_exponential():
    config = CodebookConfig(method="gumbel", anneal_steps=100)
    codes = TokenizerTask(TOKENIZERS["nano"], config).codes
    steps = np.array([0, 50, 100, 1000])
    found = jax.jit(jax.vmap(codes._temperature))(steps)
    np.testing.assert_allclose(found, [1.0, 0.1**0.5, 0.1, 0.1], rtol=1e-5)
