"""Runs that train a transformer on images, with both tokenizers: -> model folder."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.codes import CodedExample, CodedRecords
from cogjax.data.layout import Layout, Mixture
from cogjax.data.show import grid
from cogjax.data.text import TextTokenizer
from cogjax.data.two_way import TwoWayLayout, TwoWayMixture
from cogjax.errors import UserError
from cogjax.evaluate.lpips import lpips_params
from cogjax.image_codes import encode
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.model_folder import FAMILIES, ImageTokenizer, Parts, Reconstruction
from cogjax.models.image_lm import DecoderConfig, ImageLMConfig
from cogjax.models.reconstructor import decoder_of
from cogjax.ops.kernels import choose
from cogjax.pipeline import TextToImage
from cogjax.runs.common import Run, batches, eval_batches, task_section
from cogjax.sampling.autoregressive import Sampler
from cogjax.tasks.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.tasks.lm import LMTask
from cogjax.tasks.two_way import TwoWayTask

Task = LMTask | TwoWayTask | EndToEndTask


class Kind(NamedTuple):
    """How a family is trained.

    mixture: settings of the task, which draw examples by `example(layout, texts, codes,
    rng)`, with the picture before `rng` if the kind is of `pictures`. task: the
    objective of a network, with what else the run is made of.
    """

    family: str
    mixture: type
    task: Callable[[ImageLMConfig, "Transformer"], Task]
    pictures: bool = False


KINDS = {
    "lm": Kind(
        "cogview",
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
        TwoWayMixture,
        lambda network, lm: TwoWayTask(network, lm.layout.vocab),
    ),
    "end_to_end": Kind(
        "ernie_vilg",
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
    tokenizer: ImageTokenizer
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
        settings = FAMILIES[kind.family].TransformerConfig
        transformer = section(settings, config.get("model", {}), "model")
        mixture = task_section(kind.mixture, config)
        for key in ("tokenizer", "text"):
            if not getattr(data, key):
                raise UserError(f"config key 'data.{key}' is required for task {name}")
        tokenizer = model_folder.load_tokenizer(Path(data.tokenizer))
        text = TextTokenizer.load(data.text)
        return cls(kind, tokenizer, text, transformer, mixture)

    @property
    def layout(self) -> Layout | TwoWayLayout:
        """Of the sequences."""
        return self.parts({}, Sampler()).layout

    @property
    def task(self) -> Task:
        """The objective; UserError for a network that cannot be."""
        try:
            network = self.parts({}, Sampler()).network
            choose(network.implementation, network.dtype, sparse=False)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        try:
            return self.kind.task(network, self)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def parts(self, params: Any, sampler: Sampler) -> Parts:
        """The model of trained parameters."""
        reconstruction = None
        if isinstance(self.mixture, EndToEndConfig):
            found = params.get("reconstructor", {})
            reconstruction = Reconstruction(self.mixture.reconstructor, found)
            params = params.get("transformer", {})
        return Parts(
            self.tokenizer,
            self.transformer,
            params,
            self.text,
            sampler,
            family=self.kind.family,
            reconstructor=reconstruction,
        )


def make_run(lm: Transformer, sections: Mapping[str, Any], workdir: Path) -> Run:
    """The run of a transformer over the data of the sections; codes are kept."""
    data, sampling, task = sections["data"], sections["sample"], lm.task
    manifest = records.read_manifest(data.path)
    digest = _digest(Path(data.tokenizer) / "tokenizer.safetensors", Path(data.text))
    encoded = manifest.kind == records.CODES
    if encoded and manifest.info["tokenizer"] != model_folder.digest(lm.tokenizer):
        raise UserError(
            f"{data.path} was encoded with another tokenizer than {data.tokenizer}: "
            f"set data.tokenizer to that one, or encode again with `cogjax encode`"
        )
    if encoded and lm.kind.pictures:
        raise UserError(
            f"{data.path} holds codes and no pictures, which an end-to-end run needs: "
            "set data.path to the data set that was encoded"
        )

    def coded(split):
        if encoded:
            found = records.open_split(data.path, split, CodedExample)
            return CodedRecords(found, lm.text)
        name = f"{split}-{manifest.fingerprint[:12]}-{digest}.safetensors"
        source = records.open_split(data.path, split)
        cache = workdir / "codes" / name
        found = CodedSource.make(source, lm.tokenizer, lm.text, cache)
        size = lm.tokenizer.config.image_size
        return PicturedSource(found, source, size) if lm.kind.pictures else found

    layout = lm.layout

    def example(item, rng):
        return lm.mixture.example(layout, *item, rng)

    def sample(step, train_state, logger):
        if not sampling.prompts:
            return
        model = TextToImage(lm.parts(train_state.ema, sampling.sampler))
        drawn = model.generate(
            sampling.prompts, sampling.num_images, sampling.seed
        ).pixels
        flat = drawn.reshape(-1, *drawn.shape[2:])
        picture = grid(flat, sampling.num_images * 2)
        logger.images(step, {"generated": np.asarray(picture)})

    return Run(
        task,
        batches(coded(data.split), example, sections["train"]),
        eval_batches(coded(data.eval_split), example, sections),
        sample,
        f"{manifest.fingerprint}/{data.split}/{digest}",
        _start(lm, task, sections),
    )


def _start(lm: Transformer, task: Task, sections: Mapping[str, Any]) -> Any:
    """Parameters to start from; None is at random."""
    weights = sections["data"].weights and Path(sections["data"].weights)
    found = None
    if weights:
        found = model_folder.load_transformer(weights, task.model.config)
    if not isinstance(lm.mixture, EndToEndConfig):
        return found
    decoder = lm.mixture.start == "tokenizer"
    if not weights and not decoder:
        return None
    params = jax.jit(task.init)(jax.random.key(sections["train"].seed))[0]
    if weights:
        parts = lm.parts({}, Sampler())
        there = model_folder.load_reconstructor(weights, parts)
        params["transformer"] = found
        if there:
            params["reconstructor"] = there.params
            return params
    if decoder:
        own = decoder_of(lm.tokenizer.config, lm.tokenizer.params)
        params["reconstructor"]["decoder"] = own
    return params


@dataclass(frozen=True)
class CodedSource:
    """Random access to (caption piece ids of an image, its codes), all in memory."""

    texts: tuple[tuple[tuple[int, ...], ...], ...]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int):
        return self.texts[index], self.codes[index]

    @classmethod
    def make(
        cls,
        source: Sequence[records.Example],
        tokenizer: ImageTokenizer,
        text: TextTokenizer,
        cache: Path,
    ):
        """Encodes a split with the image tokenizer, or reads an earlier encoding."""
        items = [source[i] for i in range(len(source))]
        texts = tuple(
            tuple(tuple(text.encode(caption)) for _, caption in item.captions)
            for item in items
        )
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
    tokenizer: ImageTokenizer, items: Sequence[records.Example], batch_size: int = 64
) -> np.ndarray:
    """Codes int32 [n, grid * grid]; holds the pixels of one batch at a time."""
    size = tokenizer.config.image_size
    codes = []
    for start in range(0, len(items), batch_size):
        chunk = items[start : start + batch_size]
        images = np.stack([records.decode_image(item.image, size) for item in chunk])
        codes.append(encode(tokenizer, images, batch_size))
    return np.concatenate(codes).reshape(len(items), -1)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
