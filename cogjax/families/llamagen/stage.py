"""LlamaGen's stages: training on from the release (section 3.2)."""

import functools
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from cogjax.data import records
from cogjax.data.embeddings import EmbeddedExample
from cogjax.errors import UserError
from cogjax.families.llamagen.captions import CaptionTask
from cogjax.families.llamagen.presets import CAPTIONS, CLASSES
from cogjax.model import Model
from cogjax.pipelines.decoder import CaptionDecoder, DecoderPipeline
from cogjax.stages.caption_vectors import TextSource, caption_vectors
from cogjax.stages.code_model import Setup
from cogjax.stages.coded import CodedSplits
from cogjax.stages.released import CodesOfTexts, ReleasedStage
from cogjax.stages.sections import RunConfig
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


@dataclass(frozen=True)
class CaptionMixture(CodesOfTexts):
    """Captions are vectors of a text encoder."""

    def caption(
        self, shape: tuple[int, int], item: Any, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws one of an image's: an entry of `CaptionTask`; shape: of its vectors."""
        (_, codes), embedded = item
        vectors, there = np.zeros(shape, ml_dtypes.bfloat16), embedded.tokens
        # An image without captions is learnt as with its text left out.
        count, left_out = 1, not there or rng.random() < self.caption_dropout
        if there:
            tokens = there[rng.integers(len(there))][: len(vectors)]
            count = len(tokens)
            vectors[len(vectors) - count :] = tokens
        return {
            "vectors": vectors,
            "count": np.int32(count),
            "left_out": np.bool_(left_out),
            "codes": codes.astype(np.int32),
        }


class CaptionsStage(ReleasedStage):
    """Codes after a caption, whose vectors are made once a run, or are data.vectors."""

    family = "llamagen"
    settings = CaptionMixture
    pipeline = CaptionDecoder
    sizes = CAPTIONS

    def setup(self, run: RunConfig) -> Setup:
        """UserError for other texts: the model's own encoder reads captions."""
        if run.data.text:
            raise UserError(
                f"data.text is not for task {run.name}, whose model has a text encoder "
                "of its own: leave it out"
            )
        return super().setup(run)

    def make_task(self, setup: Setup, lpips: Any = None) -> CaptionTask:
        """The loss compares no images."""
        del lpips
        return CaptionTask(setup.network)

    def reads(self, layout: Any) -> bool:
        """Not classes."""
        return super().reads(layout) and layout.vocab.captions

    def prompt_len(self, layout: Any) -> int:
        """Vectors of a caption."""
        return layout.prompt_len

    def examples(self, setup: Setup, splits: CodedSplits, split: str, training: bool):
        """As of `CodeModelStage`, beside the vectors of the captions."""
        del training
        encoder = Model("", setup.others, setup.layout, setup.text)
        source = TextSource(splits.data.weights, encoder)
        vectors = caption_vectors(splits.data, source, splits.folder.parent)
        found = records.open_split(vectors, split, EmbeddedExample)
        shape = setup.layout.prompt_len, setup.network.caption_dim
        example = functools.partial(setup.settings.caption, shape)
        return _Pairs(splits.captions(split), found), example


@dataclass(frozen=True)
class _Pairs:
    """Two sources side by side."""

    coded: Any
    embedded: Any

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: int):
        return self.coded[index], self.embedded[index]


CLASSES_STAGE, CAPTIONS_STAGE = ClassesStage(), CaptionsStage()
