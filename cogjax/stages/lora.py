"""Any stage with LoRA: an adapter of data.weights is learnt, and nothing else saved.

Checkpoints hold the adapter, its moments and average; the base is read again when a run
resumes or is exported, and has to be the same by its digest.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from cogjax.adapter import Adapter, Base
from cogjax.model import Component, Model, digest
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Planned, Stage
from cogjax.tasks.lora import LoRATask
from cogjax.train.session import Job


class LoRAStage(Stage):
    """The stage `inner` of a config whose section 'lora' has a rank."""

    def __init__(self, inner: Stage):
        self.inner, self.settings, self.sampler = inner, inner.settings, inner.sampler
        self._read: tuple[RunConfig, tuple[str, Component]] | None = None

    @property
    def plain(self) -> Any:
        """As of the stage."""
        return self.inner.plain

    def settings_of(self, run: RunConfig) -> Any:
        """As of the stage."""
        return self.inner.settings_of(run)

    def sampler_of(self, run: RunConfig) -> Any:
        """As of the stage."""
        return self.inner.sampler_of(run)

    def task(self, run: RunConfig) -> LoRATask:
        """That of the stage, learnt by an adapter."""
        return LoRATask(self.inner.task(run), run.lora)

    def plan(self, run: RunConfig) -> Planned:
        """The same, planned."""
        planned = self.inner.plan(run)
        return planned._replace(task=LoRATask(planned.task, run.lora))

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The job of the stage, which starts from the base and no change of it."""
        # Not kept: while the run trains, its state alone holds the base.
        base = self.inner.base(run)[1]
        job = self.inner.job(run, workdir)
        task = LoRATask(job.task, run.lora)
        hooks = tuple(
            (every, partial(_merged, task, hook)) for every, hook in job.hooks
        )
        return dataclasses.replace(
            job,
            task=task,
            hooks=hooks,
            fingerprint=f"{job.fingerprint}/{_short(base)}",
            start_state={**(job.start_state or {}), "base": base.params},
        )

    def base(self, run: RunConfig) -> tuple[str, Component]:
        """The network that is adapted, read once; UserError where there is none."""
        if self._read is None or self._read[0] is not run:
            self._read = run, self.inner.base(run)
        return self._read[1]

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The model with the adapter merged into its weights."""
        base = self.base(run)[1].params
        merged = jax.device_get(self.task(run).merged(params, base))
        return self.inner.export(run, merged, state)

    def adapter(self, run: RunConfig, params: Any) -> tuple[Adapter, Component]:
        """(what was learnt, alone; the network that it changes)."""
        name, base = self.base(run)
        found = Base(name, digest(base), run.data.weights)
        return Adapter(params, run.lora, found), base

    def sources_digest(self, run: RunConfig) -> str:
        """Digests of what the stage reads and of the base, with a slash between."""
        return f"{self.inner.sources_digest(run)}/{_short(self.base(run)[1])}"


def _short(base: Component) -> str:
    return f"base-{digest(base)[:12]}"


def _merged(task: LoRATask, hook: Callable, step: int, state: Any, logger: Any) -> None:
    """A hook of the stage, which sees the network's averaged parameters."""
    ema = jax.jit(task.merged)(state.ema, state.state["base"])
    hook(step, dataclasses.replace(state, ema=ema), logger)
