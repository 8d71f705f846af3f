"""What a config asks for, without its data: objective, lengths and sizes."""

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, use_abstract_mesh

from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.plan.flops import count_flops, product_bytes
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.run import find_stage
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Planned, Stage
from cogjax.train.compression import Compression
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.state import TrainState
from cogjax.train.step import init_state
from cogjax.train.task import Cost, Task


@dataclass(frozen=True)
class Workload:
    """A run to plan.

    planned: what is compiled. plain: the same network without what changes neither the
    state nor what is needed: nothing computed again or dropped out, no kernels. It is
    what is traced and counted, once for all of a search.
    """

    stage: Stage
    run: RunConfig
    planned: Planned
    plain: Task

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Workload":
        """From a resolved config; UserError for a task that is not planned."""
        data = {"path": "", **config.get("data", {})}
        run, stage = RunConfig.of({**config, "data": data}), find_stage(config)
        counted = {
            "task": config["task"],
            "model": {**run.model, **stage.plain},
            "lora": asdict(run.lora),
            "data": data,
        }
        task = _plain_task(json.dumps(counted, sort_keys=True))
        return cls(stage, run, stage.plan(run), task)

    @property
    def task(self) -> Task:
        """What is trained."""
        return self.planned.task

    @property
    def network(self) -> ImageLMConfig | EncoderDecoderConfig:
        """The transformer, of a task with passes through one."""
        return self.task.model.config

    @property
    def remat(self) -> str:
        """What is computed again; networks that are no transformers keep all."""
        return self.network.remat if self.cost.passes else "none"

    @property
    def sampler(self) -> Sampler:
        """Sampler of the sample grids."""
        return self.stage.sampler_of(self.run)

    @property
    def cost(self) -> Cost:
        """Cost of an example."""
        return cost_of(self.plain)

    @property
    def extra(self) -> "ExtraCost":
        """What an example takes outside of the transformer."""
        return extra_of(self.plain)

    @property
    def tokens(self) -> int:
        """Inputs of an update, of all passes."""
        lengths = (one.length for one in self.cost.passes)
        return self.run.train.batch_size * sum(lengths)

    def with_remat(self, remat: str) -> "Workload":
        """The same with another `model.remat`."""
        run = replace(self.run, model={**self.run.model, "remat": remat})
        return replace(self, run=run, planned=self.stage.plan(run))

    def split(self, mesh: Any, accumulate: int) -> "Workload":
        """The same on a mesh of other sizes, in so many parts."""
        train = replace(self.run.train, accumulate=accumulate)
        return replace(self, run=replace(self.run, mesh=mesh, train=train))


# What is counted is an accelerator's: CPUs have forms of their own for convolutions.
_COUNTED = AbstractMesh(
    (1,), ("data",), abstract_device=AbstractDevice("TPU", 1, "tpu")
)


@dataclass(frozen=True)
class ExtraCost:
    """flops: of an example's gradients, each needed product once. live_bytes: memory
    that an estimate finds room for."""

    flops: float = 0.0
    live_bytes: float = 0.0


@functools.lru_cache(maxsize=8)
def _plain_task(config: str) -> Task:
    """The task of sections as JSON: one object, so that it is traced once."""
    sections = json.loads(config)
    return find_stage(sections).plan(RunConfig.of(sections)).task


@functools.lru_cache(maxsize=8)
def cost_of(task: Task) -> Cost:
    """Cost of an example of a task."""
    return task.cost()


@functools.lru_cache(maxsize=8)
def extra_of(task: Task) -> ExtraCost:
    """As traced: such parts have no closed form in common.

    What its products give is held twice: the values and their gradients.
    """
    part = cost_of(task).extra
    if part is None:
        return ExtraCost()
    with use_abstract_mesh(_COUNTED):
        flops = count_flops(jax.grad(part.loss, part.argnums), *part.args)
        return ExtraCost(flops, 2 * product_bytes(part.loss, *part.args))


@functools.lru_cache(maxsize=8)
def state_shapes(
    task: Task, optim: OptimConfig, compression: Compression | None
) -> TrainState:
    """Shapes of the training state."""
    tx = make_optimizer(optim, make_schedule(optim, 1), task.matrix_axes)
    return jax.eval_shape(
        lambda key: init_state(task, tx, key, compression), jax.random.key(0)
    )


@functools.lru_cache(maxsize=8)
def gradient_flops(task: Task) -> float:
    """FLOPs of the traced gradients of one example."""
    params, state = jax.eval_shape(task.init, jax.random.key(0))

    def loss(params, state, batch):
        return task.loss(params, state, batch, jax.random.key(0))[0]

    with use_abstract_mesh(_COUNTED):
        return count_flops(jax.grad(loss), params, state, task.batch_spec(1))
