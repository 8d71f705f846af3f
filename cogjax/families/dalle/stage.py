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
from cogjax.stages.coded import CodedSplits
from cogjax.stages.tokenizer import TokenizerStage
from cogjax.stages.transformer import Setup, TransformerStage
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

    def examples(self, setup: Setup, splits: CodedSplits, split: str):
        """(source of a split, function of its item and a generator -> example)."""
        settings, drop = setup.settings, None
        if settings.bpe_dropout and split == splits.data.split:
            drop = BPEDropout(setup.text, settings.bpe_dropout)
        example = functools.partial(_example, settings, setup.layout, drop)
        return splits.captions(split), example


def _example(mixture: Mixture, layout: Layout, drop: Any, item: Sequence, rng):
    return mixture.example(layout, *item, rng, drop)


def _tokenizer_task(model: DVAEConfig, config: RelaxedConfig, lpips: Any):
    del lpips
    return RelaxedTask(model, config)


DVAE = TokenizerStage(DVAEConfig, RelaxedConfig, _tokenizer_task)
LM = LMStage()
