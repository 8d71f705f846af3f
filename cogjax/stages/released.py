"""Stages that go on from a transformer that was released: an imported model.

The sizes and the sequences are those of the model in data.weights, which has both
tokenizers too. A plan without one takes a size of the release.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from cogjax import model_folder
from cogjax.config import check_ranges, section
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.nn.stack import Remat
from cogjax.ops.fused_attention import Implementation, choose
from cogjax.pipelines.tokens_model import check_parts
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.code_model import PLAIN, CodeModelStage, Setup, read_tokenizers
from cogjax.stages.sections import RunConfig
from cogjax.train.task import Task


@dataclass(frozen=True)
class Tuning:
    """What a run decides of a network.

    size: of the release, for a plan without data.weights, which has its own. dropout:
    share of activations left out in training. dtype: of the activations; parameters are
    float32. remat, unroll: see `nn/stack.py`. implementation: of attention, see
    `ops/fused_attention.py`.
    """

    size: str = ""
    dropout: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    remat: Remat = "none"
    unroll: int = 1
    implementation: Implementation = "auto"


@dataclass(frozen=True)
class CodesOfTexts:
    """How examples are drawn from captioned code grids: codes alone are learnt.

    caption_dropout: share of examples without a text, for classifier-free guidance.
    """

    caption_dropout: float = 0.1
    text_share: ClassVar[float] = 0.0

    def __post_init__(self):
        check_ranges(self, caption_dropout=(0, 1))

    def example(
        self, layout: Any, texts: Any, codes: np.ndarray, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """Draws a caption: {"ids": [t], "weights": [t]}, weights as in `tasks/lm.py`.

        Those of text add up to `text_share`, and those of codes to the rest.
        """
        [prompt] = layout.prompts([self.draw(texts, rng)]).ids
        share = self.text_share
        of_text = np.full(len(prompt), share / max(len(prompt) - 1, 1))
        of_text[0] = 0  # The first token is predicted by nothing.
        weights = np.concatenate(
            [of_text, np.full(len(codes), (1 - share) / len(codes))]
        )
        ids = np.concatenate([prompt, codes])
        return {"ids": ids.astype(np.int32), "weights": weights.astype(np.float32)}

    def draw(self, texts: Any, rng: np.random.Generator) -> tuple[int, ...]:
        """One of the captions of an image, or none, as of an image without any."""
        text = texts[rng.integers(len(texts))] if texts else ()
        return () if rng.random() < self.caption_dropout else text


@dataclass(frozen=True)
class TextsAndCodes(CodesOfTexts):
    """The same, where texts are learnt too. text_share: of the loss (DALL-E's)."""

    caption_dropout: float = 0.0
    text_share: float = 1 / 8

    def __post_init__(self):
        super().__post_init__()
        check_ranges(self, text_share=(0, 1))


@dataclass(frozen=True)
class _Setup(Setup):
    """imported: config of the network as it was, and is written again. others: further
    components of the model.
    """

    imported: Any = None
    others: Mapping[str, Component] = field(default_factory=dict)


class ReleasedStage(CodeModelStage):
    """sizes: (image tokenizer, layout, network) by the names of the release's sizes."""

    settings = CodesOfTexts
    model_section = Tuning
    keeps_others = True
    sizes: Mapping[str, tuple[Any, Any, Any]]

    @property
    def plain(self) -> dict[str, Any]:
        """As of all stages, of what a run decides."""
        known = {each.name for each in dataclasses.fields(self.model_section)}
        return {name: value for name, value in PLAIN.items() if name in known}

    def setup(self, run: RunConfig) -> Setup:
        """The model of data.weights with the tokenizers of the section 'data'."""
        weights = run.data.weights
        settings, tuning = self.settings_of(run), self._tuning(run)
        if not weights:
            raise UserError(
                f"config key 'data.weights' is required for task {run.name}: the "
                "folder of an imported model (docs/importing.md)"
            )
        there = model_folder.load_outline(weights)
        if there.family != self.family or not self.reads(there.layout):
            raise UserError(
                f"data.weights, {weights}, is no model that task {run.name} trains: "
                "its family or its texts are others"
            )
        tokenizer, text = read_tokenizers(run.data)
        parts = {**there.components, "tokenizer": tokenizer}
        whole = dataclasses.replace(there, components=parts, text=text)
        check_parts(whole, "leave out data.tokenizer and data.text")
        network = there["transformer"].config
        tuned = self._tuned(network, tuning, run=True)
        found = settings, tuning, tokenizer, text, there.layout, tuned, network
        own = sorted(there.components.keys() - {"tokenizer", "transformer"})
        others = {name: model_folder.load_component(weights, name) for name in own}
        return _Setup(*found, others)

    def planned_setup(self, run: RunConfig) -> Setup:
        """Setup of data.weights, or of a size of the release."""
        if run.data.weights:
            return self.setup(run)
        tuning = self._tuning(run)
        if tuning.size not in self.sizes:
            raise UserError(
                f"model.size is {tuning.size!r}, expected {', '.join(self.sizes)}; or "
                "set data.weights to an imported model"
            )
        tokenizer, layout, network = self.sizes[tuning.size]
        return Setup(
            self.settings_of(run),
            tuning,
            Component(tokenizer, {}),
            None,
            layout,
            self._tuned(network, tuning, run=False),
        )

    def _tuning(self, run: RunConfig) -> Tuning:
        tuning = section(self.model_section, run.model, "model")
        if tuning.size and run.data.weights:
            raise UserError(
                f"model.size is {tuning.size!r} and data.weights has a size too: leave "
                "one out"
            )
        return tuning

    def _tuned(self, network: Any, tuning: Tuning, run: bool) -> Any:
        """`tuned`; UserError for a value out of range, or that does not run here."""
        try:
            found = self.tuned(network, tuning)
            if run:
                own = getattr(tuning, "implementation", "xla")
                choose(own, tuning.dtype, causal=True)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return found

    def tuned(self, network: Any, tuning: Tuning) -> Any:
        """The network as it is trained."""
        own = dataclasses.asdict(tuning)
        del own["size"]
        return dataclasses.replace(network, **own)

    def model(self, setup: _Setup, params: Any, sampler: Sampler) -> Model:
        """The model of trained parameters, with what it had beside them."""
        found = super().model(setup, params, sampler)
        components = {**found.components, **setup.others}
        return dataclasses.replace(found, components=components)

    def stored_network(self, setup: _Setup) -> Any:
        """As imported: what a run decides is no property of the model."""
        return setup.imported

    def task(self, run: RunConfig) -> Task:
        """The objective, without data."""
        return self.checked_task(self.planned_setup(run))
