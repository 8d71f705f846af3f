"""Runs that train a transformer on images, with both tokenizers: -> model folder."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.codes import (
    CodedExample,
    CodedRecords,
    captions_of,
    questions_of,
)
from cogjax.data.contact_sheet import grid
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout, Mixture
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout, TwoWayMixture
from cogjax.interop.lpips import lpips_params
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import check_leaves, flatten
from cogjax.model import Component, Model, digest
from cogjax.models.image_lm import DecoderConfig, ImageLMConfig, param_shapes
from cogjax.models.reconstructor import (
    ReconstructorNetworkConfig,
    decoder_of,
    expected_codes,
)
from cogjax.ops.fused_attention import choose
from cogjax.pipelines.tokenize import encode
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages.sections import DataConfig, Run, batches, eval_batches, task_section
from cogjax.tasks.lm import LMTask
from cogjax.train.processes import say

Task = LMTask | TwoWayTask | EndToEndTask


class Kind(NamedTuple):
    """How a family is trained.

    family: its name, presets: its module, with the class `TransformerConfig`,
    `make_layout` and `make_transformer`. start: makes of (parameters, layout) of a
    trained model those that a network starts from.
    mixture: settings of the task, which draw examples by `example(layout, texts, codes,
    rng)`, with the picture before `rng` if the kind is of `pictures`, and where it has
    `questions` these by `answers(layout, asked, rng)`. task: the objective of a
    network, with what else the run is made of.
    """

    family: str
    presets: ModuleType
    start: Callable[[Any, Any, ImageLMConfig], Any]
    mixture: type
    task: Callable[[ImageLMConfig, "Transformer"], Task]
    pictures: bool = False


KINDS = {
    "lm": Kind(
        "cogview",
        cogview,
        lambda params, layout, network: params,
        Mixture,
        lambda network, lm: LMTask(
            network,
            lm.layout.vocab.num_codes,
            lm.mixture.code_noise,
            image_start=lm.layout.image_start,
        ),
    ),
    "ernie_vilg": Kind(
        "ernie_vilg",
        ernie_vilg,
        ernie_vilg.start_from,
        TwoWayMixture,
        lambda network, lm: TwoWayTask(
            network,
            lm.layout.vocab,
            lm.mixture.text_weight,
            lm.mixture.answer_weight,
        ),
    ),
    "end_to_end": Kind(
        "ernie_vilg",
        ernie_vilg,
        ernie_vilg.start_from,
        EndToEndConfig,
        lambda network, lm: EndToEndTask(
            network,
            lm.layout.vocab,
            lm.tokenizer.config,
            lm.mixture,
            lpips_params() if lm.mixture.perceptual else None,
        ),
        pictures=True,
    ),
}


@dataclass(frozen=True)
class Transformer:
    """A transformer run before its data: both tokenizers, network and objective."""

    kind: Kind
    tokenizer: Component
    text: TextTokenizer
    transformer: DecoderConfig
    mixture: Mixture | TwoWayMixture | EndToEndConfig

    @classmethod
    def of(
        cls, config: Mapping[str, Any], sections: Mapping[str, Any]
    ) -> "Transformer":
        """Reads both tokenizers; UserError for what does not fit."""
        data, name = sections["data"], config["task"]["name"]
        kind = KINDS[name]
        settings = kind.presets.TransformerConfig
        transformer = section(settings, config.get("model", {}), "model")
        mixture = task_section(kind.mixture, config)
        asks = getattr(mixture, "questions", 0)
        if data.questions and not asks:
            raise UserError(
                "data.questions is read only where task.questions, of task ernie_vilg "
                "or end_to_end, is above 0: set that too, or leave both out"
            )
        for key in ("tokenizer", "text", *(["questions"] if asks else [])):
            if not getattr(data, key):
                raise UserError(f"config key 'data.{key}' is required for task {name}")
        tokenizer = model_folder.load_component(data.tokenizer, "tokenizer")
        text = TextTokenizer.load(model_folder.find_text(data.text))
        return cls(kind, tokenizer, text, transformer, mixture)

    @property
    def layout(self) -> Layout | TwoWayLayout:
        """Of the sequences."""
        sizes = self.tokenizer.config, self.text.size
        return self.kind.presets.make_layout(*sizes, self.transformer)

    @property
    def network(self) -> ImageLMConfig:
        """Of the transformer."""
        return self.kind.presets.make_transformer(self.transformer, self.layout)

    @property
    def reconstructor(self) -> ReconstructorNetworkConfig:
        """Of an end-to-end run."""
        sizes = self.tokenizer.config, self.transformer.width
        return ReconstructorNetworkConfig(self.mixture.reconstructor, *sizes)

    @property
    def task(self) -> Task:
        """The objective; UserError for a network that cannot be."""
        try:
            network = self.network
            choose(network.implementation, network.dtype, sparse=False)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        try:
            return self.kind.task(network, self)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def model(self, params: Any, sampler: Sampler) -> Model:
        """The model of trained parameters."""
        components = {"tokenizer": self.tokenizer}
        if isinstance(self.mixture, EndToEndConfig):
            found = params["reconstructor"]
            components["reconstructor"] = Component(self.reconstructor, found)
            params = params["transformer"]
        # The kernel chosen for the training machine is not a property of the model.
        network = dataclasses.replace(self.network, implementation="auto")
        components["transformer"] = Component(network, params)
        return Model(self.kind.family, components, self.layout, self.text, sampler)


def make_run(lm: Transformer, sections: Mapping[str, Any], workdir: Path) -> Run:
    """The run of a transformer over the data of the sections; codes are kept."""
    data, sampling, task = sections["data"], sections["sample"], lm.task
    manifest = records.read_manifest(data.path)
    sources = sources_digest(data)
    layout, fingerprint = lm.layout, f"{manifest.fingerprint}/{data.split}/{sources}"
    asks = getattr(lm.mixture, "questions", 0)
    if asks:
        _check_answers(lm)
        fingerprint += f"/{records.read_manifest(data.questions).fingerprint}"
    if lm.kind.pictures and manifest.kind == records.CODES:
        raise UserError(
            f"{data.path} holds codes and no pictures, which an end-to-end run needs: "
            "set data.path to the data set that was encoded"
        )

    def coded(split, path=data.path, what="captions"):
        return _coded(lm, sections, workdir / "codes", path, split, sources, what)

    def example(asked, item, rng):
        drawn = lm.mixture.example(layout, *item, rng)
        return drawn | (lm.mixture.answers(layout, asked, rng) if asked else {})

    def pairs(split):
        """(pairs, how an example is drawn from one) of a split."""
        asked = coded(split, data.questions, "questions") if asks else None
        if asked:
            _say_what_is_cut(lm, asked, split)
        return coded(split), functools.partial(example, asked)

    def sample(step, train_state, logger):
        if not sampling.prompts:
            return
        model = TokensPipeline(lm.model(train_state.ema, sampling.sampler))
        drawn = model.generate(
            sampling.prompts, sampling.num_images, sampling.seed
        ).pixels
        flat = drawn.reshape(-1, *drawn.shape[2:])
        picture = grid(flat, sampling.num_images * 2)
        logger.images(step, {"generated": np.asarray(picture)})

    return Run(
        task,
        batches(*pairs(data.split), sections["train"]),
        eval_batches(*pairs(data.eval_split), sections),
        sample,
        fingerprint,
        _start(lm, task, sections),
    )


def _coded(
    lm: Transformer, sections, codes: Path, path: str, split: str, sources: str, what
):
    """Pictures of a split as (texts, codes), with pixels where a kind needs them.

    what: "captions" or "questions".
    """
    manifest, data = records.read_manifest(path), sections["data"]
    held = manifest.contents.get(split)
    # A split to evaluate on may be empty.
    needed = split == data.split or manifest.counts.get(split)
    if held is not None and needed and not held.get(what):
        raise UserError(
            f"split '{split}' of {path} has no {what}: set "
            f"data.{'path' if what == 'captions' else what} to a data set with some"
        )
    texts_of = {"captions": captions_of, "questions": questions_of}[what]
    texts_of = functools.partial(texts_of, lm.text)
    if manifest.kind != records.CODES:
        name = f"{split}-{manifest.fingerprint[:12]}-{sources}.safetensors"
        source = records.open_split(path, split)
        found = CodedSource.make(source, lm.tokenizer, texts_of, codes / name)
        if what == "questions" or not lm.kind.pictures:
            return found
        return PicturedSource(found, source, lm.tokenizer.config.image_size)
    if manifest.info["tokenizer"] != digest(lm.tokenizer):
        raise UserError(
            f"{path} was encoded with another tokenizer than {data.tokenizer}: "
            f"set data.tokenizer to that one, or encode again with `cogjax encode`"
        )
    return CodedRecords(records.open_split(path, split, CodedExample), texts_of)


def _check_answers(lm: Transformer) -> None:
    """UserError for answers that have no positions."""
    if lm.mixture.answer_len > lm.transformer.text_len:
        raise UserError(
            f"task.answer_len is {lm.mixture.answer_len}, more than model.text_len, "
            f"{lm.transformer.text_len}: lower it or raise that"
        )


def _say_what_is_cut(lm: Transformer, asked: Sequence, split: str) -> None:
    """Counts questions and answers that are longer than what is learnt of them."""
    lengths = [
        (len(question), len(answer))
        for i in range(len(asked))
        for question, answer in asked[i][0]
    ]
    limits = {
        "model.text_len": lm.layout.text_len,
        "task.answer_len": lm.mixture.answer_len,
    }
    for which, (setting, most) in enumerate(limits.items()):
        of = [each[which] for each in lengths]
        long = sum(length > most for length in of)
        if long:
            what = ("questions", "answers")[which]
            say(
                f"{long} of {len(of)} {what} of split '{split}' are cut to {most} "
                f"pieces: all of the longest needs {setting} {max(of)}"
            )


def _start(lm: Transformer, task: Task, sections: Mapping[str, Any]) -> Any:
    """Parameters to start from; None is at random."""
    weights = sections["data"].weights
    found = there = None
    if weights:
        there = model_folder.load(weights)
        found = _transformer(lm, there, task.model.config, str(weights))
    if not isinstance(lm.mixture, EndToEndConfig):
        return found
    decoder = lm.mixture.start == "tokenizer"
    if not weights and not decoder:
        return None
    params = jax.jit(task.init)(jax.random.key(sections["train"].seed))[0]
    if weights:
        params["transformer"] = found
        own = there.components.get("reconstructor")
        if own and own.config != lm.reconstructor:
            raise UserError(
                f"data.weights, {weights}, has another reconstructor than the config "
                f"section 'task': set task.reconstructor to that, {own.config.settings}"
            )
        if own:
            params["reconstructor"] = own.params
            return params
    if decoder:
        own = decoder_of(lm.tokenizer.config, lm.tokenizer.params)
        params["reconstructor"]["decoder"] = own
        if lm.mixture.reconstructor.activation == "softmax":
            head = params["transformer"]["token_embedding"]
            head = head[: lm.layout.vocab.num_codes]
            params["reconstructor"] |= expected_codes(
                head, lm.tokenizer.state["codebook"]
            )
    return params


def _transformer(lm: Transformer, there: Model, network: ImageLMConfig, what: str):
    """Parameters to start from; UserError for a model that does not fit."""
    params = lm.kind.start(there["transformer"].params, there.layout, network)
    check_leaves(flatten(params), flatten(param_shapes(network)), what)
    return params


@dataclass(frozen=True)
class CodedSource:
    """Random access to (texts of an image, its codes), all in memory.

    texts: piece ids, as `captions_of` or `questions_of` gives them.
    """

    texts: tuple[tuple, ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int):
        return self.texts[index], self.codes[index]

    @classmethod
    def make(
        cls,
        source: Sequence[records.Example],
        tokenizer: Component,
        texts_of: Callable[[records.Example], tuple],
        cache: Path,
    ):
        """Encodes a split with the image tokenizer, or reads an earlier encoding."""
        items = [source[i] for i in range(len(source))]
        texts = tuple(map(texts_of, items))
        if cache.exists():
            codes = load_tree(cache)["codes"]
            if len(codes) == len(items):
                return cls(texts, codes)
        codes = _encode_items(tokenizer, items)
        save_tree(cache, {"codes": codes}, None)
        return cls(texts, codes)


@dataclass(frozen=True)
class PicturedSource:
    """As `CodedSource`, and the pixels uint8 [size, size, 3], read when asked."""

    coded: CodedSource
    source: Sequence[records.Example]
    size: int

    def __len__(self) -> int:
        return len(self.coded)

    def __getitem__(self, index: int):
        image = records.decode_image(self.source[index].image, self.size)
        return *self.coded[index], image


def _encode_items(
    tokenizer: Component, items: Sequence[records.Example], batch_size: int = 64
) -> np.ndarray:
    """Codes int32 [n, grid * grid]; holds the pixels of one batch at a time."""
    size, grid_size = tokenizer.config.image_size, tokenizer.config.grid
    codes = [np.zeros((0, grid_size, grid_size), np.int32)]
    arrays = jax.device_put((tokenizer.params, tokenizer.state))
    tokenizer = Component(tokenizer.config, *arrays)
    for start in range(0, len(items), batch_size):
        chunk = items[start : start + batch_size]
        images = np.stack([records.decode_image(item.image, size) for item in chunk])
        codes.append(encode(tokenizer, images, batch_size))
    return np.concatenate(codes).reshape(len(items), grid_size**2)


def sources_digest(data: DataConfig) -> str:
    """Part of a run's fingerprint: of both tokenizers."""
    found = hashlib.sha256()
    tokenizer = model_folder.find_file(data.tokenizer, "tokenizer.safetensors")
    for path in (tokenizer, model_folder.find_text(data.text)):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
