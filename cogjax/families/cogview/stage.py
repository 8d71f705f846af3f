"""CogView's stages: the image tokenizer (section 2.2) and the transformer (2.3)."""

from typing import Any

from cogjax.families.cogview.layout import Mixture
from cogjax.families.cogview.presets import (
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.models.vqvae import VQVAEConfig
from cogjax.stages.tokenizer import TokenizerStage
from cogjax.stages.transformer import Setup, TransformerStage
from cogjax.tasks.codebook import CodebookConfig
from cogjax.tasks.lm import LMTask
from cogjax.tasks.tokenizer import TokenizerTask


class LMStage(TransformerStage):
    """Next-token prediction in both directions."""

    family = "cogview"
    settings = Mixture
    transformer = TransformerConfig
    paper = VQVAEConfig(), 50_000
    make_layout = staticmethod(make_layout)
    make_network = staticmethod(make_transformer)

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        return LMTask(
            setup.network,
            setup.layout.vocab.num_codes,
            setup.settings.code_noise,
            image_start=setup.layout.image_start,
        )


def _tokenizer_task(model: VQVAEConfig, config: CodebookConfig, lpips: Any):
    del lpips
    return TokenizerTask(model, config)


LM = LMStage()
VQ = TokenizerStage(VQVAEConfig, CodebookConfig, _tokenizer_task)
