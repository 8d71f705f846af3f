"""Stages that train a transformer on codes of images and text: -> model folder."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.interop.tree import check_leaves, flatten
from cogjax.model import Component, Model
from cogjax.models.image_lm import param_shapes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.fused_attention import choose
from cogjax.pipelines.contracts import Generator
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.coded import CodedSplits
from cogjax.stages.samples import sample_hook
from cogjax.stages.sections import RunConfig, batches, eval_batches
from cogjax.stages.stage import Planned, Stage
from cogjax.tasks.transformer import TransformerTask
from cogjax.train.session import Job


@dataclass(frozen=True)
class Setup:
    """A transformer and its objective before there is data.

    settings: section 'task'. transformer: section 'model'. tokenizer: of images,
    without weights in a plan of the paper's sizes; text is None there.
    """

    settings: Any
    transformer: DecoderConfig
    tokenizer: Component
    text: TextTokenizer | None
    layout: Any
    network: ImageLMConfig


class TransformerStage(Stage):
    """What the families' transformers have in common: data, samples, export.

    family: name in the catalogue. transformer: class of the config section 'model'.
    paper: (config of the image tokenizer, number of text pieces) of the paper.
    pipeline: makes the sample grids of a model.
    """

    family: str
    transformer: type
    paper: tuple[TokenizerConfig, int]
    pipeline: type[Generator] = TokensPipeline
    plain = {"remat": "none", "implementation": "xla", "dropout": 0.0}

    @abc.abstractmethod
    def make_layout(
        self, tokenizer: TokenizerConfig, num_text: int, transformer: Any
    ) -> Any:
        """Sequences of the codes of a tokenizer and so many text pieces."""

    @abc.abstractmethod
    def make_network(self, transformer: Any, layout: Any) -> ImageLMConfig:
        """The network of the section 'model' over these sequences."""

    @abc.abstractmethod
    def make_task(self, setup: Setup, lpips: Any = None) -> TransformerTask:
        """The objective; ValueError for settings that do not fit each other.

        lpips: of `lpips`, None not to train but look.
        """

    def lpips(self, setup: Setup) -> Any:
        """Weights of the perceptual distance, None if the objective has none."""
        del setup

    def examples(self, setup: Setup, splits: CodedSplits, split: str, training: bool):
        """(source of a split, function of its item and a generator -> example).

        training: whether to learn from them, not to evaluate on them.
        """
        del training
        example = functools.partial(_example, setup.settings, setup.layout)
        return splits.captions(split), example

    def asks(self, settings: Any) -> bool:
        """Whether the questions of data.questions are learnt."""
        del settings
        return False

    def start_from(self, params: Any, layout: Any, network: ImageLMConfig) -> Any:
        """What parameters of a trained transformer over `layout` are in `network`."""
        del layout, network
        return params

    def start(self, setup: Setup, task: Any, run: RunConfig) -> Any:
        """Parameters to start from, those of data.weights; None is at random."""
        del task
        weights = run.data.weights
        if not weights:
            return None
        return self.given_weights(setup, model_folder.load(weights), weights)

    def given_weights(self, setup: Setup, there: Model, source: str) -> Any:
        """Parameters of the transformer of a model that is read from `source`."""
        trained = there["transformer"].params
        params = self.start_from(trained, there.layout, setup.network)
        wanted = flatten(param_shapes(setup.network))
        path = model_folder.find_file(source, "transformer.safetensors")
        check_leaves(flatten(params), wanted, str(path))
        return params

    def model(self, setup: Setup, params: Any, sampler: Sampler) -> Model:
        """The model of trained parameters."""
        # The kernel chosen for the training machine is not a property of the model.
        network = dataclasses.replace(setup.network, implementation="auto")
        parts = {"tokenizer": setup.tokenizer}
        parts["transformer"] = Component(network, params)
        return Model(self.family, parts, setup.layout, setup.text, sampler)

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
        needed = {"tokenizer": data.tokenizer, "text": data.text}
        needed |= {"questions": data.questions} if asks else {}
        for key, value in needed.items():
            if not value:
                raise UserError(
                    f"config key 'data.{key}' is required for task {run.name}"
                )
        tokenizer = model_folder.load_component(data.tokenizer, "tokenizer")
        text = load_text(model_folder.find_text(data.text))
        found = self._setup(run, tokenizer, text, text.size)
        try:
            choose(found.network.implementation, found.network.dtype, sparse=False)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return found

    def _setup(self, run: RunConfig, tokenizer, text, num_text: int) -> Setup:
        settings = self.settings_of(run)
        transformer = section(self.transformer, run.model, "model")
        try:
            layout = self.make_layout(tokenizer.config, num_text, transformer)
            network = self.make_network(transformer, layout)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return Setup(settings, transformer, tokenizer, text, layout, network)

    def _task(self, setup: Setup, lpips: Any = None) -> TransformerTask:
        try:
            return self.make_task(setup, lpips)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def task(self, run: RunConfig) -> TransformerTask:
        """The objective, without the weights of the perceptual distance."""
        return self._task(self.setup(run))

    def plan(self, run: RunConfig) -> Planned:
        """Of the tokenizers in the section 'data', or of the paper's."""
        if run.data.tokenizer:
            setup = self.setup(run)
        else:
            config, num_text = self.paper
            tokenizer = Component(config, {})
            setup = self._setup(run, tokenizer, None, num_text)
        layout = setup.layout
        prompt_len = layout.prompts([()]).ids.shape[1]
        num_codes = layout.vocab.num_codes
        return Planned(self._task(setup), num_codes, prompt_len, layout.image_len)

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over the codes of the splits, which are kept in `workdir`."""
        setup = self.setup(run)
        task = self._task(setup, self.lpips(setup))
        digest = self.sources_digest(run)
        splits = CodedSplits(
            setup.tokenizer,
            setup.text,
            run.data,
            workdir / "codes",
            digest,
            setup.layout.text_len,
        )
        examples = functools.partial(self.examples, setup, splits)

        def made(params):
            return self.pipeline(self.model(setup, params, self.sampler_of(run)))

        return Job(
            task,
            batches(*examples(run.data.split, training=True), run.train),
            eval_batches(*examples(run.data.eval_split, training=False), run),
            ((run.train.sample_every, sample_hook(run.sample, made)),),
            self._fingerprint(run, digest),
            start_params=self.start(setup, task, run),
        )

    def _fingerprint(self, run: RunConfig, digest: str) -> str:
        data = run.data
        parts = [records.read_manifest(data.path).fingerprint, data.split, digest]
        if data.questions:
            parts.append(records.read_manifest(data.questions).fingerprint)
        return "/".join(parts)

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The whole model, with both tokenizers."""
        del state
        return self.model(self.setup(run), params, self.sampler_of(run))

    def sources_digest(self, run: RunConfig) -> str:
        """Of both tokenizers."""
        digest = hashlib.sha256()
        tokenizer = model_folder.find_file(run.data.tokenizer, "tokenizer.safetensors")
        for path in (tokenizer, model_folder.find_text(run.data.text)):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]


def _example(mixture: Any, layout: Any, item: Sequence, rng: np.random.Generator):
    return mixture.example(layout, *item, rng)
