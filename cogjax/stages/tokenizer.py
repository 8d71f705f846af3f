"""Stages that train an image tokenizer, or its decoder: images -> tokenizer folder."""

import abc
import dataclasses
from collections.abc import Callable
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
from cogjax.pipelines.tokenize import decode, encode
from cogjax.stages.card import card_of_decoder, card_of_tokenizer
from cogjax.stages.codebook_board import IMAGES, write_board
from cogjax.stages.sections import RunConfig, batches, eval_batches
from cogjax.stages.stage import Stage
from cogjax.tasks.decoder import DecoderConfig, DecoderTask
from cogjax.tasks.image_loss import ImageLossConfig
from cogjax.tasks.tokenizer import TokenizerTask
from cogjax.train.session import Job

_SHOWN = 16  # images of a sheet, each beside what is decoded of it


class ImagesStage(Stage):
    """A task over images alone, which has the network of a tokenizer."""

    @abc.abstractmethod
    def make_task(self, run: RunConfig, lpips: Any = None) -> Any:
        """The objective; lpips: of `lpips`, None not to train but look."""

    @abc.abstractmethod
    def start(self, task: Any, run: RunConfig) -> tuple[Any, Any]:
        """Entries of (params, state) to start from; None is at random."""

    def lpips(self, run: RunConfig) -> Any:
        """Weights of the perceptual distance, None if the loss has none.

        UserError if they are needed and not there.
        """
        del run

    def task(self, run: RunConfig) -> Any:
        """The objective, without the weights of the perceptual distance."""
        return self.make_task(run)

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over the images of the splits."""
        del workdir
        task, data = self.make_task(run, self.lpips(run)), run.data
        manifest = records.read_manifest(data.path)
        source = records.open_split(data.path, data.split)
        evals = records.open_split(data.path, data.eval_split)
        size = task.model.config.image_size

        def example(item, rng):
            del rng
            return {"image": records.decode_image(item.image, size)}

        def sample(step, train_state, logger):
            if not len(evals):
                return
            images = _first_images(evals, size)
            tokenizer = image_tokenizer(task, train_state.ema, train_state.state)
            codes = encode(tokenizer, images)
            decoded = decode(tokenizer, codes[:_SHOWN])
            pairs = np.stack([images[:_SHOWN], decoded], axis=1)
            sheet = grid(pairs.reshape(-1, *images.shape[1:]), 8)
            logger.images(step, {"reconstructions": np.asarray(sheet)})
            write_board(logger.workdir, step, tokenizer, codes)

        fingerprint = (manifest.fingerprint, data.split, self.sources_digest(run))
        return Job(
            task,
            batches(source, example, run.train),
            eval_batches(evals, example, run),
            ((run.train.sample_every, sample),),
            "/".join(part for part in fingerprint if part),
            None,
            *self.start(task, run),
        )

    def write_board(
        self, run: RunConfig, params: Any, state: Any, step: int, workdir: Path
    ) -> None:
        """WORKDIR/codebook.png of a checkpoint; UserError without held-out images."""
        task, data = self.task(run), run.data
        evals = records.open_split(data.path, data.eval_split)
        if not len(evals):
            raise UserError(
                f"split '{data.eval_split}' of {data.path} is empty: the use of codes "
                "is counted in held-out images"
            )
        tokenizer = image_tokenizer(task, params, state)
        images = _first_images(evals, task.model.config.image_size)
        write_board(workdir, step, tokenizer, encode(tokenizer, images))

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The tokenizer alone."""
        tokenizer = image_tokenizer(self.task(run), params, state)
        card = card_of_tokenizer(run.data.weights)
        return Model("", {"tokenizer": tokenizer}, card=card)


def _first_images(source: Any, size: int) -> np.ndarray:
    """uint8 [n, size, size, 3] of a split."""
    items = [source[i] for i in range(min(IMAGES, len(source)))]
    return np.stack([records.decode_image(item.image, size) for item in items])


class TokenizerStage(ImagesStage):
    """Network and codebook of a tokenizer.

    model: class of the config section 'model'. objective: (network's config, settings,
    weights of LPIPS or None) -> task.
    """

    def __init__(self, model: type, settings: type, objective: Callable[..., Any]):
        self.model_section, self.settings = model, settings
        self._objective = objective

    def make_task(self, run: RunConfig, lpips: Any = None) -> TokenizerTask:
        """Task of the sections 'model' and 'task'."""
        model = section(self.model_section, run.model, "model")
        return self._objective(model, self.settings_of(run), lpips)

    def start(self, task: TokenizerTask, run: RunConfig) -> tuple[Any, Any]:
        """That of data.weights; UserError for a tokenizer of another shape."""
        data = run.data
        if data.tokenizer:
            raise UserError(
                "this task starts from data.weights: leave out data.tokenizer"
            )
        if not data.weights:
            return None, None
        there = model_folder.load_component(data.weights, "tokenizer")
        if there.config != task.model.config:
            raise UserError(
                f"data.weights, {data.weights}, is a {there.kind} of "
                "another shape than the config section 'model': set that to "
                f"{there.config}"
            )
        part = run.train.batch_size // run.train.accumulate
        return task.start_at(there.params, there.state["codebook"], part)


class AdversarialTokenizerStage(TokenizerStage):
    """One whose settings are an `ImageLossConfig` too."""

    def lpips(self, run: RunConfig) -> Any:
        """Weights of `task.perceptual_weight`."""
        return perceptual_weights(self.settings_of(run))


class DecoderStage(ImagesStage):
    """The decoder of data.tokenizer, its codes as they are."""

    settings = DecoderConfig

    def lpips(self, run: RunConfig) -> Any:
        """Weights of `task.perceptual_weight`."""
        return perceptual_weights(self.settings_of(run))

    def make_task(self, run: RunConfig, lpips: Any = None) -> DecoderTask:
        """Over the tokenizer of data.tokenizer."""
        settings = self.settings_of(run)
        if run.model:
            raise UserError(
                f"task {run.name!r} has the network of data.tokenizer: leave out the "
                "config section 'model'"
            )
        source = _source(run)
        if "reconstructor" in model_folder.read_config(source).components:
            raise UserError(
                f"{source} draws by a reconstructor, not by its tokenizer's decoder: "
                "train that further by the task that it was trained by, from "
                "data.weights"
            )
        there = model_folder.load_component(source, "tokenizer")
        trained = there.config, there.params, there.state["codebook"]
        return DecoderTask(*trained, settings, lpips)

    def start(self, task: DecoderTask, run: RunConfig) -> tuple[Any, Any]:
        """That of the task itself."""
        del task
        if run.data.weights:
            raise UserError(
                "this task starts from data.tokenizer: leave out data.weights"
            )
        return None, None

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of the tokenizer whose decoder is trained."""
        return digest(model_folder.load_component(_source(run), "tokenizer"))

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """All of the model that data.tokenizer is, with another decoder."""
        model, card = model_folder.load(_source(run)), card_of_decoder(_source(run))
        tokenizer = image_tokenizer(self.task(run), params, state)
        model = model.with_component("tokenizer", tokenizer)
        return dataclasses.replace(model, card=card)


DECODER = DecoderStage()


def _source(run: RunConfig) -> Path:
    """Folder of the tokenizer, or of the model, whose decoder is trained."""
    if not run.data.tokenizer:
        raise UserError(
            f"task {run.name!r} needs data.tokenizer: the folder of a tokenizer or "
            "model, or the name of a shipped one"
        )
    return model_folder.find(run.data.tokenizer)


def perceptual_weights(settings: ImageLossConfig) -> Any:
    """Weights of LPIPS for an image loss, None if it has none; UserError without."""
    if not settings.perceptual_weight:
        return None
    files = list(settings.lpips_weights) or None
    try:
        return lpips_params(files, settings.lpips_levels)
    except UserError as error:
        raise UserError(
            f"task.perceptual_weight needs VGG16: {error}; or set it to 0"
        ) from error


def image_tokenizer(task: Any, params, state) -> Component:
    """The tokenizer of a task's parameters and state."""
    codebook = {"codebook": np.asarray(task.codebook(params, state))}
    return Component(task.model.config, task.network(params, state), codebook)
