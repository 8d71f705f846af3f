"""What the toy family is made of: network, layout, task, stage and pipeline."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cogjax.config import section
from cogjax.model import Component, Model
from cogjax.stages.sections import batches, eval_batches
from cogjax.stages.stage import Stage
from cogjax.train.session import Job
from cogjax.train.task import Task


@dataclass(frozen=True)
class PaletteConfig:
    """colours: rows of the table."""

    colours: int = 2


class Palette(nn.Module):
    """Words int [b] -> colours [b, 3]."""

    config: PaletteConfig

    @nn.compact
    def __call__(self, words):
        zeros = nn.initializers.zeros
        return self.param("table", zeros, (self.config.colours, 3))[words]


def param_shapes(config):
    """Shape of the table."""
    words = jax.ShapeDtypeStruct((1,), jnp.int32)
    return jax.eval_shape(Palette(config).init, jax.random.key(0), words)["params"]


@dataclass(frozen=True)
class Layout:
    """words: what can be asked for, in the order of the table."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Settings:
    """weight: of the loss."""

    weight: float = 1.0


class ColourTask(Task):
    """Task over {"word": int32 [b], "colour": float32 [b, 3]}; everything default."""

    def __init__(self, config: PaletteConfig, settings: Settings):
        self.network, self.settings = Palette(config), settings

    def init(self, key):
        return self.network.init(key, jnp.zeros(1, jnp.int32))["params"], {}

    def loss(self, params, state, batch, key):
        del key
        found = self.network.apply({"params": params}, batch["word"])
        error = jnp.mean(jnp.square(found - batch["colour"]))
        return self.settings.weight * error, (state, {"error": error})


class ColourStage(Stage):
    """data.path is a JSON file {word: [r, g, b]}."""

    settings = Settings

    def _rows(self, run) -> dict[str, list[float]]:
        return json.loads(Path(run.data.path).read_text())

    def task(self, run):
        config = section(PaletteConfig, run.model, "model")
        return ColourTask(config, self.settings_of(run))

    def job(self, run, workdir):
        del workdir
        rows = list(enumerate(self._rows(run).values()))

        def example(row, rng):
            del rng
            word, colour = row
            return {"word": np.int32(word), "colour": np.float32(colour)}

        return Job(
            self.task(run),
            batches(rows, example, run.train),
            eval_batches(rows, example, run),
            fingerprint=self.sources_digest(run),
        )

    def sources_digest(self, run):
        return hashlib.sha256(Path(run.data.path).read_bytes()).hexdigest()[:12]

    def export(self, run, params, state):
        palette = Component(section(PaletteConfig, run.model, "model"), params)
        return Model("toy", {"palette": palette}, Layout(tuple(self._rows(run))))


STAGE = ColourStage()


@dataclass(frozen=True)
class Painting:
    """pixels: uint8 [prompts, 4, 4, 3]."""

    pixels: np.ndarray


class Painter:
    """What `cogjax.load` returns of a toy model."""

    def __init__(self, model: Any, **settings: Any):
        self.model, self.settings = model, settings

    def generate(self, prompts: tuple[str, ...]) -> Painting:
        words = [self.model.layout.words.index(prompt) for prompt in prompts]
        palette = self.model["palette"]
        found = palette.network.apply({"params": palette.params}, jnp.asarray(words))
        pixels = np.round(255 * np.clip(found, 0, 1)).astype(np.uint8)
        return Painting(np.tile(pixels[:, None, None], (1, 4, 4, 1)))
