"""What all kinds of runs share: sections of a config, batches, and what `fit` needs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cogjax.config import section
from cogjax.data import batches as data_pipeline
from cogjax.parallel.mesh import MeshConfig
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.train.loop import TrainConfig
from cogjax.train.optim import OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Where a run reads from.

    path: data set folder, for a transformer also one of `cogjax encode`. Folders of
    models may be names of shipped ones. weights: folder of the model, or of the image
    tokenizer, to start from instead of at random; where a model's texts were shorter,
    the positions behind them start at random; ERNIE-ViLG may start from a CogView.
    The rest is for a transformer. tokenizer, text: image tokenizer folder, and text
    model file or folder of a model with one. questions: data set whose questions are
    learnt beside the captions of `path`, for `task.questions`.
    """

    path: str
    tokenizer: str = ""
    text: str = ""
    weights: str = ""
    questions: str = ""
    split: str = "train"
    eval_split: str = "val"


@dataclass(frozen=True)
class EvalConfig:
    """batches: of the evaluation split, at every evaluation; 0 is off."""

    batches: int = 4


@dataclass(frozen=True)
class SampleConfig:
    """What the sample grids of a run draw: prompts, images a prompt, sampler."""

    prompts: tuple[str, ...] = ()
    num_images: int = 4
    seed: int = 0
    sampler: Sampler = Sampler()

    def __post_init__(self):
        if self.num_images < 1:
            raise ValueError(f"num_images is {self.num_images}, expected at least 1")
        if not all(prompt.strip() for prompt in self.prompts):
            raise ValueError("a prompt is empty: say what to draw")


@dataclass(frozen=True)
class Run:
    """What `fit` needs of a task; `sample` is its hook that draws pictures.

    start_params, start_state: entries that replace the task's random start.
    """

    task: Any
    batches: Any
    eval_batches: Any
    sample: Any
    fingerprint: str
    start_params: Any = None
    start_state: Any = None


def sections_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that all tasks share; a wrong key fails here, before any work."""
    classes = {
        "data": DataConfig,
        "optim": OptimConfig,
        "mesh": MeshConfig,
        "train": TrainConfig,
        "eval": EvalConfig,
        "sample": SampleConfig,
    }
    return {
        name: section(cls, config.get(name, {}), name) for name, cls in classes.items()
    }


def task_section(cls: type, config: Mapping[str, Any]) -> Any:
    """The task's settings, a `cls`; UserError for a wrong key."""
    values = {k: v for k, v in config["task"].items() if k != "name"}
    return section(cls, values, "task")


def batches(source, example, train_config: TrainConfig):
    """Function of the first step that gives the batches from there on."""

    def make(start_step: int) -> Iterator[dict[str, np.ndarray]]:
        return data_pipeline.batches(
            source,
            example,
            batch_size=train_config.batch_size,
            seed=train_config.seed,
            start_step=start_step,
        )

    return make


def eval_batches(source, example, sections: Mapping[str, Any]):
    """The first batches of the split, the same at every evaluation."""
    count, batch_size = sections["eval"].batches, sections["train"].batch_size
    if not count or not len(source):
        return None
    found = data_pipeline.batches(source, example, batch_size=batch_size, seed=0)
    return [next(found) for _ in range(count)]
