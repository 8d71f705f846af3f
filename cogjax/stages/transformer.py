"""Stages that train a transformer of the config's sizes on codes of images and text."""

import abc
import dataclasses
from typing import Any

from cogjax import model_folder
from cogjax.config import section
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.ops.fused_attention import choose
from cogjax.ops.masks import Grid
from cogjax.pipelines.tokens_model import check_parts
from cogjax.stages.code_model import (
    PLAIN,
    CodeModelStage,
    Setup,
    folders_of,
    read_tokenizers,
)
from cogjax.stages.coded import shapes_of
from cogjax.stages.released import Tuning
from cogjax.stages.sections import RunConfig
from cogjax.tasks.transformer import TransformerTask

# Keys of the section 'model' that say no size.
_TUNING = {each.name for each in dataclasses.fields(Tuning)} - {"size"}


class TransformerStage(CodeModelStage):
    """A transformer over the sequences of any image tokenizer and any text tokenizer.

    Its sizes are those of data.weights where the section 'model' has none.

    paper: (config of the image tokenizer, number of text pieces) of the paper.
    """

    paper: tuple[TokenizerConfig, int]
    plain = PLAIN

    @abc.abstractmethod
    def make_layout(
        self,
        tokenizer: TokenizerConfig,
        num_text: int,
        transformer: Any,
        shapes: tuple[Grid, ...] = (),
    ) -> Any:
        """Sequences of the codes of a tokenizer and so many text pieces.

        shapes: (rows, columns) of images, () of squares; ValueError for what it cannot.
        """

    @abc.abstractmethod
    def make_network(self, transformer: Any, layout: Any) -> ImageLMConfig:
        """The network of the section 'model' over these sequences."""

    def paper_of(self, run: RunConfig) -> tuple[TokenizerConfig, int]:
        """`paper`, of a paper with several systems that which the config asks for."""
        del run
        return self.paper

    def asks(self, settings: Any) -> bool:
        """Whether the questions of data.questions are learnt."""
        del settings
        return False

    def setup(self, run: RunConfig) -> Setup:
        """Reads both tokenizers; UserError for what does not fit."""
        data, asks = run.data, self.asks(self.settings_of(run))
        # A wrong key is said before any file is read.
        section(self.model_section, run.model, "model")
        if data.questions and not asks:
            raise UserError(
                "data.questions is read only where task.questions is above 0: set that "
                "too, in a task that has it, or leave both out"
            )
        needed = folders_of(data) | ({"questions": data.questions} if asks else {})
        for key, value in needed.items():
            if not value:
                raise UserError(
                    f"config key 'data.{key}' is required for task {run.name}"
                )
        tokenizer, text = read_tokenizers(data)
        found = self._setup(run, tokenizer, text, text.size)
        try:
            choose(found.network.implementation, found.network.dtype, causal=True)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return found

    def planned_setup(self, run: RunConfig) -> Setup:
        """Setup with the tokenizers of the section 'data', or with the paper's."""
        if folders_of(run.data)["tokenizer"]:
            return self.setup(run)
        config, num_text = self.paper_of(run)
        return self._setup(run, Component(config, {}), None, num_text)

    def _setup(self, run: RunConfig, tokenizer, text, num_text: int) -> Setup:
        if there := self._given(run):
            return self._setup_of(run, there, tokenizer, text)
        settings = self.settings_of(run)
        transformer = section(self.model_section, run.model, "model")
        try:
            shapes = shapes_of(run.data.path, tokenizer.config)
            sizes = tokenizer.config, num_text, transformer
            layout = self.make_layout(*sizes, shapes)
            network = self.make_network(transformer, layout)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return Setup(settings, transformer, tokenizer, text, layout, network)

    def _given(self, run: RunConfig) -> Model | None:
        """The model of data.weights, where the section 'model' leaves sizes to it."""
        if not run.data.weights or not run.model.keys() <= _TUNING:
            return None
        there = model_folder.load_outline(run.data.weights)
        same = there.family == self.family and self.reads(there.layout)
        return there if same else None

    def _setup_of(self, run: RunConfig, there: Model, tokenizer, text) -> Setup:
        """Sizes and sequences of a model, with the tokenizers of the section 'data'."""
        parts = {**there.components, "tokenizer": tokenizer}
        whole = dataclasses.replace(there, components=parts, text=text)
        images = getattr(there.layout, "images", 1)
        check_parts(whole, "leave out data.tokenizer and data.text", images)
        tuning = section(Tuning, run.model, "model")
        own = {name: getattr(tuning, name) for name in run.model}
        network = dataclasses.replace(there["transformer"].config, **own)
        settings = self.settings_of(run)
        return Setup(settings, tuning, tokenizer, text, there.layout, network)

    def stored_network(self, setup: Setup) -> ImageLMConfig:
        """The kernel chosen for the training machine is no property of the model."""
        return dataclasses.replace(setup.network, implementation="auto")

    def task(self, run: RunConfig) -> TransformerTask:
        """The objective, without the weights of the perceptual distance."""
        return self.checked_task(self.setup(run))
