"""What all stages share that train a model of codes and text: -> model folder."""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
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
from cogjax.models.registry import shapes_of
from cogjax.pipelines.contracts import Generator
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.card import card_of
from cogjax.stages.coded import CodedSplits
from cogjax.stages.samples import of_prompts, sample_hook
from cogjax.stages.sections import DataConfig, RunConfig, batches, eval_batches
from cogjax.stages.stage import Planned, Stage
from cogjax.train.session import Job
from cogjax.train.task import Task

# Settings of the section 'model' that change neither FLOPs nor what products give.
PLAIN = {"remat": "none", "implementation": "xla", "dropout": 0.0}


@dataclass(frozen=True)
class Setup:
    """A network and its objective before there is data.

    settings: section 'task'. transformer: section 'model'. tokenizer: of images,
    without weights in a plan of the paper's sizes; text is None there. network: config
    of the component "transformer".
    """

    settings: Any
    transformer: Any
    tokenizer: Component
    text: TextTokenizer | None
    layout: Any
    network: Any


class CodeModelStage(Stage):
    """Data, samples and export of a network that predicts the codes of an image.

    family: name in the catalogue. pipeline: makes the sample grids of a model. halves:
    as of `CodedSplits`. keeps_others: whether further networks of a model fit it still
    when its transformer was trained on.
    """

    family: str
    halves = False
    keeps_others = False
    pipeline: Callable[[Model], Generator] = TokensPipeline

    @abc.abstractmethod
    def setup(self, run: RunConfig) -> Setup:
        """Reads both tokenizers; UserError for what does not fit."""

    @abc.abstractmethod
    def planned_setup(self, run: RunConfig) -> Setup:
        """As `setup`, of the paper's sizes where the config names no tokenizer."""

    @abc.abstractmethod
    def make_task(self, setup: Setup, lpips: Any = None) -> Task:
        """The objective; ValueError for settings that do not fit each other.

        lpips: of `lpips`, None not to train but look.
        """

    def reads(self, layout: Any) -> bool:
        """Whether the stage trains a model of the family with that layout."""
        return layout is not None

    def tunes(self, base: Model, source: str) -> dict[str, Any]:
        """The transformer; UserError for networks that depend on it and would stay."""
        if not self.reads(base.layout):
            return {}
        others = base.components.keys() - {"tokenizer", "transformer"}
        if others and not self.keeps_others:
            raise UserError(
                f"{source} has a {min(others)}, which tuning would lose: write a "
                "config of its own stage with data.weights"
            )
        return {"transformer": {}}

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

    def num_images(self, setup: Setup) -> int:
        """How many images an example of the data has."""
        del setup
        return 1

    def samples(self, setup: Setup, run: RunConfig) -> Request:
        """What is drawn to be shown in training, of the section 'sample'."""
        del setup
        return of_prompts(run.sample)

    def sample_hook(
        self, setup: Setup, run: RunConfig, made: Callable[[Any], Any]
    ) -> Callable:
        """Shows in training what is drawn; made: the model of a task's parameters."""
        request = functools.partial(self.samples, setup, run)
        return sample_hook(run.sample, made, request)

    def start_from(self, params: Any, layout: Any, setup: Setup) -> Any:
        """What parameters of a trained transformer over `layout` are in the new one."""
        del layout, setup
        return params

    def start(self, setup: Setup, task: Any, run: RunConfig) -> Any:
        """Parameters to start from, those of data.weights; None is at random.

        With LoRA there are none: those are `base`, and are read there.
        """
        del task
        weights = run.data.weights
        if not weights or run.lora.rank:
            return None
        return self.given_weights(setup, weights)

    def given_weights(self, setup: Setup, source: str) -> Any:
        """Parameters of the transformer of the model in a folder, read alone."""
        there = model_folder.load_outline(source)
        if getattr(there.layout, "enlarges", False) and not self.reads(there.layout):
            raise UserError(
                f"data.weights, {source}, enlarges images, which task 'super' alone "
                "trains: give a model that draws them from a text"
            )
        trained = model_folder.load_component(source, "transformer").params
        params = self.start_from(trained, there.layout, setup)
        wanted = flatten(shapes_of(setup.network)[0])
        path = model_folder.find_file(source, "transformer.safetensors")
        check_leaves(flatten(params), wanted, str(path))
        return params

    def base(self, run: RunConfig) -> tuple[str, Component]:
        """The transformer of data.weights."""
        if not run.data.weights:
            raise UserError(
                "config section 'lora' needs 'data.weights': the model to adapt"
            )
        setup, there = self.setup(run), model_folder.load_outline(run.data.weights)
        found = there["transformer"]
        if there.layout != setup.layout or not same_network(
            found.config, setup.network
        ):
            raise UserError(
                f"the section 'model' has other sizes or sequences than data.weights, "
                f"{run.data.weights}: leave it empty for LoRA"
            )
        return "transformer", model_folder.load_component(
            run.data.weights, "transformer"
        )

    def stored_network(self, setup: Setup) -> Any:
        """The config of the network as it is written into the model."""
        return setup.network

    def model(self, setup: Setup, params: Any, sampler: Sampler) -> Model:
        """The model of trained parameters."""
        parts = {"tokenizer": setup.tokenizer}
        parts["transformer"] = Component(self.stored_network(setup), params)
        return Model(self.family, parts, setup.layout, setup.text, sampler)

    def checked_task(self, setup: Setup, lpips: Any = None) -> Task:
        """`make_task`; UserError for settings that do not fit each other."""
        try:
            return self.make_task(setup, lpips)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def plan(self, run: RunConfig) -> Planned:
        """Plans with the tokenizers of the section 'data', or with the paper's."""
        setup = self.planned_setup(run)
        layout = setup.layout
        num_codes = layout.vocab.num_codes
        prompt_len = self.prompt_len(layout)
        return Planned(
            self.checked_task(setup), num_codes, prompt_len, layout.image_len
        )

    def prompt_len(self, layout: Any) -> int:
        """Positions before an image."""
        return layout.prompts([()]).ids.shape[1]

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over the codes of the splits, which are kept in `workdir`."""
        setup = self.setup(run)
        task = self.checked_task(setup, self.lpips(setup))
        digest = self.sources_digest(run)
        splits = CodedSplits(
            setup.tokenizer,
            setup.text,
            run.data,
            workdir / "codes",
            digest,
            setup.layout,
            self.num_images(setup),
            self.halves,
        )
        examples = functools.partial(self.examples, setup, splits)

        def made(params):
            return self.pipeline(self.model(setup, params, self.sampler_of(run)))

        return Job(
            task,
            batches(*examples(run.data.split, training=True), run.train),
            eval_batches(*examples(run.data.eval_split, training=False), run),
            ((run.train.sample_every, self.sample_hook(setup, run, made)),),
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
        model = self.model(self.setup(run), params, self.sampler_of(run))
        card = card_of(run.data.weights, tokenizer=run.data.tokenizer)
        return dataclasses.replace(model, card=card)

    def sampler_of(self, run: RunConfig) -> Sampler:
        """The section 'sample.sampler'; what it leaves out is an imported model's."""
        given, weights = run.sample.sampler, run.data.weights
        there = model_folder.load_outline(weights) if weights else None
        if there and "imported_as" in there.card:
            given = dataclasses.asdict(there.sampler) | dict(given)
        return section(self.sampler, given, "sample.sampler")

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of both tokenizers."""
        digest, folders = hashlib.sha256(), folders_of(run.data)
        tokenizer = model_folder.find_file(folders["tokenizer"], _TOKENIZER)
        for path in (tokenizer, model_folder.find_text(folders["text"])):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:12]


def same_network(one: Any, other: Any) -> bool:
    """Whether two configs compute the same but for what a run decides."""
    each = (
        {k: v for k, v in dataclasses.asdict(config).items() if k not in _OF_RUN}
        for config in (one, other)
    )
    return type(one) is type(other) and next(each) == next(each)


# Fields of a network that change its training, or how fast it runs, and no weights.
_OF_RUN = {"remat", "unroll", "implementation", "dtype", "dropout"}
_OF_RUN |= {"gradient_scale", "embedding_gradient"}
_TOKENIZER = "tokenizer.safetensors"


def folders_of(data: DataConfig) -> dict[str, str]:
    """Where the tokenizers are: in the model to start from, if nothing else is said."""
    return {
        "tokenizer": data.tokenizer or data.weights,
        "text": data.text or data.weights,
    }


def read_tokenizers(data: DataConfig) -> tuple[Component, TextTokenizer]:
    """The image tokenizer and the text tokenizer of a run."""
    folders = folders_of(data)
    tokenizer = model_folder.load_component(folders["tokenizer"], "tokenizer")
    return tokenizer, load_text(model_folder.find_text(folders["text"]))


def _example(mixture: Any, layout: Any, item: Sequence, rng: np.random.Generator):
    return mixture.example(layout, *item, rng)
