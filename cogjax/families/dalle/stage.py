"""DALL-E's stages: the dVAE (section 2.1) and the transformer (2.2)."""

import functools
from collections.abc import Sequence
from typing import Any

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.families.dalle.dvae import RelaxedConfig, RelaxedTask
from cogjax.families.dalle.layout import Layout, Mixture
from cogjax.families.dalle.presets import (
    NUM_PIECES,
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.models.dvae import DVAEConfig
from cogjax.pipelines.tokens import CodeByCode
from cogjax.stages.code_model import Setup
from cogjax.stages.coded import CodedSplits
from cogjax.stages.sections import RunConfig
from cogjax.stages.tokenizer import TokenizerStage
from cogjax.stages.transformer import TransformerStage
from cogjax.tasks.lm import LMTask


class LMStage(TransformerStage):
    """Next-token prediction, in which text competes with text and codes with codes."""

    family = "dalle"
    settings = Mixture
    transformer = TransformerConfig
    paper = DVAEConfig(), NUM_PIECES
    pipeline = CodeByCode
    make_layout = staticmethod(make_layout)
    make_network = staticmethod(make_transformer)

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        layout = setup.layout
        return LMTask(
            setup.network,
            layout.vocab.num_codes,
            setup.settings.code_noise,
            num_text=layout.text_len,
            length=layout.length,
        )

    def task(self, run: RunConfig) -> LMTask:
        """UserError also for a text tokenizer that BPE-dropout cannot cut anew."""
        setup = self.setup(run)
        _dropout(setup)
        return self.checked_task(setup)

    def examples(self, setup: Setup, splits: CodedSplits, split: str, training: bool):
        """With BPE-dropout in training alone."""
        drop = _dropout(setup) if training else None
        example = functools.partial(_example, setup.settings, setup.layout, drop)
        return splits.captions(split), example


def _dropout(setup: Setup) -> BPEDropout | None:
    rate = setup.settings.bpe_dropout
    return BPEDropout(setup.text, rate) if rate else None


def _example(mixture: Mixture, layout: Layout, drop: Any, item: Sequence, rng):
    return mixture.example(layout, *item, rng, drop)


def _tokenizer_task(model: DVAEConfig, config: RelaxedConfig, lpips: Any):
    del lpips
    return RelaxedTask(model, config)


DVAE = TokenizerStage(DVAEConfig, RelaxedConfig, _tokenizer_task)
LM = LMStage()
