"""The objective: the one contract between a task and the training loop.

`train/` sees a `Task` and batches, never a network. All but `init` and `loss` has a
default.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Pass(NamedTuple):
    """One sequence through a transformer.

    network: config of the transformer. length: inputs. scored: logits that the loss
    needs. live: logits that are in memory at once.
    """

    network: Any
    length: int
    scored: int
    live: int


class Extra(NamedTuple):
    """A part of a loss outside of the passes, to be traced and never run.

    loss: function of `args`, shapes of one example. argnums: of the arguments whose
    gradients the task needs.
    """

    loss: Callable[..., Array]
    args: tuple[Any, ...]
    argnums: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """The cost of one example, for `cogjax plan`."""

    passes: tuple[Pass, ...] = ()
    extra: Extra | None = None


class Task(abc.ABC):
    """An objective; params, state and batch are nested dicts of arrays.

    param_axes: (end of a parameter's path, names of its last axes) pairs, as
      `parallel/rules.py` reads them; parameters without a row are split where they are
      large.
    matrix_axes: function of the parameters for `optim.name` "muon", see
      `train/optim.py`, and for `optim.powersgd`; None is an objective that neither
      fits. With it the state must not depend on the batch.
    loss_scale: whether the loss is scaled against the underflow of float16 gradients.
    counters: entries of the state that count updates. Those of an update in several
      parts all see the count before it.
    frozen: entries of the state that no update changes. They are not saved: the job
      gives them (`Job.start_state`).
    """

    param_axes: tuple[tuple[str, tuple[str | None, ...]], ...] = ()
    matrix_axes: Callable[[Any], Any] | None = None
    loss_scale: bool = False
    counters: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    @abc.abstractmethod
    def init(self, key: Array) -> tuple[Any, dict[str, Any]]:
        """Returns (params, state) of a new run; all leaves are arrays."""

    @abc.abstractmethod
    def loss(self, params: Any, state: dict[str, Any], batch: Any, key: Array):
        """One training forward pass: (scalar loss, (next state, scalar metrics))."""

    def eval_metrics(
        self, params: Any, state: dict[str, Any], batch: Any, key: Array
    ) -> dict[str, Array]:
        """Scalar metrics of a batch that is not trained on; the loss if not said."""
        return {"loss": self.loss(params, state, batch, key)[0]}

    def weights(self, batch: Any) -> dict[str, Array]:
        """The sums of weights that "loss" and metrics are means over: {name: scalar}.

        Parts of a batch and batches of an evaluation are weighed by these; names that
        are missing have equal weights.
        """
        del batch
        return {}

    def terms(self, batch: Any) -> tuple[Any, ...]:
        """Batches whose losses add up to the loss of this one.

        A training step takes their gradients one after the other, so that it keeps the
        activations of one alone. All are given the same key. The state goes through
        them in turn, of the same shapes; each has metrics of its own names.
        """
        return (batch,)

    def after_gradients(
        self, state: dict[str, Any], grads: Any
    ) -> tuple[dict[str, Any], Array]:
        """(state with its next gradient scales, whether one may fall further).

        Called once an update, also if that is dropped because `grads` are not finite.
        """
        del grads
        return state, jnp.zeros((), bool)

    def batch_spec(self, size: int) -> Any:
        """Shapes and dtypes of a batch of `size` examples: jax.ShapeDtypeStruct."""
        raise NotImplementedError(f"{type(self).__name__} does not say its batches")

    def cost(self) -> Cost:
        """The cost of an example; nothing is computed."""
        return Cost()
