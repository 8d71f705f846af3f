"""minDALL-E's stage: training on from the release. Its loss was not published."""

from typing import Any

from cogjax.families.mindalle.presets import RELEASED
from cogjax.pipelines.decoder import DecoderPipeline
from cogjax.stages.code_model import Setup
from cogjax.stages.released import ReleasedStage, TextsAndCodes
from cogjax.tasks.lm import LMTask


class LMStage(ReleasedStage):
    """Next-token prediction: text competes with text, codes with codes."""

    family = "mindalle"
    settings = TextsAndCodes
    pipeline = DecoderPipeline
    sizes = RELEASED

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        layout = setup.layout
        length = layout.text_len + layout.image_len
        num_codes = layout.vocab.num_codes
        return LMTask(setup.network, num_codes, num_text=layout.text_len, length=length)


LM = LMStage()
