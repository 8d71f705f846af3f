"""One training step, pure and jitted once."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from cogjax.train.compression import Compression
from cogjax.train.loss_scale import SMALLEST, next_loss_scale, start_loss_scale
from cogjax.train.state import TrainState
from cogjax.train.task import Task


def init_state(
    task: Task,
    tx: optax.GradientTransformation,
    key: Array,
    compression: Compression | None = None,
) -> TrainState:
    """The state before the first step."""
    init_key, run_key = jax.random.split(key)
    params, state = task.init(init_key)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        state=state,
        # A copy: params and ema are donated, one buffer cannot be given twice.
        ema=jax.tree.map(jnp.copy, params),
        key=jax.random.key_data(run_key),
        bad_steps=jnp.zeros((), jnp.int32),
        loss_scale=start_loss_scale() if task.loss_scale else {},
        powersgd=compression.start(jax.random.fold_in(key, 1)) if compression else {},
    )


def make_train_step(
    task: Task,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    accumulate: int,
    ema_decay: float,
    compression: Compression | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, dict[str, Array]]]:
    """Returns `step(train_state, batch) -> (train_state, scalar metrics)`.

    A batch is cut into `accumulate` parts. Loss, gradients and metrics are means over
    them, weighed by `task.weights`, so that a mean over the batch is the same in parts.
    The usage of codes and a discriminator's adaptive weight are no such means: each
    part has its own, and moves a codebook's running statistics as a batch does.

    If the loss or a gradient is not finite the whole update is dropped, task state and
    EMA included, and only the counters and scales advance. Finiteness is decided on
    global values, so all processes agree. While the loss is finite and a scale can fall
    further, a dropped update does not count among the `bad_steps`.
    """
    summed = partial(_summed_gradients, task, compression, accumulate)

    def step(train_state: TrainState, batch):
        run_key = jax.random.wrap_key_data(train_state.key)
        key = jax.random.fold_in(run_key, train_state.step)
        state, grads, metrics, memory = summed(train_state, batch, key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        made, (kept, frozen) = (state, memory), parted(train_state.state, task)
        params, opt_state, ema, state, memory = jax.lax.cond(
            finite,
            lambda old: (*_update(tx, grads, old, train_state.step, ema_decay), *made),
            lambda old: (*old, kept, train_state.powersgd),
            (train_state.params, train_state.opt_state, train_state.ema),
        )
        state, searching = task.after_gradients(state | frozen, grads)
        loss_scale = train_state.loss_scale
        if loss_scale:
            searching |= loss_scale["scale"] > SMALLEST
            metrics["loss_scale"] = loss_scale["scale"]
            loss_scale = next_loss_scale(loss_scale, finite)
        searching &= jnp.isfinite(metrics["loss"])
        bad_steps = jnp.where(finite, 0, train_state.bad_steps + ~searching)
        metrics |= {"grad_norm": norm, "lr": schedule(train_state.step)}
        new = dataclasses.replace(
            train_state,
            step=train_state.step + 1,
            params=params,
            opt_state=opt_state,
            state=state,
            ema=ema,
            bad_steps=bad_steps,
            loss_scale=loss_scale,
            powersgd=memory,
        )
        return new, metrics | {"bad_steps": bad_steps}

    return step


def at_precision(step: Callable, precision: str | None) -> Callable:
    """The same function, its products at a precision: None for the device's own."""
    if precision is None:
        return step

    def traced(*args):
        with jax.default_matmul_precision(precision):
            return step(*args)

    return traced


def parted(state: dict[str, Any], task: Task) -> tuple[dict[str, Any], dict[str, Any]]:
    """(what of a task's state is its own, what is frozen)."""
    frozen = {name: state[name] for name in task.frozen}
    return {name: x for name, x in state.items() if name not in frozen}, frozen


def _update(tx, grads, old, step: Array, ema_decay: float):
    """(params, opt_state, ema) after one update."""
    params, opt_state, ema = old
    updates, opt_state = tx.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    # Early averages forget the random start quickly.
    decay = jnp.minimum(ema_decay, (1 + step) / (10 + step))
    ema = jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, ema, params)
    return params, opt_state, ema


def mean_metrics(rows: Any, weights: dict[str, Array]) -> dict[str, Array]:
    """Means over n parts or batches: {name: [n]} -> {name: scalar}.

    weights: of a name in each part, [n], as `task.weights` gives them; others are even.
    """
    return {
        name: jnp.sum(values * _shares(weights.get(name), len(values)))
        for name, values in rows.items()
    }


def _shares(weights: Array | None, count: int) -> Array:
    """Weights [n] that add up to 1, or to 0 if all are 0; None are even ones."""
    weights = jnp.ones(count) if weights is None else weights
    return weights / jnp.maximum(jnp.sum(weights), 1e-9)


def _summed_gradients(task, compression, accumulate, train_state, batch, key):
    """As `_gradients`, and the next `TrainState.powersgd`.

    `compression` sums over the mesh in scope; without it the compiler does.
    """
    compute = partial(_gradients, task, accumulate)
    if compression:
        return compression.gradients(task, compute, train_state, batch, key)
    return *compute(train_state, batch, key), {}


def _gradients(task, accumulate, train_state, batch, key):
    """(state through all parts, mean gradients, mean metrics) of a batch in parts.

    The state is without what is frozen: a loop and a branch would copy that.
    """
    start, frozen = parted(train_state.state, task)
    scale = train_state.loss_scale["scale"] if train_state.loss_scale else 1.0

    def scaled_loss(*args):
        loss, aux = task.loss(*args)
        return loss * scale, (loss, aux)

    grad_fn = jax.value_and_grad(scaled_loss, has_aux=True)

    def term(state, total, batch, key, share):
        # A task's counters count updates, not parts of one.
        state = {**state, **frozen, **{name: start[name] for name in task.counters}}
        (_, (loss, (state, metrics))), grads = grad_fn(
            train_state.params, state, batch, key
        )
        grads = jax.tree.map(lambda g: g / scale, grads)
        if total is not None:
            grads = jax.tree.map(lambda t, g: t + share * g, total, grads)
        return parted(state, task)[0], grads, {"loss": loss, **metrics}

    def part(state, total, share, index, part_batch):
        first, *others = task.terms(part_batch)
        run = partial(term, key=jax.random.fold_in(key, index), share=share)
        state, total, metrics = run(state, total, first)
        for other in others:
            # Else XLA adds up behind the branch, and keeps more till then.
            total = jax.lax.optimization_barrier(total)
            add = partial(run, batch=other)
            state, total, more = _branch(train_state.step >= 0, add, state, total)
            metrics |= {**more, "loss": metrics["loss"] + more["loss"]}
        return state, total, metrics

    if accumulate == 1:
        return part(start, None, 1.0, 0, batch)
    # Part i takes every accumulate-th example: each device keeps its own examples.
    parts = jax.tree.map(
        lambda x: jnp.moveaxis(x.reshape(-1, accumulate, *x.shape[1:]), 1, 0),
        batch,
    )
    weights = jax.vmap(task.weights)(parts)
    shares = _shares(weights.get("loss"), accumulate)

    def add(carry, inputs):
        *carry, metrics = part(*carry, *inputs)
        return tuple(carry), metrics

    zeros = jax.tree.map(jnp.zeros_like, train_state.params)
    (state, grads), rows = jax.lax.scan(
        add, (start, zeros), (shares, jnp.arange(accumulate), parts)
    )
    return state, grads, mean_metrics(rows, weights)


def _branch(true: Array, function: Callable, *args):
    """`function(*args)` as a branch that is always taken.

    XLA begins nothing of it before `args` are there, and takes the memory for it after:
    outside of a branch it takes what another forward pass keeps at the very start.
    true: a condition that XLA does not see to be so.
    """

    def zeros(*args):
        shapes = jax.eval_shape(function, *args)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    return jax.lax.cond(true, function, zeros, *args)
