"""Runs that train an image tokenizer, or its decoder: images -> tokenizer folder."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.contact_sheet import grid
from cogjax.errors import UserError
from cogjax.interop.lpips import lpips_params
from cogjax.model import Component, Model, digest
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.pipelines.tokenize import decode, encode
from cogjax.stages.sections import (
    DataConfig,
    Run,
    batches,
    eval_batches,
    task_section,
)
from cogjax.tasks.decoder import DecoderConfig, DecoderTask
from cogjax.tasks.gan import GANConfig, GANTask
from cogjax.tasks.vq import VQConfig, VQTask

Task = VQTask | GANTask | DecoderTask
# Settings of each task.
KINDS = {"vq": VQConfig, "vqgan": GANConfig, "decoder": DecoderConfig}


def make_task(config: Mapping[str, Any], lpips: Any = None) -> Task:
    """The objective that a config describes.

    lpips: of `make_trained_task`, none to look at but not to train.
    """
    name, settings = config["task"]["name"], _settings(config)
    model = config.get("model", {})
    if name == "vq":
        return VQTask(section(VQVAEConfig, model, "model"), settings)
    if name == "vqgan":
        return GANTask(section(VQGANConfig, model, "model"), settings, lpips)
    if model:
        raise UserError(
            "task 'decoder' has the network of data.tokenizer: leave out the config "
            "section 'model'"
        )
    source = _source(config)
    if "reconstructor" in model_folder.read_config(source).components:
        raise UserError(
            f"{source} draws by a reconstructor, not by its tokenizer's decoder: train "
            "that further by task end_to_end, from data.weights"
        )
    there = model_folder.load_component(source, "tokenizer")
    trained = there.config, there.params, there.state["codebook"]
    return DecoderTask(*trained, settings, lpips)


def make_trained_task(config: Mapping[str, Any]) -> Task:
    """As `make_task`, with the weights of the perceptual distance if it has one.

    Raises UserError if there are none.
    """
    settings = _settings(config)
    if not getattr(settings, "perceptual_weight", 0):
        return make_task(config)
    levels, files = settings.lpips_levels, settings.lpips_weights
    try:
        lpips = lpips_params(list(files) or None, levels)
    except UserError as error:
        raise UserError(
            f"task.perceptual_weight needs VGG16: {error}; or set it to 0"
        ) from error
    return make_task(config, lpips)


def _settings(config: Mapping[str, Any]) -> Any:
    return task_section(KINDS[config["task"]["name"]], config)


def _source(config: Mapping[str, Any]) -> Path:
    """Folder of the tokenizer, or of the model, whose decoder is trained."""
    data = section(DataConfig, config["data"], "data")
    if not data.tokenizer:
        raise UserError(
            "task 'decoder' needs data.tokenizer: the folder of a tokenizer or model, "
            "or the name of a shipped one"
        )
    return model_folder.find(data.tokenizer)


def sources_digest(task: Task) -> str:
    """Part of a run's fingerprint: of the tokenizer whose decoder is trained, or ""."""
    if not isinstance(task, DecoderTask):
        return ""
    params, codebook = task.start
    return digest(Component(task.model.config, params, {"codebook": codebook}))


def image_tokenizer(task: Task, params, state) -> Component:
    """The tokenizer of a task's parameters and state."""
    codebook = {"codebook": np.asarray(task.codebook(params, state))}
    return Component(task.model.config, task.network(params, state), codebook)


def save(
    task: Task, config: Mapping[str, Any], params, state, out: Path, dtype=None
) -> Path:
    """Writes a run's tokenizer; with the decoder of a model, all of that model."""
    model = Model("", {})
    if isinstance(task, DecoderTask):
        model = model_folder.load(_source(config))
        # Figures of the card are of the model with its first decoder.
        card = {**model.card, "decoder": "trained anew by the task decoder"}
        model = dataclasses.replace(model, card=card)
    trained = image_tokenizer(task, params, state)
    return model_folder.save(model.with_component("tokenizer", trained), out, dtype)


def make_run(task: Task, sections: Mapping[str, Any]) -> Run:
    """The run of an objective over the data of the sections."""
    data = sections["data"]
    manifest = records.read_manifest(data.path)
    source = records.open_split(data.path, data.split)
    evals = records.open_split(data.path, data.eval_split)

    def example(item, rng):
        del rng
        return {"image": records.decode_image(item.image, task.model.config.image_size)}

    def sample(step, train_state, logger):
        if not len(evals):
            return
        items = [evals[i] for i in range(min(16, len(evals)))]
        images = np.stack([example(item, None)["image"] for item in items])
        tokenizer = image_tokenizer(task, train_state.ema, train_state.state)
        decoded = decode(tokenizer, encode(tokenizer, images))
        pairs = np.stack([images, decoded], axis=1).reshape(-1, *images.shape[1:])
        logger.images(step, {"reconstructions": np.asarray(grid(pairs, 8))})

    start_params, start_state = _start(task, sections)
    fingerprint = f"{manifest.fingerprint}/{data.split}"
    if isinstance(task, DecoderTask):
        fingerprint += f"/{sources_digest(task)}"
    return Run(
        task,
        batches(source, example, sections["train"]),
        eval_batches(evals, example, sections),
        sample,
        fingerprint,
        start_params,
        start_state,
    )


def _start(task: Task, sections: Mapping[str, Any]) -> tuple[Any, Any]:
    """Entries of (params, state) to start from; None is at random."""
    data, train = sections["data"], sections["train"]
    decoder = isinstance(task, DecoderTask)
    source, other = ("tokenizer", "weights") if decoder else ("weights", "tokenizer")
    if getattr(data, other):
        raise UserError(f"this task starts from data.{source}: leave out data.{other}")
    if decoder or not data.weights:
        return None, None
    there = model_folder.load_component(data.weights, "tokenizer")
    if there.config != task.model.config:
        raise UserError(
            f"data.weights, {data.weights}, is a {there.kind} of another "
            f"shape than the config section 'model': set that to {there.config}"
        )
    part = train.batch_size // train.accumulate
    return task.start_at(there.params, there.state["codebook"], part)
