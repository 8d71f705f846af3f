"""Stages that train a transformer of the config's sizes on codes of images and text."""

import abc
import dataclasses
from typing import Any

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.model import Component
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.ops.fused_attention import choose
from cogjax.stages.code_model import (
    PLAIN,
    CodeModelStage,
    Setup,
    folders_of,
    read_tokenizers,
)
from cogjax.stages.sections import RunConfig
from cogjax.tasks.transformer import TransformerTask


class TransformerStage(CodeModelStage):
    """A transformer over the sequences of any image tokenizer and any text tokenizer.

    transformer: class of the config section 'model'. paper: (config of the image
    tokenizer, number of text pieces) of the paper.
    """

    transformer: type
    paper: tuple[TokenizerConfig, int]
    plain = PLAIN

    @abc.abstractmethod
    def make_layout(
        self, tokenizer: TokenizerConfig, num_text: int, transformer: Any
    ) -> Any:
        """Sequences of the codes of a tokenizer and so many text pieces."""

    @abc.abstractmethod
    def make_network(self, transformer: Any, layout: Any) -> ImageLMConfig:
        """The network of the section 'model' over these sequences."""

    def asks(self, settings: Any) -> bool:
        """Whether the questions of data.questions are learnt."""
        del settings
        return False

    def setup(self, run: RunConfig) -> Setup:
        """Reads both tokenizers; UserError for what does not fit."""
        data, asks = run.data, self.asks(self.settings_of(run))
        # A wrong key is said before any file is read.
        section(self.transformer, run.model, "model")
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
            choose(found.network.implementation, found.network.dtype, sparse=False)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return found

    def planned_setup(self, run: RunConfig) -> Setup:
        """Of the tokenizers in the section 'data', or of the paper's."""
        if folders_of(run.data)["tokenizer"]:
            return self.setup(run)
        config, num_text = self.paper
        return self._setup(run, Component(config, {}), None, num_text)

    def _setup(self, run: RunConfig, tokenizer, text, num_text: int) -> Setup:
        settings = self.settings_of(run)
        transformer = section(self.transformer, run.model, "model")
        try:
            layout = self.make_layout(tokenizer.config, num_text, transformer)
            network = self.make_network(transformer, layout)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return Setup(settings, transformer, tokenizer, text, layout, network)

    def stored_network(self, setup: Setup) -> ImageLMConfig:
        """The kernel chosen for the training machine is no property of the model."""
        return dataclasses.replace(setup.network, implementation="auto")

    def task(self, run: RunConfig) -> TransformerTask:
        """The objective, without the weights of the perceptual distance."""
        return self.checked_task(self.setup(run))
