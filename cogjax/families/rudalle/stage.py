"""ru-dalle's stage: training on from the release."""

import dataclasses
from typing import Any

from cogjax.families.rudalle.presets import RELEASED
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.pipelines.decoder import of_shift
from cogjax.stages.code_model import Setup
from cogjax.stages.released import ReleasedStage, TextsAndCodes, Tuning
from cogjax.tasks.lm import LMTask


class LMStage(ReleasedStage):
    """Text among text, a share of 1/8, and codes among codes, as in its `forward`.

    Parity: in v3 the release trains the first code as if it were a piece of text, and
    so never as a code; here it is learnt as all others are.
    tests/stages/test_released.py::test_gradients_of_the_public_code
    """

    family = "rudalle"
    settings = TextsAndCodes
    pipeline = staticmethod(of_shift)
    sizes = RELEASED

    def tuned(self, network: ImageLMConfig, tuning: Tuning) -> ImageLMConfig:
        """With the gradient of embeddings that its `forward` makes smaller."""
        found = super().tuned(network, tuning)
        return dataclasses.replace(found, embedding_gradient=0.1)

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        layout = setup.layout
        prompt_len = layout.full_len + layout.shifted
        return LMTask(
            setup.network,
            layout.vocab.num_codes,
            num_text=prompt_len,
            image_start=layout.full_len + 1,
            length=prompt_len + layout.image_len,
        )

    def prompt_len(self, layout: Any) -> int:
        """What a plan reads before an image; v2 forces one token more."""
        return layout.full_len


LM = LMStage()
