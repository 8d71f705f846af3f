"""VQGAN's objective (Esser et al. 2021, arXiv 2012.09841, sections 3.1 and A)."""

from dataclasses import dataclass
from typing import Any, Literal

from cogjax.errors import UserError
from cogjax.models.vqgan import VQGANConfig
from cogjax.tasks.codebook import CodebookConfig
from cogjax.tasks.image_loss import ImageLoss, ImageLossConfig
from cogjax.tasks.tokenizer import TokenizerTask


@dataclass(frozen=True)
class GANConfig(CodebookConfig, ImageLossConfig):
    """Settings of the objective; defaults are taming's where not said.

    restart_below: above 0 is ours. codebook_weight: of the codebook's part of the loss.
    """

    method: str = "straight_through"
    temperature_start: float = 0.9
    temperature_end: float = 1e-6
    anneal_steps: int = 1_000_001
    anneal: Literal["exponential", "cosine"] = "cosine"
    kl_weight: float = 1e-8
    codebook_weight: float = 1.0

    def __post_init__(self):
        CodebookConfig.__post_init__(self)
        ImageLossConfig.__post_init__(self)
        if self.codebook_weight < 0:
            raise ValueError("weights and disc_start must not be negative")


def make_task(
    model: VQGANConfig, config: GANConfig, lpips: Any = None
) -> TokenizerTask:
    """The task of a network and settings; lpips: as of `ImageLoss`.

    UserError for settings that do not fit each other.
    """
    if model.form == "cosine":
        raise UserError("model.form 'cosine' is for imported weights: choose another")
    if (model.form == "gumbel") != (config.method == "gumbel"):
        raise UserError(
            f"task.method {config.method!r} does not fit model.form "
            f"{model.form!r}: 'gumbel' needs both to be 'gumbel'"
        )
    image_loss = ImageLoss(config, model.image_size, lpips=lpips)
    return TokenizerTask(model, config, image_loss, config.codebook_weight)
