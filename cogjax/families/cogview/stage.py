"""CogView's stages: the image tokenizer (section 2.2) and the transformer (2.3).

The transformer also as one that fills in masked codes (`masked.py`).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from cogjax.families.cogview.layout import Layout, Mixture
from cogjax.families.cogview.masked import MaskedMixture, MaskedTask
from cogjax.families.cogview.presets import (
    TransformerConfig,
    make_layout,
    make_transformer,
)
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.masks import Grid
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
    transformer = TransformerConfig
    paper = VQVAEConfig(), 50_000
    make_layout = staticmethod(make_layout)
    make_network = staticmethod(make_transformer)

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
    transformer = TransformerConfig
    paper = LMStage.paper
    make_network = staticmethod(make_transformer)
    pipeline = MaskedPipeline

    def reads(self, layout: Layout) -> bool:
        """Of masked codes alone: `lm` weights see text otherwise."""
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


LM, MASKED = LMStage(), MaskedStage()
VQ = AdversarialTokenizerStage(VQVAEConfig, VQConfig, _tokenizer_task)
