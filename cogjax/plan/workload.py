"""What a config asks for, without its data: network, objective, lengths and sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.families.dalle import presets as dalle
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.parallel.mesh import MeshConfig
from cogjax.plan.objectives import EndToEnd, NextToken, Objective, TwoWay
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.run import lm_task
from cogjax.stages.sections import SampleConfig, task_section
from cogjax.train.loop import TrainConfig
from cogjax.train.optim import OptimConfig


@dataclass(frozen=True)
class Work:
    """A run to plan. prompt_len: of what an image is drawn after. image_len: codes."""

    network: ImageLMConfig
    objective: Objective
    prompt_len: int
    image_len: int
    train: TrainConfig
    optim: OptimConfig
    mesh: MeshConfig
    sampler: Sampler

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Work":
        """From a resolved config; UserError for a task without a transformer."""
        name = config.get("task", {}).get("name")
        if name not in KINDS:
            raise UserError(
                f"config key 'task.name' expects {', '.join(KINDS)}, got {name!r}"
            )
        sample = section(SampleConfig, config.get("sample", {}), "sample")
        return cls(
            *KINDS[name](config),
            train=section(TrainConfig, config.get("train", {}), "train"),
            optim=section(OptimConfig, config.get("optim", {}), "optim"),
            mesh=section(MeshConfig, config.get("mesh", {}), "mesh"),
            sampler=sample.sampler,
        )

    @property
    def task(self) -> Any:
        """What is trained."""
        return self.objective.task(self.network)

    def with_remat(self, remat: str) -> "Work":
        """The same with another `model.remat`."""
        return replace(self, network=replace(self.network, remat=remat))

    @property
    def tokens(self) -> int:
        """Inputs of an update, of all passes."""
        lengths = (one.length for one in self.objective.passes(self.network))
        return self.train.batch_size * sum(lengths)


Parts = tuple[ImageLMConfig, Objective, int, int]


def _has_tokenizer(config: Mapping[str, Any]) -> bool:
    """Otherwise the paper's sizes are taken."""
    return bool(config.get("data", {}).get("tokenizer"))


def _cogview(config: Mapping[str, Any]) -> Parts:
    if _has_tokenizer(config):
        task, layout = lm_task(config)
        network, noise = task.config, task.code_noise
    else:
        model = section(cogview.TransformerConfig, config.get("model", {}), "model")
        layout = cogview.make_layout(cogview.TOKENIZERS["paper"], 50_000, model)
        network, noise = cogview.make_transformer(model, layout), 0.0
    objective = NextToken(
        layout.vocab.num_codes,
        layout.length,
        code_noise=noise,
        image_start=layout.image_start,
    )
    # [ROI1] text [BASE] [BOI1]
    return network, objective, layout.text_len + 3, layout.image_len


def _dalle(config: Mapping[str, Any]) -> Parts:
    model = section(DecoderConfig, config.get("model", {}), "model")
    network = dalle.make_transformer(model)
    sizes = dalle.NUM_CODES, network.max_positions, dalle.TEXT_LEN
    return network, NextToken(*sizes), dalle.TEXT_LEN, dalle.GRID**2


def _ernie_vilg(config: Mapping[str, Any]) -> Parts:
    if _has_tokenizer(config):
        task, layout = lm_task(config)
        network = task.config
    else:
        network, layout = _paper_ernie_vilg(config)
    return network, TwoWay(layout), layout.num_text, layout.image_len


def _end_to_end(config: Mapping[str, Any]) -> Parts:
    if _has_tokenizer(config):
        task, layout = lm_task(config)
        network, tokenizer = task.model.config, task.reconstructor.config.tokenizer
    else:
        # The paper's is a VQGAN of as many codes and pixels.
        tokenizer = cogview.TOKENIZERS["paper"]
        network, layout = _paper_ernie_vilg(config)
    objective = EndToEnd(layout, tokenizer, task_section(EndToEndConfig, config))
    try:
        objective.task(network)
    except ValueError as error:
        raise UserError(f"config section 'task': {error}") from error
    return network, objective, layout.num_text, layout.image_len


def _paper_ernie_vilg(config: Mapping[str, Any]) -> tuple[ImageLMConfig, TwoWayLayout]:
    model = section(ernie_vilg.TransformerConfig, config.get("model", {}), "model")
    layout = ernie_vilg.paper_layout(model)
    return ernie_vilg.make_transformer(model, layout), layout


# Sizes and objective of each task, from its config.
KINDS = {
    "lm": _cogview,
    "dalle": _dalle,
    "ernie_vilg": _ernie_vilg,
    "end_to_end": _end_to_end,
}
