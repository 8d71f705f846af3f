"""Imagen's stages: the base and super-resolution, each trained alone (section 2.3)."""

import functools
import hashlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.contact_sheet import grid
from cogjax.data.embeddings import EmbeddedExample
from cogjax.errors import UserError
from cogjax.families.imagen.denoising import (
    DenoisingConfig,
    DenoisingTask,
    NetworkConfig,
)
from cogjax.families.imagen.layout import Cascade
from cogjax.model import Component, Model, digest
from cogjax.models.efficient_unet import EfficientUNetConfig
from cogjax.models.unet import UNetConfig
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sections import RunConfig, batches, eval_batches
from cogjax.stages.sharded import EncodeSettings
from cogjax.stages.stage import Stage
from cogjax.train.lock import lock_workdir
from cogjax.train.processes import barrier
from cogjax.train.session import Job


class DenoisingStage(Stage):
    """One network of the cascade.

    data.text is the folder of the frozen text encoder. The vectors of the captions are
    kept in WORKDIR/texts, once a run. data.below: for super-resolution, the model
    whose images it enlarges.
    """

    settings = DenoisingConfig

    def __init__(self, model: type[NetworkConfig]):
        self.model = model

    def task(self, run: RunConfig) -> DenoisingTask:
        """The objective; UserError for what does not fit."""
        config = section(self.model, run.model, "model")
        settings = self.settings_of(run)
        for name in ("tokenizer", "weights", "questions"):
            if getattr(run.data, name):
                raise UserError(f"task {run.name} does not read data.{name}")
        text_len = 1
        if run.data.text:
            encoder = _encoder(run)
            text_len = encoder.config.text_len
            if encoder.config.width != config.text_dim:
                raise UserError(
                    f"model.text_dim is {config.text_dim}, and {run.data.text} has "
                    f"{encoder.config.width} channels: set it to that"
                )
        try:
            return DenoisingTask(config, settings, text_len)
        except ValueError as error:
            raise UserError(f"config section 'task': {error}") from error

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over images and one caption of each, drawn anew each time."""
        task, data = self.task(run), run.data
        _encoder(run)
        self._below(run, task)
        manifest = records.read_manifest(data.path)
        contents = manifest.contents.get(data.split)
        if contents is not None and not contents.get("captions"):
            raise UserError(
                f"split '{data.split}' of {data.path} has no captions: set data.path "
                "to a data set with some"
            )
        splits = data.split, data.eval_split
        texts = _encode(run, splits, workdir)
        example = functools.partial(_example, task.model.config, task.text_len)
        source, evals = (_Paired(data.path, texts, split) for split in splits)
        fingerprint = manifest.fingerprint, data.split, self.sources_digest(run)
        return Job(
            task,
            batches(source, example, run.train),
            eval_batches(evals, example, run),
            ((run.train.sample_every, self._sampling(run)),),
            "/".join(fingerprint),
        )

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The text encoder, the stages below, and this one."""
        del state
        task, settings = self.task(run), self.settings_of(run)
        encoder = model_folder.load(run.data.text)
        below = self._below(run, task)
        one = (settings.prediction,), (settings.schedule,)
        if below is None:
            layout = Cascade(*one)
            parts = {"text_encoder": encoder["text_encoder"]}
        else:
            had = below.layout
            layout = Cascade(
                had.predictions + one[0],
                had.schedules + one[1],
                (*had.augmentations, settings.augmentation),
            )
            parts = dict(below.components)
        parts[layout.components[-1]] = Component(task.model.config, params)
        return Model("imagen", parts, layout, encoder.text)

    def sources_digest(self, run: RunConfig) -> str:
        """Of the text encoder and its tokenizer."""
        weights = model_folder.find_file(run.data.text, "text_encoder.safetensors")
        found = hashlib.sha256()
        for path in (weights, model_folder.find_text(run.data.text)):
            found.update(path.read_bytes())
        return found.hexdigest()[:12]

    def _below(self, run: RunConfig, task: DenoisingTask) -> Model | None:
        """The model of data.below; UserError where there must be one, or none."""
        below, small = run.data.below, getattr(task.model.config, "small_size", 0)
        if bool(below) != bool(small):
            wanted = "a model whose images are enlarged" if small else "nothing"
            raise UserError(f"data.below is {below!r}, expected {wanted}")
        if not below:
            return None
        model = model_folder.load(below)
        if not isinstance(model.layout, Cascade):
            raise UserError(f"data.below, {below}, is no cascade of {run.name}")
        config = model[model.layout.components[-1]].config
        if config.image_size != small:
            raise UserError(
                f"model.small_size is {small}, and {below} draws {config.image_size} "
                "pixels: set it to that"
            )
        other, same = model_folder.load(run.data.text), model["text_encoder"]
        if digest(other["text_encoder"]) != digest(same) or (
            other.text.serialized != model.text.serialized
        ):
            raise UserError(
                f"data.below, {below}, was trained with another text encoder than "
                f"data.text, {run.data.text}"
            )
        return model

    def _sampling(self, run: RunConfig):
        """The hook that shows images of the config's prompts."""
        sample = run.sample

        def hook(step, train_state, logger):
            if not sample.prompts:
                return
            model = self.export(run, train_state.ema, train_state.state)
            found = CascadePipeline(model).generate(
                sample.prompts, sample.num_images, sample.seed
            )
            flat = found.pixels.reshape(-1, *found.pixels.shape[2:])
            sheet = grid(flat, sample.num_images * 2)
            logger.images(step, {"generated": np.asarray(sheet)})

        return hook


def _encode(run: RunConfig, splits: tuple[str, ...], workdir: Path) -> Path:
    """The folder of the captions' vectors, made by all processes together."""
    out, data = workdir / "texts", run.data
    settings = EncodeSettings(splits=tuple(dict.fromkeys(splits)), budget=0.0)
    place = jax.process_index(), jax.process_count()
    workdir.mkdir(parents=True, exist_ok=True)
    with lock_workdir(workdir):
        encode_texts(data.path, data.text, out, settings, process=place)
        barrier("texts")
    return out


class _Paired:
    """Images of a split beside the vectors of their captions."""

    def __init__(self, path: str, texts: Path, split: str):
        self._images = records.open_split(path, split)
        self._texts = records.open_split(texts, split, EmbeddedExample)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int):
        return self._images[index], self._texts[index]


def _example(config: NetworkConfig, text_len: int, item, rng: np.random.Generator):
    image, text = item
    if image.id != text.id:
        raise UserError(
            f"the vectors of {text.id} stand where those of {image.id} should: remove "
            "the run's folder texts"
        )
    tokens = np.zeros((text_len, config.text_dim), jnp.bfloat16)
    # An image without captions is learnt as with its text left out: one token of zeros.
    count = 1
    if text.tokens:
        words = text.tokens[rng.integers(len(text.tokens))][:text_len]
        count = len(words)
        tokens[:count] = words
    small = getattr(config, "small_size", 0)
    sizes = {"image": config.image_size} | ({"small": small} if small else {})
    return {
        **{n: records.decode_image(image.image, size) for n, size in sizes.items()},
        "tokens": tokens,
        "mask": np.arange(text_len) < count,
    }


def _encoder(run: RunConfig) -> Component:
    if not run.data.text:
        raise UserError(
            f"config key 'data.text' is required for task {run.name}: the folder of a "
            "text encoder"
        )
    return model_folder.load_component(run.data.text, "text_encoder")


BASE = DenoisingStage(UNetConfig)
SUPER = DenoisingStage(EfficientUNetConfig)
