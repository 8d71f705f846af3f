"""Gradients of each worker on its own, and their compressed sum (PowerSGD).

Without compression the compiler sums gradients by itself. Here each place along the
mesh's data axis is a worker: it sees its part of the batch and `parallel/powersgd.py`
sums. The other axes of the mesh stay the compiler's.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cogjax.errors import UserError
from cogjax.parallel import powersgd
from cogjax.parallel.powersgd import AXIS, Matrices, PowerSGD
from cogjax.parallel.rules import Rules, path_name, tree_shardings
from cogjax.train.state import TrainState
from cogjax.train.task import Task


@dataclass(frozen=True)
class Compression:
    """How many workers sum the gradients of which matrices, and how.

    matrices: (path of the parameter, its axes).
    """

    config: PowerSGD
    workers: int
    matrices: tuple[tuple[str, Matrices], ...]

    def start(self, key: Array) -> dict[str, Any]:
        """`TrainState.powersgd` before the first update."""
        matrices = dict(self.matrices)
        return powersgd.start_memory(self.config, matrices, self.workers, key)

    def gradients(self, task: Task, compute: Callable, train_state, batch, key: Array):
        """What `compute(train_state, batch, key)` gives, with the sums of the workers.

        compute: gives (task state, mean gradients, mean metrics) of a batch. Returns
        these, and the next `TrainState.powersgd`. Gradients are NaN where those of any
        worker are not finite. Workers have random keys of their own; the task's state
        must not depend on the batch.
        """
        # Not the whole state: what a worker does not read need not be where it is.
        seen = dataclasses.replace(train_state, opt_state=(), ema=(), powersgd={})
        each, same = PartitionSpec(AXIS), PartitionSpec()
        kept = {"error": each, "query": same}
        work = jax.shard_map(
            partial(self._work, task, compute),
            in_specs=(same, each, each, kept),
            out_specs=(same, same, same, kept),
            axis_names={AXIS},
            check_vma=False,
        )
        keys = jax.random.split(key, self.workers)
        return work(seen, batch, keys, train_state.powersgd)

    def _work(self, task, compute, train_state, batch, keys, memory):
        """One worker's side of `gradients`."""
        state, grads, metrics = compute(train_state, batch, keys[0])
        weights = task.weights(batch)
        shares = self._shares({name: weights.get(name, 1.0) for name in metrics})
        metrics = lax.psum(
            {name: shares[name] * x for name, x in metrics.items()}, AXIS
        )
        leaves, tree = jax.tree_util.tree_flatten_with_path(grads)
        named = {path_name(path): shares["loss"] * grad for path, grad in leaves}
        sums, memory = self._sum(train_state.step, named, memory)
        bad = ~jnp.isfinite(optax.tree.norm(grads))
        # Reflections need not hand on what is not finite.
        bad = lax.psum(bad.astype(jnp.float32), AXIS) > 0
        sums = [jnp.where(bad, jnp.nan, sums[path_name(path)]) for path, _ in leaves]
        return state, jax.tree.unflatten(tree, sums), metrics, memory

    def _shares(self, weights: dict[str, Any]) -> dict[str, Array]:
        """This worker's weights over those of all."""
        weights = {name: jnp.asarray(each) for name, each in weights.items()}
        total = lax.psum(weights, AXIS)
        return {
            name: each / jnp.maximum(total[name], 1e-9)
            for name, each in weights.items()
        }

    def _sum(self, step: Array, grads: dict[str, Array], memory: dict[str, Any]):
        low_rank = partial(
            powersgd.low_rank_sum, self.config, dict(self.matrices), self.workers
        )
        if not self.config.start:
            return low_rank(grads, memory)
        early = step < self.config.start
        return lax.cond(early, powersgd.exact_sum, low_rank, grads, memory)


def make_compression(config: PowerSGD, task: Task, mesh: Mesh) -> Compression | None:
    """The compression of a task's gradients on a mesh; None where it is off.

    Raises:
      UserError: there is one worker only, or nothing to compress.
    """
    if not config.rank:
        return None
    matrices = compressed_matrices(config, task)
    workers = mesh.shape[AXIS]
    if workers == 1:
        raise UserError(
            "optim.powersgd compresses what the workers of mesh.data send, and there "
            "is one: give mesh.data more devices, or set optim.powersgd.rank to 0"
        )
    return Compression(config, workers, tuple(matrices.items()))


@functools.lru_cache(maxsize=8)
def compressed_matrices(config: PowerSGD, task: Task) -> dict[str, Matrices]:
    """The parameters that are compressed; UserError if there are none."""
    if task.matrix_axes is None:
        raise UserError(
            "optim.powersgd does not fit this task, which names no matrices: set "
            "optim.powersgd.rank to 0"
        )
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    found = powersgd.find_matrices(params, task.matrix_axes(params), config.rank)
    if not found:
        raise UserError(
            f"optim.powersgd.rank {config.rank} makes no matrix smaller: choose less, "
            "or 0 for exact sums"
        )
    return found


def state_shardings(state: TrainState, mesh: Mesh, rules: Rules) -> TrainState:
    """One sharding a leaf of a `TrainState` of shapes; `rules` as `tree_shardings`.

    An error lies as its parameter does, each worker with its own. The axes of a Q are
    not its parameter's.
    """
    found = tree_shardings(dataclasses.replace(state, powersgd={}), mesh, rules)
    if not state.powersgd:
        return found
    query = tree_shardings(state.powersgd["query"], mesh)
    inside = {
        name: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
        for name, leaf in state.powersgd["error"].items()
    }
    error = {
        name: NamedSharding(mesh, PartitionSpec(AXIS, *one.spec))
        for name, one in tree_shardings(inside, mesh, rules).items()
    }
    return dataclasses.replace(found, powersgd={"error": error, "query": query})
