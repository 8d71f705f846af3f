"""A toy task with mutable state, and what a run leaves behind as one hash."""

import hashlib
import types

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.train.task import Task


class Line(Task):
    """Fits y = x @ w; the state counts examples and updates, noise is of the key."""

    counters = ("step",)

    def init(self, key):
        params = {"w": jax.random.normal(key, (8, 2)), "bias": jnp.zeros(2)}
        return params, {
            "seen": jnp.zeros((), jnp.int32),
            "step": jnp.zeros((), jnp.int32),
        }

    def loss(self, params, state, batch, key):
        noise = 0.01 * jax.random.normal(key, batch["y"].shape)
        error = batch["x"] @ params["w"] + params["bias"] - batch["y"] + noise
        loss = jnp.mean(jnp.square(error))
        seen, step = state["seen"] + batch["x"].shape[0], state["step"] + 1
        state = {"seen": seen, "step": step}
        return loss, (state, {"error": jnp.mean(jnp.abs(error))})


class Sides(Line):
    """Both outputs of `Line` by themselves; the state counts updates alone."""

    def init(self, key):
        params, state = super().init(key)
        return params, {"step": state["step"]}

    def loss(self, params, state, batch, key):
        noise = 0.01 * jax.random.normal(key, (len(batch["x"]),))
        outputs = batch["x"] @ params["w"] + params["bias"]
        targets = batch
        if "y" in batch:
            targets = {"left": batch["y"][:, 0], "right": batch["y"][:, 1]}
        errors = {
            name: jnp.mean(jnp.square(outputs[:, i] - targets[name] + noise))
            for i, name in enumerate(("left", "right"))
            if name in targets
        }
        return sum(errors.values()), ({"step": state["step"] + 1}, errors)


class SidesApart(Sides):
    """The same loss by a side at a time."""

    def terms(self, batch):
        x, y = batch["x"], batch["y"]
        return {"x": x, "left": y[:, 0]}, {"x": x, "right": y[:, 1]}


def make_batches(start_step, poison=()):
    """Batches of 8 that depend on the step alone; NaN in the steps of `poison`."""
    step = start_step
    while True:
        rng = np.random.default_rng(step)
        x = rng.normal(size=(8, 8)).astype(np.float32)
        y = (x[:, :2] * 3).astype(np.float32)
        if step in poison:
            x = x * np.nan
        yield {"x": x, "y": y}
        step += 1


def digest(train_state) -> str:
    """SHA-256 over every leaf of a training state."""
    sha = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(train_state):
        sha.update(jax.tree_util.keystr(path).encode())
        sha.update(np.asarray(leaf).tobytes())
    return sha.hexdigest()


def without(train_state, *names):
    """The fields of a state except some, for comparing runs."""
    fields = {k: v for k, v in vars(train_state).items() if k not in names}
    return types.SimpleNamespace(**fields)
