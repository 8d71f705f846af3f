"""From a config to a training run: builds task, data and hooks, then calls `fit`.

The one place that knows both the networks and the training loop. Its tasks:

    vq           images -> tokenizer folder (config.json, tokenizer.safetensors)
    lm           images + tokenizer folder + text.model -> model folder (`cogjax.load`)
    ernie_vilg   the same in both directions at once

Either folder is written to WORKDIR/export when the run ends.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax import model_folder
from cogjax.config import load_json, section
from cogjax.data import pipeline as data_pipeline
from cogjax.data import records
from cogjax.data.codes import CodedExample, CodedRecords
from cogjax.data.layout import Layout, Mixture
from cogjax.data.show import grid
from cogjax.data.text import TextTokenizer
from cogjax.data.two_way import TwoWayLayout, TwoWayMixture
from cogjax.errors import UserError
from cogjax.image_codes import decode, encode
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.model_folder import FAMILIES, ImageTokenizer, Parts
from cogjax.models.image_lm import DecoderConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.ops.kernels import choose
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.pipeline import TextToImage
from cogjax.sampling.autoregressive import Sampler
from cogjax.tasks.lm import LMTask
from cogjax.tasks.two_way import TwoWayTask
from cogjax.tasks.vq import VQConfig, VQTask
from cogjax.train.checkpoint import restore_params
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Where a run reads from.

    path: data set folder, for a transformer also one of `cogjax encode`. The rest is
    for a transformer too. tokenizer, text: image tokenizer folder and text model file.
    weights: model folder to start from instead of at random.
    """

    path: str
    tokenizer: str = ""
    text: str = ""
    weights: str = ""
    split: str = "train"
    eval_split: str = "val"


@dataclass(frozen=True)
class EvalConfig:
    """batches: of the evaluation split, at every evaluation; 0 is off."""

    batches: int = 4


@dataclass(frozen=True)
class SampleConfig:
    """What the sample grids of a run draw: prompts, images a prompt, sampler."""

    prompts: tuple[str, ...] = ()
    num_images: int = 4
    seed: int = 0
    sampler: Sampler = Sampler()


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> Path:
    """Runs or resumes the training that a resolved config describes.

    Returns the export folder. UserError for anything in the config or data that does
    not fit, before any compilation.
    """
    workdir = Path(workdir)
    sections = _sections(config)
    mesh = make_mesh(sections["mesh"])
    if _task_name(config) == "vq":
        run = _vq_run(_vq_task(config), sections)
    else:
        run = _lm_run(_LM.of(config, sections), sections, workdir)
    fit(
        run.task,
        run.batches,
        sections["train"],
        sections["optim"],
        mesh,
        workdir,
        hooks=((sections["train"].sample_every, run.sample),),
        eval_batches=run.eval_batches,
        fingerprint=run.fingerprint,
        run_config=dict(config),
        start_params=run.start_params,
    )
    return export(workdir, workdir / "export")


def export(workdir: str | os.PathLike, out: str | os.PathLike, dtype=None) -> Path:
    """Writes the latest checkpoint's EMA weights of a run as a tokenizer or model."""
    workdir, out = Path(workdir), Path(out)
    config = load_json(workdir / "config.json")
    params, state = restore_params(workdir, "ema")
    if _task_name(config) == "vq":
        tokenizer = _image_tokenizer(_vq_task(config), params, state)
        return model_folder.save_tokenizer(tokenizer, out, dtype)
    sections = _sections(config)
    parts = _LM.of(config, sections).parts(params, sections["sample"].sampler)
    return model_folder.save(parts, out, dtype)


def lm_task(
    config: Mapping[str, Any],
) -> tuple[LMTask | TwoWayTask, Layout | TwoWayLayout]:
    """Objective of a transformer run and the layout of its sequences, without data."""
    lm = _LM.of(config, _sections(config))
    return lm.task, lm.layout


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter counts and sizes of a config, without data or compilation."""
    sections = _sections(config)
    if _task_name(config) == "vq":
        task = _vq_task(config)
    else:
        task = _LM.of(config, sections).task
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    return {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def _sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that all tasks share; a wrong key fails here, before any work."""
    classes = {
        "data": DataConfig,
        "optim": OptimConfig,
        "mesh": MeshConfig,
        "train": TrainConfig,
        "eval": EvalConfig,
        "sample": SampleConfig,
    }
    return {
        name: section(cls, config.get(name, {}), name) for name, cls in classes.items()
    }


@dataclass(frozen=True)
class _Run:
    """What `fit` needs of a task; `sample` is its hook that draws pictures."""

    task: Any
    batches: Any
    eval_batches: Any
    sample: Any
    fingerprint: str
    start_params: Any = None


def _task_name(config: Mapping[str, Any]) -> str:
    name = config.get("task", {}).get("name")
    if name not in ("vq", *_KINDS):
        known = ", ".join(_KINDS)
        raise UserError(f"config key 'task.name' expects vq, {known}, got {name!r}")
    return name


def _task_section(cls, config):
    values = {k: v for k, v in config["task"].items() if k != "name"}
    return section(cls, values, "task")


# Tokenizer runs.


def _vq_task(config) -> VQTask:
    model = section(VQVAEConfig, config.get("model", {}), "model")
    return VQTask(model, _task_section(VQConfig, config))


def _image_tokenizer(task: VQTask, params, state) -> ImageTokenizer:
    codebook = np.asarray(task.codebook(params, state))
    return ImageTokenizer(task.model.config, params["net"], codebook)


def _vq_run(task: VQTask, sections: Mapping[str, Any]) -> _Run:
    data = sections["data"]
    manifest = records.read_manifest(data.path)
    source = records.open_split(data.path, data.split)
    evals = records.open_split(data.path, data.eval_split)

    def example(item, rng):
        del rng
        return {"image": records.decode_image(item.image, task.model.config.image_size)}

    def sample(step, train_state, logger):
        items = [evals[i] for i in range(min(16, len(evals)))]
        images = np.stack([example(item, None)["image"] for item in items])
        tokenizer = _image_tokenizer(task, train_state.ema, train_state.state)
        decoded = decode(tokenizer, encode(tokenizer, images))
        pairs = np.stack([images, decoded], axis=1).reshape(-1, *images.shape[1:])
        logger.images(step, {"reconstructions": np.asarray(grid(pairs, 8))})

    return _Run(
        task,
        _batches(source, example, sections["train"]),
        _eval_batches(evals, example, sections),
        sample,
        f"{manifest.fingerprint}/{data.split}",
    )


# Transformer runs.


class _Kind(NamedTuple):
    """How a family is trained.

    mixture: settings of the task, which draw examples by `example(layout, texts, codes,
    rng)`. task: the objective of (network, layout, mixture).
    """

    family: str
    mixture: type
    task: Callable[..., LMTask | TwoWayTask]


_KINDS = {
    "lm": _Kind(
        "cogview",
        Mixture,
        lambda network, layout, mixture: LMTask(
            network,
            layout.vocab.num_codes,
            mixture.code_noise,
            image_start=layout.image_start,
        ),
    ),
    "ernie_vilg": _Kind(
        "ernie_vilg",
        TwoWayMixture,
        lambda network, layout, mixture: TwoWayTask(network, layout.vocab),
    ),
}


@dataclass(frozen=True)
class _LM:
    """A transformer run before its data: both tokenizers, network and objective."""

    kind: _Kind
    tokenizer: ImageTokenizer
    text: TextTokenizer
    transformer: DecoderConfig
    mixture: Mixture | TwoWayMixture

    @classmethod
    def of(cls, config: Mapping[str, Any], sections: Mapping[str, Any]) -> "_LM":
        data, name = sections["data"], _task_name(config)
        kind = _KINDS[name]
        settings = FAMILIES[kind.family].TransformerConfig
        transformer = section(settings, config.get("model", {}), "model")
        mixture = _task_section(kind.mixture, config)
        for key in ("tokenizer", "text"):
            if not getattr(data, key):
                raise UserError(f"config key 'data.{key}' is required for task {name}")
        tokenizer = model_folder.load_tokenizer(Path(data.tokenizer))
        text = TextTokenizer.load(data.text)
        return cls(kind, tokenizer, text, transformer, mixture)

    @property
    def layout(self) -> Layout | TwoWayLayout:
        return self.parts({}, Sampler()).layout

    @property
    def task(self) -> LMTask | TwoWayTask:
        try:
            network = self.parts({}, Sampler()).network
            choose(network.implementation, network.dtype, sparse=False)
        except ValueError as error:
            raise UserError(f"config section 'model': {error}") from error
        return self.kind.task(network, self.layout, self.mixture)

    def parts(self, params, sampler: Sampler) -> Parts:
        return Parts(
            self.tokenizer,
            self.transformer,
            params,
            self.text,
            sampler,
            family=self.kind.family,
        )


def _lm_run(lm: _LM, sections: Mapping[str, Any], workdir: Path) -> _Run:
    data, sampling, task = sections["data"], sections["sample"], lm.task
    manifest = records.read_manifest(data.path)
    digest = _digest(Path(data.tokenizer) / "tokenizer.safetensors", Path(data.text))
    encoded = manifest.kind == records.CODES
    if encoded and manifest.info["tokenizer"] != model_folder.digest(lm.tokenizer):
        raise UserError(
            f"{data.path} was encoded with another tokenizer than {data.tokenizer}: "
            f"set data.tokenizer to that one, or encode again with `cogjax encode`"
        )

    def coded(split):
        if encoded:
            found = records.open_split(data.path, split, CodedExample)
            return CodedRecords(found, lm.text)
        name = f"{split}-{manifest.fingerprint[:12]}-{digest}.safetensors"
        source = records.open_split(data.path, split)
        return CodedSource.make(source, lm.tokenizer, lm.text, workdir / "codes" / name)

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

    start_params = None
    if data.weights:
        network = task.model.config
        start_params = model_folder.load_transformer(Path(data.weights), network)
    return _Run(
        task,
        _batches(coded(data.split), example, sections["train"]),
        _eval_batches(coded(data.eval_split), example, sections),
        sample,
        f"{manifest.fingerprint}/{data.split}/{digest}",
        start_params,
    )


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


# Both.


def _batches(source, example, train_config: TrainConfig):
    def make(start_step: int) -> Iterator[dict[str, np.ndarray]]:
        return data_pipeline.batches(
            source,
            example,
            batch_size=train_config.batch_size,
            seed=train_config.seed,
            start_step=start_step,
        )

    return make


def _eval_batches(source, example, sections: Mapping[str, Any]):
    """The first batches of the split, the same at every evaluation."""
    count, batch_size = sections["eval"].batches, sections["train"].batch_size
    if not count or not len(source):
        return None
    batches = data_pipeline.batches(source, example, batch_size=batch_size, seed=0)
    return [next(batches) for _ in range(count)]
