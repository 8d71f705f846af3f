"""DALL-E mini's stage: training on from the release."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cogjax.families.dalle_mini.presets import RELEASED
from cogjax.nn.stack import Remat
from cogjax.pipelines.encoder_decoder import EncoderDecoderPipeline
from cogjax.stages.code_model import Setup
from cogjax.stages.released import CodesOfTexts, ReleasedStage
from cogjax.tasks.encoder_decoder import EncoderDecoderTask


@dataclass(frozen=True)
class Tuning:
    """As `stages/released.py::Tuning`; the network has no dropout and one attention.

    size: of the release, for a plan without data.weights, which has its own. dtype: of
    the activations; parameters are float32. remat: see `nn/stack.py`.
    """

    size: str = ""
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"


@dataclass(frozen=True)
class Mixture(CodesOfTexts):
    """Texts stand apart from codes."""

    def example(
        self, layout: Any, texts: Any, codes: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws a caption: a batch's entry of `tasks/encoder_decoder.py`."""
        prompts = layout.prompts([self.draw(texts, rng)])
        count = np.int32(layout.positions - prompts.num_padding[0])
        return {"ids": prompts.ids[0], "count": count, "codes": codes.astype(np.int32)}


class Stage(ReleasedStage):
    """Codes after a text that is encoded apart."""

    family = "dalle_mini"
    settings = Mixture
    model_section = Tuning
    pipeline = EncoderDecoderPipeline
    sizes = RELEASED

    def make_task(self, setup: Setup, lpips: Any = None) -> EncoderDecoderTask:
        """The loss compares no images."""
        del lpips
        return EncoderDecoderTask(setup.network)


STAGE = Stage()
