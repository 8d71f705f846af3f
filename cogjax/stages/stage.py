"""The contract of a stage: one kind of training run, from its config to a model folder.

A family names its stages in the catalogue (`cogjax/catalogue.py`), by task.
"""

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.sections import RunConfig
from cogjax.train.session import Job
from cogjax.train.task import Task


class Planned(NamedTuple):
    """What `cogjax plan` asks of a stage; only the task, of one that draws no codes.

    num_codes: ids below are image codes. prompt_len: tokens before an image. image_len:
    codes of an image.
    """

    task: Task
    num_codes: int = 0
    prompt_len: int = 0
    image_len: int = 0


class Stage(abc.ABC):
    """One kind of training run.

    settings: class of the config section 'task', a frozen dataclass. model_section: of
    'model', None for a task whose network is that of another model. sampler: of
    'sample.sampler', how the model samples. plain: values of the section 'model' under
    which a plan counts: nothing computed again or dropped out, no kernels.
    """

    settings: type
    model_section: type | None = None
    sampler: type = Sampler
    plain: Mapping[str, Any] = {}

    def settings_of(self, run: RunConfig) -> Any:
        """The section 'task'; UserError for a wrong key."""
        return section(self.settings, run.task, "task")

    def sampler_of(self, run: RunConfig) -> Any:
        """The section 'sample.sampler'; UserError for a wrong key."""
        return section(self.sampler, run.sample.sampler, "sample.sampler")

    @abc.abstractmethod
    def task(self, run: RunConfig) -> Task:
        """The objective without its data; UserError for what does not fit."""

    @abc.abstractmethod
    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective with its data; UserError for what does not fit.

        workdir: folder of the run, where what is worked out once may be kept.
        """

    @abc.abstractmethod
    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The model of a trained task's parameters and state."""

    def sources_digest(self, run: RunConfig) -> str:
        """Part of the fingerprint: of the models that the run reads, or ""."""
        del run
        return ""

    def base(self, run: RunConfig) -> tuple[str, Component]:
        """The network of data.weights that the run learns on, and its name there.

        UserError where there is none with the same sizes, or what is learnt is not one
        network: then there is no LoRA.
        """
        raise UserError(
            f"task {run.name} has no LoRA: what it learns is not one network of a model"
        )

    def tunes(self, base: Model, source: str) -> Mapping[str, Mapping[str, Any]]:
        """Networks of a model that the stage trains on: {name: sections of a config}.

        base: without weights, of the folder or name `source`. The sections say how the
        network was trained, and leave out what a run decides.
        """
        del base, source
        return {}

    def plan(self, run: RunConfig) -> Planned:
        """What to plan, of the paper's sizes where data.tokenizer names none."""
        raise UserError(
            f"task {run.name!r} is not planned: only transformers and stages of Imagen "
            "are"
        )
