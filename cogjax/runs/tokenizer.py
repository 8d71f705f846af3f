"""Runs that train an image tokenizer: images -> tokenizer folder."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cogjax.config import section
from cogjax.data import records
from cogjax.data.show import grid
from cogjax.errors import UserError
from cogjax.evaluate.lpips import lpips_params
from cogjax.image_codes import decode, encode
from cogjax.model_folder import ImageTokenizer
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.runs.common import Run, batches, eval_batches, task_section
from cogjax.tasks.gan import GANConfig, GANTask
from cogjax.tasks.vq import VQConfig, VQTask


class Kind(NamedTuple):
    """How a tokenizer is trained: settings of the network, of the task, the task."""

    model: type
    config: type
    task: Callable[..., VQTask | GANTask]


KINDS = {
    "vq": Kind(VQVAEConfig, VQConfig, VQTask),
    "vqgan": Kind(VQGANConfig, GANConfig, GANTask),
}


def make_task(config: Mapping[str, Any]) -> VQTask | GANTask:
    """The objective that a config describes, to look at but not to train."""
    return KINDS[config["task"]["name"]].task(*_settings(config))


def make_trained_task(config: Mapping[str, Any]) -> VQTask | GANTask:
    """As `make_task`, with the weights of the perceptual distance if it has one.

    Raises UserError if there are none.
    """
    model, settings = _settings(config)
    if not getattr(settings, "perceptual_weight", 0):
        return make_task(config)
    levels, files = settings.lpips_levels, settings.lpips_weights
    try:
        lpips = lpips_params(list(files) or None, levels)
    except UserError as error:
        raise UserError(
            f"task.perceptual_weight needs VGG16: {error}; or set it to 0"
        ) from error
    return GANTask(model, settings, lpips)


def _settings(config: Mapping[str, Any]) -> tuple[Any, Any]:
    kind = KINDS[config["task"]["name"]]
    model = section(kind.model, config.get("model", {}), "model")
    return model, task_section(kind.config, config)


def image_tokenizer(task: VQTask | GANTask, params, state) -> ImageTokenizer:
    """The tokenizer of a task's parameters and state."""
    codebook = np.asarray(task.codebook(params, state))
    return ImageTokenizer(task.model.config, params["net"], codebook)


def make_run(task: VQTask | GANTask, sections: Mapping[str, Any]) -> Run:
    """The run of an objective over the data of the sections."""
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
        tokenizer = image_tokenizer(task, train_state.ema, train_state.state)
        decoded = decode(tokenizer, encode(tokenizer, images))
        pairs = np.stack([images, decoded], axis=1).reshape(-1, *images.shape[1:])
        logger.images(step, {"reconstructions": np.asarray(grid(pairs, 8))})

    return Run(
        task,
        batches(source, example, sections["train"]),
        eval_batches(evals, example, sections),
        sample,
        f"{manifest.fingerprint}/{data.split}",
    )
