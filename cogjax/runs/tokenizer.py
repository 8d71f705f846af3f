"""Runs that train an image tokenizer: images -> tokenizer folder."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cogjax.config import section
from cogjax.data import records
from cogjax.data.show import grid
from cogjax.image_codes import decode, encode
from cogjax.model_folder import ImageTokenizer
from cogjax.models.vqvae import VQVAEConfig
from cogjax.runs.common import Run, batches, eval_batches, task_section
from cogjax.tasks.vq import VQConfig, VQTask


def make_task(config: Mapping[str, Any]) -> VQTask:
    """The objective that a config describes."""
    model = section(VQVAEConfig, config.get("model", {}), "model")
    return VQTask(model, task_section(VQConfig, config))


def image_tokenizer(task: VQTask, params, state) -> ImageTokenizer:
    """The tokenizer of a task's parameters and state."""
    codebook = np.asarray(task.codebook(params, state))
    return ImageTokenizer(task.model.config, params["net"], codebook)


def make_run(task: VQTask, sections: Mapping[str, Any]) -> Run:
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
