"""DALL-E's stages: the dVAE (section 2.1) and the transformer (2.2)."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.data.codes import CodedExample
from cogjax.data.records import open_split, read_manifest
from cogjax.errors import UserError
from cogjax.families.dalle.dvae import RelaxedConfig, RelaxedTask
from cogjax.families.dalle.layout import Layout, Mixture
from cogjax.families.dalle.presets import (
    NUM_PIECES,
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.models.dvae import DVAEConfig
from cogjax.pipelines.pairs import check_style, of_layout
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokenize import decode
from cogjax.stages.code_model import Setup
from cogjax.stages.coded import CodedSplits, check_images
from cogjax.stages.sections import RunConfig
from cogjax.stages.tokenizer import TokenizerStage
from cogjax.stages.transformer import TransformerStage
from cogjax.tasks.lm import LMTask


class LMStage(TransformerStage):
    """Next-token prediction, in which text competes with text and codes with codes."""

    family = "dalle"
    settings = Mixture
    model_section = TransformerConfig
    paper = DVAEConfig(), NUM_PIECES
    pipeline = staticmethod(of_layout)
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

    def setup(self, run: RunConfig) -> Setup:
        """With the styles that pairs name; UserError for a data set of no pairs."""
        found = super().setup(run)
        if found.layout.images == 1:
            return found
        manifest = read_manifest(run.data.path)
        check_images(manifest, run.data.path, found.layout.images)
        styles = manifest.info.get("styles")
        if not isinstance(styles, list) or not all(isinstance(x, str) for x in styles):
            raise UserError(
                f"{run.data.path} names no styles: make it again with `cogjax data "
                "pairs`"
            )
        for style in run.sample.prompts:
            check_style(style, styles)
        layout = dataclasses.replace(found.layout, styles=tuple(styles))
        return dataclasses.replace(found, layout=layout)

    def num_images(self, setup: Setup) -> int:
        """2 of pairs."""
        return setup.layout.images

    def samples(self, setup: Setup, run: RunConfig) -> Request:
        """As of `CodeModelStage`; a model of pairs gets images to evaluate on."""
        sample, data = run.sample, run.data
        if setup.layout.images == 1:
            return super().samples(setup, run)
        source = open_split(data.path, data.eval_split, CodedExample)
        places = np.arange(len(sample.prompts)) % len(source)
        codes = [source[int(i)].codes for i in places]  # of source and target
        codes = np.stack(codes).reshape(len(codes), *setup.layout.grid)
        pixels = decode(setup.tokenizer, codes[:, : setup.layout.shape[0]])
        return Request(
            (), sample.num_images, sample.seed, image=[*pixels], style=sample.prompts
        )

    def start_from(self, params: Any, layout: Layout, setup: Setup) -> Any:
        """For pairs also those of a DALL-E of one image, whose rows both images get."""
        del layout
        rows = params.get("row_embedding", ())
        if 2 * len(rows) != setup.network.image_grid[0]:
            return params
        return {**params, "row_embedding": np.tile(rows, (2, 1))}

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
