"""LlamaGen's stages: training on from the release (section 3.2)."""

from typing import Any

from cogjax.families.llamagen.presets import CLASSES
from cogjax.pipelines.decoder import DecoderPipeline
from cogjax.stages.code_model import Setup
from cogjax.stages.released import ReleasedStage
from cogjax.tasks.lm import LMTask


class ClassesStage(ReleasedStage):
    """Codes after a class: captions of the data set are its number or its name."""

    family = "llamagen"
    pipeline = DecoderPipeline
    sizes = CLASSES

    def make_task(self, setup: Setup, lpips: Any = None) -> LMTask:
        """The loss compares no images."""
        del lpips
        layout = setup.layout
        return LMTask(
            setup.network, layout.vocab.num_codes, length=1 + layout.image_len
        )

    def reads(self, layout: Any) -> bool:
        """Not captions."""
        return super().reads(layout) and not layout.vocab.captions


CLASSES_STAGE = ClassesStage()
