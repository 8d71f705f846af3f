"""The only place where layers are repeated: `lax.scan` over stacked parameters."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

# What is kept of a layer for its gradient: all, or what a policy of
# `jax.checkpoint_policies` names.
Remat = Literal[
    "none",
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
]


class Stack(nn.Module):
    """Applies `depth` copies of `block` in turn, parameters stacked on axis 0.

    The block is called as `block(x, xs, *shared) -> (x, ys)`. `xs` is a pytree whose
    leaves have a leading layer axis (dropout keys), `shared` is the same for all
    layers. Returns `(x, ys)` with `ys` stacked. Where layers differ in shape (caches),
    `xs` is a list of one pytree a layer, and so is `ys`; then there is no scan. Nor is
    there with parameters that are a list: on the CPU a scan copies each layer's.

    remat: a `Remat`; the rest of a layer is computed again for its gradient.
    unroll: scan steps traced per loop step.
    kinds: a static value for each layer, the block's field `kind`; () leaves it alone.
    The scan goes over the period in which kinds repeat, and what is left at the end is
    applied layer by layer: DALL-E's 64 layers are traced as 4 + 4.
    """

    block: nn.Module
    depth: int
    remat: Remat = "none"
    unroll: int = 1
    kinds: tuple[Any, ...] = ()

    @nn.compact
    def __call__(self, x: Array, xs: Any, *shared: Any) -> tuple[Array, Any]:
        kinds = self.kinds or (None,) * self.depth
        blocks = {kind: self._block(kind) for kind in kinds}

        def init(key: Array):
            first = _layer(xs, 0)
            keys = jax.random.split(key, self.depth)
            block = blocks[kinds[0]]
            return jax.vmap(lambda k: block.init(k, x, first, *shared)["params"])(keys)

        params = self.get_variable("params", "layers")
        if params is None:
            params = self.param("layers", init)
        if self.is_initializing():
            # Only the parameters are asked for: the layers need not run.
            return x, None
        self._check_depth(params)

        def apply(kind, carry, layer):
            layer_params, layer_xs = layer
            step = blocks[kind].apply
            return step({"params": layer_params}, carry, layer_xs, *shared)

        if isinstance(xs, list) or isinstance(params, list):
            return _each(apply, kinds, x, params, xs)

        period, repeats = repetition(kinds)
        scanned = jax.tree.map(
            lambda leaf: leaf[: period * repeats].reshape(
                repeats, period, *leaf.shape[1:]
            ),
            (params, xs),
        )

        # One layer a pass needs no barrier: XLA cannot merge two loops. Layers outside
        # of a loop it would merge with the forward pass, and keep what that made; those
        # of one pass it would compute again all at once.
        alone = repeats > 1 and period == self.unroll == 1
        looped = self._again(apply, prevent_cse=not alone)

        def step(carry, group):
            return _in_turn(looped, kinds[:period], carry, group)

        x, ys = jax.lax.scan(step, x, scanned, unroll=self.unroll)
        ys = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), ys)
        rest = kinds[period * repeats :]
        if not rest:
            return x, ys
        left = jax.tree.map(lambda leaf: leaf[period * repeats :], (params, xs))
        # Each waits for the one before it: XLA would gather what all of them need
        # before the loop.
        tied = apply if self.remat == "none" else partial(_tied, apply)
        tied = self._again(tied, prevent_cse=True)
        x, more = _in_turn(tied, rest, x, left)
        return x, jax.tree.map(lambda *both: jnp.concatenate(both), ys, more)

    def _check_depth(self, params: Any) -> None:
        """ValueError for parameters of another number of layers; shapes are theirs."""
        each = params if isinstance(params, list) else jax.tree.leaves(params)[0]
        if len(each) != self.depth:
            raise ValueError(f"parameters of {len(each)} layers for {self.depth}")

    def _again(self, apply, prevent_cse: bool):
        """A layer that is computed again for its gradient, if `remat` says so."""
        if self.remat == "none":
            return apply
        policy = getattr(jax.checkpoint_policies, self.remat)
        return jax.checkpoint(
            apply, prevent_cse=prevent_cse, policy=policy, static_argnums=0
        )

    def _block(self, kind: Any) -> nn.Module:
        fields = {"kind": kind} if self.kinds else {}
        return self.block.clone(parent=None, **fields)


def _tied(apply, kind, x, layer):
    """A layer whose parameters come when x is there."""
    return apply(kind, *jax.lax.optimization_barrier((x, layer)))


def _in_turn(apply, kinds, x, layers):
    """Layers one after the other: (x, ys stacked)."""
    x, found = _each(apply, kinds, x, *layers)
    return x, jax.tree.map(lambda *parts: jnp.stack(parts), *found)


def _each(apply, kinds, x, params, xs):
    """Layers one after the other: (x, list of ys)."""
    # Layers of one kind and one shape are traced once, and written out for each.
    traced = {kind: jax.jit(partial(apply, kind), inline=True) for kind in set(kinds)}
    found = []
    for i, kind in enumerate(kinds):
        x, y = traced[kind](x, (_layer(params, i), _layer(xs, i)))
        found.append(y)
    return x, found


def _layer(tree: Any, index: int) -> Any:
    """One layer of stacked leaves, or of a list."""
    if isinstance(tree, list):
        return tree[index]
    return jax.tree.map(lambda leaf: leaf[index], tree)


def repetition(kinds: Sequence[Any]) -> tuple[int, int]:
    """(period, repeats) of the start of `kinds` that leaves the fewest to trace."""
    found = []
    for period in range(1, len(kinds) + 1):
        same = [kind == kinds[i % period] for i, kind in enumerate(kinds)]
        repeats = (same.index(False) if False in same else len(kinds)) // period
        found.append((period + len(kinds) - period * repeats, period, repeats))
    return min(found)[1:]
