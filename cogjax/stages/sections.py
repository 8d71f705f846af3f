"""What all kinds of runs share: the typed sections of a config, and batches of data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cogjax.config import check_ranges, section
from cogjax.data import batches as data_pipeline
from cogjax.data.manifest import Manifest
from cogjax.errors import UserError
from cogjax.nn.lora import LoRAConfig
from cogjax.parallel.mesh import MeshConfig
from cogjax.train.loop import TrainConfig
from cogjax.train.optim import OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Where a run reads from.

    path: data set folder, for a transformer also one of `cogjax encode`. Folders of
    models may be names of shipped ones. weights: folder of the model, or of the image
    tokenizer, to start from instead of at random; where a model's texts were shorter,
    the positions behind them start at random. The rest is for a transformer. tokenizer,
    text: image tokenizer folder, and text model file or folder of a model with one.
    questions: data set whose questions are learnt beside the captions of `path`, for
    `task.questions`. below: for super-resolution in pixels, the folder of the model
    whose images it enlarges, or of a cascade with such a stage. vectors: for a stage in
    pixels, and LlamaGen's captions, a folder of `cogjax encode-text`: the captions of
    `path` as vectors of the encoder `text`, or of the model in `weights`, where they
    are not to be made once a run.
    split, eval_split: parts of the data set, to learn from and to evaluate on.
    """

    path: str
    tokenizer: str = ""
    text: str = ""
    weights: str = ""
    questions: str = ""
    below: str = ""
    vectors: str = ""
    split: str = "train"
    eval_split: str = "val"


@dataclass(frozen=True)
class EvalConfig:
    """batches: of the evaluation split, at every evaluation; 0 is off."""

    batches: int = 4

    def __post_init__(self):
        check_ranges(self, batches=(0, 10**6))


@dataclass(frozen=True)
class SampleConfig:
    """What the sample grids of a run show.

    prompts: what the images show, or of a run on pairs the styles that images of the
    evaluation split get. num_images: of each prompt. seed: of the images. sampler: as
    written; the stage types it. It is the exported model's too.
    """

    prompts: tuple[str, ...] = ()
    num_images: int = 4
    seed: int = 0
    sampler: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_ranges(self, num_images=(1, 1000), seed=(0, 2**32 - 1))
        if not all(prompt.strip() for prompt in self.prompts):
            raise ValueError("a prompt is empty: say what to draw")


# Sections of all runs; a stage has those of the others.
SECTION_CLASSES = {
    "data": DataConfig,
    "lora": LoRAConfig,
    "optim": OptimConfig,
    "mesh": MeshConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "sample": SampleConfig,
}


@dataclass(frozen=True)
class RunConfig:
    """A resolved config, its sections typed but for those that a stage types itself.

    task, model: these, as written, the former without the task's name.
    """

    name: str
    task: Mapping[str, Any]
    model: Mapping[str, Any]
    data: DataConfig
    lora: LoRAConfig = LoRAConfig()
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "RunConfig":
        """Reads the sections; a wrong key is a UserError here, before any work."""
        task = dict(config.get("task", {}))
        return cls(
            task.pop("name", ""),
            task,
            config.get("model", {}),
            **{
                name: section(kind, config.get(name, {}), name)
                for name, kind in SECTION_CLASSES.items()
            },
        )


def check_contents(
    manifest: Manifest, path: str, split: str, what: str = "captions"
) -> None:
    """UserError for a split without captions, or without questions.

    A manifest that does not say what it holds is believed.
    """
    held = manifest.contents.get(split)
    if held is not None and not held.get(what):
        key = {"captions": "path"}.get(what, what)
        raise UserError(
            f"split '{split}' of {path} has no {what}: set data.{key} to a data set "
            "with some"
        )


def batches(source, example, config: TrainConfig) -> Callable[[int], Iterator]:
    """Function of the first step that gives the batches from there on."""

    def make(start_step: int) -> Iterator[dict[str, np.ndarray]]:
        return data_pipeline.batches(
            source,
            example,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start_step,
        )

    return make


def eval_batches(source, example, run: RunConfig) -> list[dict[str, np.ndarray]] | None:
    """The first batches of the split, the same at every evaluation."""
    if not run.eval.batches or not len(source):
        return None
    size = run.train.batch_size
    found = data_pipeline.batches(source, example, batch_size=size, seed=0)
    return [next(found) for _ in range(run.eval.batches)]
