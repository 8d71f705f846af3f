"""What a config asks for, without its data: network, objective, lengths and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cogjax.config import section
from cogjax.data.layout import Layout
from cogjax.errors import UserError
from cogjax.families import cogview, dalle, ernie_vilg
from cogjax.launch import lm_task
from cogjax.models.image_lm import DecoderConfig
from cogjax.parallel.mesh import MeshConfig
from cogjax.runs.common import SampleConfig
from cogjax.sampling.autoregressive import Sampler
from cogjax.tasks.lm import LMTask
from cogjax.train.loop import TrainConfig
from cogjax.train.optim import OptimConfig

# Where a paper's own task is named instead of "lm".
SPARSE = {"dalle": dalle, "ernie_vilg": ernie_vilg}


@dataclass(frozen=True)
class Work:
    """A run to plan.

    length: tokens of a training sequence, the last only a target. prompt_len: of what
    an image is drawn after. image_len: codes of an image.
    """

    task: LMTask
    length: int
    prompt_len: int
    image_len: int
    train: TrainConfig
    optim: OptimConfig
    mesh: MeshConfig
    sampler: Sampler

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Work":
        """From a resolved config; UserError for a task without a transformer."""
        sections = {
            "train": section(TrainConfig, config.get("train", {}), "train"),
            "optim": section(OptimConfig, config.get("optim", {}), "optim"),
            "mesh": section(MeshConfig, config.get("mesh", {}), "mesh"),
        }
        sample = section(SampleConfig, config.get("sample", {}), "sample")
        sections["sampler"] = sample.sampler
        name = config.get("task", {}).get("name")
        if name in SPARSE:
            family = SPARSE[name]
            model = section(DecoderConfig, config.get("model", {}), "model")
            network = family.make_transformer(model)
            task = LMTask(network, family.NUM_CODES, num_text=family.TEXT_LEN)
            lengths = network.max_positions, family.TEXT_LEN, family.GRID**2
            return cls(task, *lengths, **sections)
        if name != "lm":
            raise UserError(
                f"config key 'task.name' expects lm, {', '.join(SPARSE)}, got {name!r}"
            )
        task, layout = _cogview(config)
        # [ROI1] text [BASE] [BOI1]
        lengths = layout.length, layout.text_len + 3, layout.image_len
        return cls(task, *lengths, **sections)

    def with_remat(self, remat: str) -> "Work":
        """The same with another `model.remat`."""
        network = replace(self.task.config, remat=remat)
        task = LMTask(network, self.task.num_codes, num_text=self.task.num_text)
        return replace(self, task=task)

    @property
    def tokens(self) -> int:
        """Inputs of an update."""
        return self.train.batch_size * (self.length - 1)


def _cogview(config: Mapping[str, Any]) -> tuple[LMTask, Layout]:
    """Of the config's tokenizers, or of the paper's sizes if it names none."""
    if config.get("data", {}).get("tokenizer"):
        return lm_task(config)
    model = section(cogview.TransformerConfig, config.get("model", {}), "model")
    tokenizer = cogview.TOKENIZERS["paper"]
    layout = cogview.make_layout(tokenizer, 50_000, model)
    network = cogview.make_transformer(model, layout)
    return LMTask(network, layout.vocab.num_codes), layout
