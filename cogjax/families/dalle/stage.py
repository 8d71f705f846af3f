"""DALL-E's stages: the dVAE (section 2.1), and the transformer, for plans alone."""

from pathlib import Path
from typing import Any, NoReturn

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.families.dalle import presets
from cogjax.families.dalle.dvae import RelaxedConfig, RelaxedTask
from cogjax.models.dvae import DVAEConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Planned, Stage
from cogjax.stages.tokenizer import TokenizerStage
from cogjax.tasks.lm import LMTask


class TransformerStage(Stage):
    """The transformer, whose text competes with text and codes with codes."""

    def task(self, run: RunConfig) -> NoReturn:
        """UserError: it cannot be trained."""
        raise UserError(
            f"task {run.name!r} cannot be trained yet: `cogjax plan` says what it needs"
        )

    def job(self, run: RunConfig, workdir: Path) -> NoReturn:
        """UserError: it cannot be trained."""
        del workdir
        self.task(run)

    def export(self, run: RunConfig, params: Any, state: Any) -> NoReturn:
        """UserError: it cannot be trained."""
        del params, state
        self.task(run)

    def plan(self, run: RunConfig) -> Planned:
        """Of the paper's sizes."""
        model = section(DecoderConfig, run.model, "model")
        network, num_text = presets.make_transformer(model), presets.TEXT_LEN
        task = LMTask(
            network,
            presets.NUM_CODES,
            num_text=num_text,
            length=network.max_positions,
        )
        return Planned(task, presets.NUM_CODES, num_text, presets.GRID**2)


def _tokenizer_task(model: DVAEConfig, config: RelaxedConfig, lpips: Any):
    del lpips
    return RelaxedTask(model, config)


DVAE = TokenizerStage(DVAEConfig, RelaxedConfig, _tokenizer_task)
TRANSFORMER = TransformerStage()
