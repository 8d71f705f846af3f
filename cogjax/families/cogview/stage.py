"""CogView's stages: the image tokenizer (section 2.2) and the transformer (2.3).

The transformer also as one that fills in masked codes (`masked.py`).
"""

import dataclasses
from typing import Any

from cogjax.families.cogview.layout import Layout, Mixture
from cogjax.families.cogview.masked import MaskedMixture, MaskedTask
from cogjax.families.cogview.presets import (
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.pipelines.masked import MaskedPipeline
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


class MaskedStage(TransformerStage):
    """Masked codes from a text, all at once; from `lm` weights too (`data.weights`)."""

    family = "cogview"
    settings = MaskedMixture
    transformer = TransformerConfig
    paper = LMStage.paper
    make_network = staticmethod(make_transformer)
    pipeline = MaskedPipeline

    def make_layout(
        self, tokenizer: TokenizerConfig, num_text: int, transformer: TransformerConfig
    ) -> Layout:
        """Says that the model is masked: by it `cogjax.load` knows."""
        layout = make_layout(tokenizer, num_text, transformer)
        return dataclasses.replace(layout, masked=True)

    def make_task(self, setup: Setup, lpips: Any = None) -> MaskedTask:
        """The loss compares no images."""
        del lpips
        return MaskedTask(setup.network, setup.layout.vocab)


def _tokenizer_task(model: VQVAEConfig, config: CodebookConfig, lpips: Any):
    del lpips
    return TokenizerTask(model, config)


LM, MASKED = LMStage(), MaskedStage()
VQ = TokenizerStage(VQVAEConfig, CodebookConfig, _tokenizer_task)
