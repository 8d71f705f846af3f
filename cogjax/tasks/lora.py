"""Any objective, learnt by an adapter beside the frozen parameters of its network."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cogjax.nn.lora import LoRAConfig, init_adapter, merge
from cogjax.train.task import Cost, Task

_BASE = "base"


class LoRATask(Task):
    """The parameters are an adapter's (`nn/lora.py`); state["base"] is the network's.

    Everything else is as of the objective `inner`.
    """

    frozen = (_BASE,)

    def __init__(self, inner: Task, config: LoRAConfig):
        self.inner, self.config = inner, config
        self.param_axes = inner.param_axes
        self.loss_scale, self.counters = inner.loss_scale, inner.counters

    @property
    def model(self) -> Any:
        """The network, as `cogjax plan` asks for it."""
        return self.inner.model

    def merged(self, adapter: Any, base: Any) -> Any:
        """The network's parameters with the adapter's changes."""
        with jax.default_matmul_precision("highest"):
            return merge(base, adapter, self.config.scale)

    def init(self, key: Array):
        """(adapter, state) of a new run; a network at random, until it is given."""
        inner_key, key = jax.random.split(key)
        base, state = self.inner.init(inner_key)
        return init_adapter(key, base, self.config), {**state, _BASE: base}

    def loss(self, params, state, batch, key: Array):
        """That of the merged network."""
        base, state = _parted(state)
        # No gradient of the base is asked for, and none is made for it.
        merged = self.merged(params, jax.lax.stop_gradient(base))
        loss, (state, metrics) = self.inner.loss(merged, state, batch, key)
        return loss, ({**state, _BASE: base}, metrics)

    def eval_metrics(self, params, state, batch, key: Array):
        """Those of the merged network."""
        base, state = _parted(state)
        return self.inner.eval_metrics(self.merged(params, base), state, batch, key)

    def weights(self, batch):
        """As of the objective."""
        return self.inner.weights(batch)

    def terms(self, batch):
        """As of the objective."""
        return self.inner.terms(batch)

    def after_gradients(self, state, grads):
        """As of the objective, which sees finite gradients of what is frozen."""
        base, state = _parted(state)
        state, searching = self.inner.after_gradients(state, _filled(base, grads))
        return {**state, _BASE: base}, searching

    def batch_spec(self, size: int):
        """As of the objective."""
        return self.inner.batch_spec(size)

    def cost(self) -> Cost:
        """As of the objective: gradients of the merged kernels are made whole."""
        return self.inner.cost()


def _parted(state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(frozen parameters, state of the objective)."""
    rest = {name: value for name, value in state.items() if name != _BASE}
    return state[_BASE], rest


def _filled(base: Any, grads: Any) -> Any:
    """Gradients of an adapter, and zeros where it changes nothing."""
    if not isinstance(base, dict):
        return jnp.zeros_like(base) if grads is None else grads
    grads = {} if grads is None else grads
    return {name: _filled(part, grads.get(name)) for name, part in base.items()}
