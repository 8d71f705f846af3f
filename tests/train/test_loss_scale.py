import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.train.loss_scale import (
    LARGEST,
    SMALLEST,
    START,
    WINDOW,
    next_loss_scale,
    start_loss_scale,
)
from tests.train import test_loop, test_step
from tests.train.toy import Line, digest, without


class Scaled(Line):
    loss_scale = True


class Half(Scaled):
    """The same with float16 gradients: too large for the first scales."""

    def loss(self, params, state, batch, key):
        halves = jax.tree.map(lambda x: x.astype(jnp.float16), params)
        out = batch["x"].astype(jnp.float16) @ halves["w"] + halves["bias"]
        loss = jnp.mean(jnp.square(out.astype(jnp.float32) - batch["y"]))
        return loss, (state, {})


def test_the_scale_halves_and_doubles_within_limits():
    step = jax.jit(next_loss_scale)
    state = step(start_loss_scale(), False)
    assert float(state["scale"]) == START / 2
    for _ in range(WINDOW):
        state = step(state, True)
    assert float(state["scale"]) == START
    assert int(state["good_steps"]) == 0
    at = {"scale": jnp.float32(SMALLEST), "good_steps": jnp.int32(3)}
    assert float(step(at, False)["scale"]) == SMALLEST
    at = {"scale": jnp.float32(LARGEST), "good_steps": jnp.int32(WINDOW - 1)}
    assert float(step(at, True)["scale"]) == LARGEST


def run(monkeypatch, task, *args, **kwargs):
    monkeypatch.setattr(test_step, "Line", task)
    return test_step.run(*args, **kwargs)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_float32_is_bitwise_the_same(monkeypatch, accumulate):
    plain, _ = run(monkeypatch, Line, 3, accumulate=accumulate)
    scaled, rows = run(monkeypatch, Scaled, 3, accumulate=accumulate)
    both = (without(x, "loss_scale") for x in (plain, scaled))
    first, second = (digest(vars(x)) for x in both)
    assert first == second
    assert rows[-1]["loss_scale"] == START
    assert int(scaled.loss_scale["good_steps"]) == 3


def test_overflow_skips_the_update_and_is_no_failure(monkeypatch):
    start, _ = run(monkeypatch, Half, 0)
    after, rows = run(monkeypatch, Half, 1)
    assert np.isfinite(rows[0]["loss"]) and not np.isfinite(rows[0]["grad_norm"])
    names = ("step", "loss_scale")
    first, second = (digest(vars(without(x, *names))) for x in (start, after))
    assert first == second
    assert float(after.loss_scale["scale"]) == START / 2
    # The search ends, and then the gradients are those of the loss itself.
    found, rows = run(monkeypatch, Half, 8)
    assert int(found.loss_scale["good_steps"]) > 0
    assert all(row["bad_steps"] == 0 for row in rows)
    assert not np.array_equal(found.params["w"], start.params["w"])


def test_a_loss_that_is_not_finite_is_a_failure(monkeypatch):
    after, _ = run(monkeypatch, Scaled, 3, poison=(1, 2))
    assert int(after.bad_steps) == 2


def test_resume_is_bitwise_with_the_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(test_loop, "Line", Half)
    whole = test_loop.train(tmp_path / "whole", 6)
    test_loop.train(tmp_path / "cut", 2)
    assert digest(test_loop.train(tmp_path / "cut", 6)) == digest(whole)
    assert float(whole.loss_scale["scale"]) < START
