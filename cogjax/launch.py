"""From a config to a training run: builds task, data and hooks, then calls `fit`.

The one place that knows both the networks and the training loop. Two tasks:

    vq   images -> tokenizer folder (config.json, tokenizer.safetensors)
    lm   images + tokenizer folder + text.model -> model folder (`cogjax.load`)

Either folder is written to WORKDIR/export when the run ends.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax.config import load_json, section
from cogjax.data import pipeline as data_pipeline
from cogjax.data import records
from cogjax.data.layout import Layout, Mixture
from cogjax.data.show import grid
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.families import cogview
from cogjax.files import write_atomic
from cogjax.interop.safetensors import load_tree, save_tree
from cogjax.interop.tree import check_leaves, flatten
from cogjax.models.vqvae import VQVAE, VQVAEConfig
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.pipeline import FORMAT, Parts, TextToImage, encode_images, load_tokenizer
from cogjax.sampling.autoregressive import Sampler
from cogjax.tasks.lm import LMTask
from cogjax.tasks.vq import VQConfig, VQTask
from cogjax.train.checkpoint import restore_params
from cogjax.train.loop import TrainConfig, fit
from cogjax.train.optim import OptimConfig


@dataclass(frozen=True)
class DataConfig:
    """Where a run reads from.

    path: data set folder. tokenizer, text: image tokenizer folder and text model file
    (task lm). weights: model folder to start from instead of at random (task lm).
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
    sections = _check(config)
    mesh = make_mesh(sections["mesh"])
    run = _build(config, workdir)
    fit(
        run.task,
        run.batches,
        run.train,
        sections["optim"],
        mesh,
        workdir,
        hooks=((run.train.sample_every, run.sample),),
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
        model, task = _vq_task(config)
        return _save_tokenizer(model, task, params, state, out)
    return TextToImage(_parts(config, params)).save(out, dtype)


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter counts and sizes of a config, without data or compilation."""
    _check(config)
    if _task_name(config) == "vq":
        _, task = _vq_task(config)
    else:
        task = _lm_task(config)[0]
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    return {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def _check(config: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the sections that all tasks share, so that a wrong key fails first."""
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
    task: Any
    batches: Any
    eval_batches: Any
    sample: Any
    train: TrainConfig
    fingerprint: str
    start_params: Any = None


def _build(config: Mapping[str, Any], workdir: Path) -> _Run:
    data = section(DataConfig, config.get("data", {}), "data")
    train_config = section(TrainConfig, config.get("train", {}), "train")
    if _task_name(config) == "vq":
        return _build_vq(config, data, train_config)
    return _build_lm(config, data, train_config, workdir)


def _task_name(config: Mapping[str, Any]) -> str:
    name = config.get("task", {}).get("name")
    if name not in ("vq", "lm"):
        raise UserError(f"config key 'task.name' expects 'vq' or 'lm', got {name!r}")
    return name


def _task_section(cls, config):
    values = {k: v for k, v in config["task"].items() if k != "name"}
    return section(cls, values, "task")


# Tokenizer runs.


def _vq_task(config) -> tuple[VQVAEConfig, VQTask]:
    model = section(VQVAEConfig, config.get("model", {}), "model")
    return model, VQTask(model, _task_section(VQConfig, config))


def _build_vq(config, data: DataConfig, train_config: TrainConfig) -> _Run:
    model, task = _vq_task(config)
    manifest = records.read_manifest(data.path)
    source = records.open_split(data.path, data.split)
    evals = records.open_split(data.path, data.eval_split)

    def example(item, rng):
        del rng
        return {"image": records.decode_image(item.image, model.image_size)}

    def sample(step, train_state, logger):
        items = [evals[i] for i in range(min(16, len(evals)))]
        images = np.stack([example(item, None)["image"] for item in items])
        decoded = _reconstruct(task, train_state.ema, train_state.state, images)
        pairs = np.stack([images, decoded], axis=1).reshape(-1, *images.shape[1:])
        logger.images(step, {"reconstructions": np.asarray(grid(pairs, 8))})

    return _Run(
        task,
        _batches(source, example, train_config),
        _eval_batches(evals, example, train_config, config),
        sample,
        train_config,
        f"{manifest.fingerprint}/{data.split}",
    )


@jax.jit
def _to_bytes(pixels):
    return jnp.round(jnp.clip(pixels, 0, 1) * 255).astype(jnp.uint8)


def _reconstruct(task: VQTask, params, state, images: np.ndarray) -> np.ndarray:
    codebook = task.codebook(params, state)
    codes = encode_images(task.model, params["net"], codebook, images)
    net = {"params": params["net"]}
    return np.asarray(
        _to_bytes(task.model.apply(net, codebook[codes], method="decode"))
    )


def _save_tokenizer(model, task, params, state, out: Path) -> Path:
    codebook = np.asarray(task.codebook(params, state))
    save_tree(
        out / "tokenizer.safetensors", {**params["net"], "codebook": codebook}, None
    )
    config = {
        "format": FORMAT,
        "family": "cogview",
        "tokenizer": dataclasses.asdict(model),
    }
    write_atomic(out / "config.json", json.dumps(config, indent=2) + "\n")
    return out


# Transformer runs.


def _lm_task(config) -> tuple[LMTask, Layout, Mixture, cogview.TransformerConfig]:
    data = section(DataConfig, config.get("data", {}), "data")
    transformer = section(cogview.TransformerConfig, config.get("model", {}), "model")
    for key in ("tokenizer", "text"):
        if not getattr(data, key):
            raise UserError(f"config key 'data.{key}' is required for task lm")
    tokenizer, _, _ = load_tokenizer(Path(data.tokenizer))
    text = TextTokenizer.load(data.text)
    layout = cogview.make_layout(tokenizer, text.size, transformer.text_len)
    mixture = _task_section(Mixture, config)
    model = cogview.make_transformer(transformer, layout)
    task = LMTask(model, layout.vocab.num_codes, mixture.code_noise)
    return task, layout, mixture, transformer


def _build_lm(config, data: DataConfig, train_config: TrainConfig, workdir) -> _Run:
    task, layout, mixture, _ = _lm_task(config)
    text = TextTokenizer.load(data.text)
    sampling = section(SampleConfig, config.get("sample", {}), "sample")
    manifest = records.read_manifest(data.path)
    digest = _digest(Path(data.tokenizer) / "tokenizer.safetensors", Path(data.text))

    def coded(split):
        name = f"{split}-{manifest.fingerprint[:12]}-{digest}.safetensors"
        return CodedSource.make(data, split, text, workdir / "codes" / name)

    def example(item, rng):
        return mixture.example(layout, *item, rng)

    def sample(step, train_state, logger):
        if not sampling.prompts:
            return
        model = TextToImage(_parts(config, train_state.ema))
        drawn = model.generate(
            sampling.prompts, sampling.num_images, sampling.seed
        ).pixels
        flat = drawn.reshape(-1, *drawn.shape[2:])
        picture = grid(flat, sampling.num_images * 2)
        logger.images(step, {"generated": np.asarray(picture)})

    return _Run(
        task,
        _batches(coded(data.split), example, train_config),
        _eval_batches(coded(data.eval_split), example, train_config, config),
        sample,
        train_config,
        f"{manifest.fingerprint}/{data.split}/{digest}",
        _start_params(data, task) if data.weights else None,
    )


def _start_params(data: DataConfig, task: LMTask):
    """Transformer weights of a model folder, checked against this run's network."""
    path = Path(data.weights) / "transformer.safetensors"
    params = load_tree(path)
    wanted, _ = jax.eval_shape(task.init, jax.random.key(0))
    check_leaves(flatten(params), flatten(wanted), str(path))
    return params


def _parts(config, params) -> Parts:
    data = section(DataConfig, config.get("data", {}), "data")
    sampling = section(SampleConfig, config.get("sample", {}), "sample")
    tokenizer, tokenizer_params, codebook = load_tokenizer(Path(data.tokenizer))
    return Parts(
        tokenizer,
        tokenizer_params,
        codebook,
        section(cogview.TransformerConfig, config.get("model", {}), "model"),
        params,
        TextTokenizer.load(data.text),
        sampling.sampler,
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
    def make(cls, data: DataConfig, split: str, text: TextTokenizer, cache: Path):
        """Encodes a split with the image tokenizer, or reads an earlier encoding."""
        source = records.open_split(data.path, split)
        items = [source[i] for i in range(len(source))]
        texts = tuple(
            tuple(tuple(text.encode(caption)) for _, caption in item.captions)
            for item in items
        )
        if cache.exists():
            codes = load_tree(cache)["codes"]
            if len(codes) == len(items):
                return cls(texts, codes)
        codes = _encode_items(Path(data.tokenizer), items)
        save_tree(cache, {"codes": codes}, None)
        return cls(texts, codes)


def _encode_items(tokenizer: Path, items: Sequence[records.Example]) -> np.ndarray:
    config, params, codebook = load_tokenizer(tokenizer)
    codes = []
    for start in range(0, len(items), 64):
        chunk = items[start : start + 64]
        images = [records.decode_image(item.image, config.image_size) for item in chunk]
        pixels = np.zeros((64, config.image_size, config.image_size, 3), np.uint8)
        pixels[: len(images)] = images
        encoded = encode_images(VQVAE(config), params, codebook, pixels)
        codes.append(np.asarray(encoded)[: len(images)])
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


def _eval_batches(source, example, train_config: TrainConfig, config):
    """The first batches of the split, the same at every evaluation."""
    count = section(EvalConfig, config.get("eval", {}), "eval").batches
    if not count or not len(source):
        return None
    batches = data_pipeline.batches(
        source, example, batch_size=train_config.batch_size, seed=0
    )
    return [next(batches) for _ in range(count)]
