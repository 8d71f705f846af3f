"""CogView's stages: the image tokenizer (section 2.2) and the transformer (2.3).

The transformer also as one that fills in masked codes (`masked.py`), and as one that
enlarges images (`enlarging.py`).
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from cogjax.data.contact_sheet import grid
from cogjax.data.images import decode_image
from cogjax.data.records import open_split
from cogjax.errors import UserError
from cogjax.families.cogview.enlarging import (
    EnlargingMixture,
    EnlargingTask,
    positions_of,
)
from cogjax.families.cogview.layout import Layout, Mixture
from cogjax.families.cogview.masked import MaskedMixture, MaskedTask
from cogjax.families.cogview.presets import (
    FASHION,
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.model import Component
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.masks import Grid
from cogjax.pipelines.enlarge import Enlarger
from cogjax.pipelines.masked import MaskedPipeline
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.code_model import Setup
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Stage
from cogjax.stages.tokenizer import AdversarialTokenizerStage
from cogjax.stages.transformer import TransformerStage
from cogjax.tasks.codebook import CodebookConfig
from cogjax.tasks.image_loss import ImageLoss, ImageLossConfig
from cogjax.tasks.lm import LMTask
from cogjax.tasks.tokenizer import TokenizerTask


class LMStage(TransformerStage):
    """Next-token prediction in both directions."""

    family = "cogview"
    settings = Mixture
    model_section = TransformerConfig
    paper = VQVAEConfig(), 50_000
    make_layout = staticmethod(make_layout)
    make_network = staticmethod(make_transformer)

    def paper_of(self, run: RunConfig) -> tuple[TokenizerConfig, int]:
        """That of CogView-fashion for windows, which the paper has nowhere else."""
        return (FASHION, 50_000) if run.model.get("window") else self.paper

    def reads(self, layout: Layout) -> bool:
        """Not of masked codes, nor of super-resolution's two images."""
        return not layout.masked and not layout.enlarges

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        layout = setup.layout
        several = [
            layout.of(shape) for shape in layout.shapes if len(layout.shapes) > 1
        ]
        return LMTask(
            setup.network,
            layout.vocab.num_codes,
            setup.settings.code_noise,
            image_start=layout.image_start,
            length=layout.length,
            places={x.shape_id: x.places for x in several},
        )


class MaskedStage(TransformerStage):
    """Masked codes from a text, all at once; from `lm` weights too (`data.weights`)."""

    family = "cogview"
    settings = MaskedMixture
    model_section = TransformerConfig
    paper = LMStage.paper
    make_network = staticmethod(make_transformer)
    pipeline = MaskedPipeline

    def reads(self, layout: Layout) -> bool:
        """Whether its codes are masked: weights of `lm` see text otherwise."""
        return layout.masked

    def make_layout(
        self,
        tokenizer: TokenizerConfig,
        num_text: int,
        transformer: TransformerConfig,
        shapes: tuple[Grid, ...] = (),
    ) -> Layout:
        """Says that the model is masked: by it `cogjax.load` knows."""
        if len(shapes) > 1:
            raise ValueError(
                f"the data has {len(shapes)} shapes of images, and masked codes are "
                "learnt of one: choose task 'lm', or build the data with one --aspect"
            )
        layout = make_layout(tokenizer, num_text, transformer, shapes)
        return dataclasses.replace(layout, masked=True)

    def sampler_of(self, run: RunConfig) -> Sampler:
        """The config's alone: weights of `lm` sample one code after the other."""
        return Stage.sampler_of(self, run)

    def make_task(self, setup: Setup, lpips: Any = None) -> MaskedTask:
        """The loss compares no images."""
        del lpips
        return MaskedTask(setup.network, setup.layout.vocab)


class SuperStage(TransformerStage):
    """Codes of an image after those of a smaller one (`enlarging.py`).

    From the weights of `lm` too: the places of codes are known (`data.weights`).
    """

    family = "cogview"
    settings = EnlargingMixture
    model_section = TransformerConfig
    paper = LMStage.paper
    make_network = staticmethod(make_transformer)
    pipeline = Enlarger
    halves = True

    def reads(self, layout: Layout) -> bool:
        """Whether it has two images."""
        return layout.enlarges

    def make_layout(
        self,
        tokenizer: TokenizerConfig,
        num_text: int,
        transformer: TransformerConfig,
        shapes: tuple[Grid, ...] = (),
    ) -> Layout:
        """ValueError for a grid that is no multiple of 4, as windows need."""
        if shapes:
            raise ValueError(
                "super-resolution learns squares, and the data has other images: build "
                "it without --aspect, and with --fit crop"
            )
        if tokenizer.grid % 4:
            raise ValueError(
                f"images are {tokenizer.grid} codes a side, expected a multiple of 4"
            )
        layout = make_layout(tokenizer, num_text, transformer)
        return dataclasses.replace(layout, enlarges=True)

    def make_task(self, setup: Setup, lpips: Any = None) -> EnlargingTask:
        """The loss compares no images."""
        del lpips
        return EnlargingTask(setup.network, setup.layout)

    def prompt_len(self, layout: Layout) -> int:
        """Positions before the large image."""
        return layout.enlarging_len

    def start_from(self, params: Any, layout: Layout, setup: Setup) -> Any:
        """A CogView's, whose places of codes both images get; an enlarger's as is."""
        if layout.enlarges:
            return params
        name, rows = "position_embedding", setup.network.max_positions
        table = positions_of(params[name], layout, setup.layout, rows)
        return {**params, name: table}

    def sample_hook(
        self, setup: Setup, run: RunConfig, made: Callable[[Any], Enlarger]
    ) -> Callable:
        """Images to evaluate on, enlarged by bicubic, by the model, and as they are."""
        return functools.partial(_show, setup.tokenizer.config.image_size, run, made)

    def _setup(self, run: RunConfig, tokenizer: Component, *text: Any) -> Setup:
        """With the tokenizer at the size of the large images."""
        size = self.settings_of(run).image_size
        if size:
            try:
                config = dataclasses.replace(tokenizer.config, image_size=size)
            except ValueError as error:
                raise UserError(f"config section 'task': {error}") from error
            tokenizer = dataclasses.replace(tokenizer, config=config)
        return super()._setup(run, tokenizer, *text)


def _show(size: int, run: RunConfig, made: Callable, step, train_state, logger) -> None:
    """Three rows of as many images as the section 'sample' says."""
    source = open_split(run.data.path, run.data.eval_split)
    items = [source[i] for i in range(min(run.sample.num_images, len(source)))]
    if not items:
        return
    small, large = (
        np.stack([decode_image(item.image, side) for item in items])
        for side in (size // 2, size)
    )
    texts = [item.captions[0][1] for item in items]
    drawn = made(train_state.ema).enlarge(small, texts, size=size, seed=run.sample.seed)
    bicubic = [
        np.asarray(Image.fromarray(x).resize((size, size), Image.Resampling.BICUBIC))
        for x in small
    ]
    sheet = grid(np.concatenate([bicubic, drawn, large]), len(items))
    logger.images(step, {"enlarged": np.asarray(sheet)}, texts)


@dataclass(frozen=True)
class VQConfig(CodebookConfig, ImageLossConfig):
    """The squared error of pixels in [0, 1], as the paper.

    Ours: with another comparison (`pixels`, `perceptual_weight`, `disc_weight`) it is
    that of pixels in [-1, 1], see `tasks/image_loss.py`.
    """

    pixels: Literal["l1", "l2"] = "l2"
    perceptual_weight: float = 0.0
    disc_weight: float = 0.0

    def __post_init__(self):
        CodebookConfig.__post_init__(self)
        ImageLossConfig.__post_init__(self)

    @property
    def papers(self) -> bool:
        """Whether images are compared as in the paper."""
        return self.pixels == "l2" and not self.perceptual_weight + self.disc_weight


def _tokenizer_task(model: VQVAEConfig, config: VQConfig, lpips: Any):
    if config.papers:
        return TokenizerTask(model, config)
    image_loss = ImageLoss(config, model.image_size, model.last_side, lpips)
    return TokenizerTask(model, config, image_loss)


LM, MASKED, SUPER = LMStage(), MaskedStage(), SuperStage()
VQ = AdversarialTokenizerStage(VQVAEConfig, VQConfig, _tokenizer_task)
