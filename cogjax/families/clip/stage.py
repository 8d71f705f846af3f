"""CLIP's stage: images and bilingual captions -> model folder that compares both."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.sequences import bracketed
from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.families.clip.objective import ContrastiveTask
from cogjax.files import file_sha256
from cogjax.model import Component, Model
from cogjax.models.clip import ClipConfig
from cogjax.stages.coded import looked_at, say_cut
from cogjax.stages.sections import RunConfig, batches, check_contents, eval_batches
from cogjax.stages.stage import Stage
from cogjax.train.session import Job


@dataclass(frozen=True)
class ContrastiveConfig:
    """The section 'task'.

    crop: least side of the random square that is seen of an image in training, as a
    share of the image's; 1 is the whole image. The paper's only augmentation (section
    2.4). labels: share of examples with the first caption of a language, which is the
    bare name of the thing in sets of `data icons` and `data emoji`. Captions with style
    and colour are told apart by these in most batches, and things are hardly learnt.
    recolor: share of those examples whose colours are mixed at random, as a name seldom
    says a colour.
    """

    crop: float = 1.0
    labels: float = 0.0
    recolor: float = 0.0

    def __post_init__(self):
        if not 0.1 <= self.crop <= 1:
            raise ValueError(f"crop is {self.crop}, expected 0.1 to 1")
        for name in ("labels", "recolor"):
            if not 0 <= getattr(self, name) <= 1:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}, expected 0 to 1")
        if self.recolor and not self.labels:
            raise ValueError("recolor is a share of labels, which is 0: give labels")


class ContrastiveStage(Stage):
    """Both towers from random weights, with the text tokenizer of data.text.

    An example is an image and one of its captions, sampled anew each time.
    """

    settings, model_section = ContrastiveConfig, ClipConfig

    def task(self, run: RunConfig) -> ContrastiveTask:
        """The objective; UserError for what does not fit."""
        return ContrastiveTask(self._network(run, _text(run)))

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over images and captions of the splits."""
        del workdir
        if run.train.accumulate > 1:
            raise UserError(
                f"train.accumulate is {run.train.accumulate}: captions compete within "
                "a part, so this task needs 1; lower train.batch_size to save memory"
            )
        text, data = _text(run), run.data
        task = ContrastiveTask(self._network(run, text))
        manifest = records.read_manifest(data.path)
        source, evals = (
            _open(run, manifest, split) for split in (data.split, data.eval_split)
        )
        most = task.config.text_len - 2
        for split, each in ((data.split, source), (data.eval_split, evals)):
            what = f"captions of split '{split}'"
            say_cut(_lengths(text, each), most, what, "model.text_len", 2)
        # Nothing is cut off to evaluate, and captions are what they are.
        training, evaluating = (
            functools.partial(_example, text, task.config, settings)
            for settings in (self.settings_of(run), ContrastiveConfig())
        )
        parts = manifest.fingerprint, data.split, self.sources_digest(run)
        return Job(
            task,
            batches(source, training, run.train),
            eval_batches(evals, evaluating, run),
            fingerprint="/".join(parts),
        )

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """Both towers as one component, and the text tokenizer."""
        del state
        text = _text(run)
        part = Component(self._network(run, text), params)
        return Model("clip", {"clip": part}, text=text)

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of the text tokenizer."""
        return file_sha256(model_folder.find_text(run.data.text))[:12]

    def _network(self, run: RunConfig, text: TextTokenizer) -> ClipConfig:
        """The section 'model', with an id for each piece, the start and the end."""
        self.settings_of(run)
        size = {"vocab_size": text.size + 2}
        config = section(ClipConfig, {**size, **run.model}, "model")
        if config.vocab_size != size["vocab_size"]:
            raise UserError(
                f"model.vocab_size is {config.vocab_size}, data.text needs "
                f"{size['vocab_size']}: leave it out"
            )
        return config


CONTRASTIVE = ContrastiveStage()


def _text(run: RunConfig) -> TextTokenizer:
    data = run.data
    if not data.text:
        raise UserError(f"config key 'data.text' is required for task {run.name}")
    for key in ("tokenizer", "weights", "questions"):
        if getattr(data, key):
            raise UserError(f"task {run.name!r} does not read data.{key}: leave it out")
    return load_text(model_folder.find_text(data.text))


def _open(run: RunConfig, manifest: records.Manifest, split: str) -> records.Split:
    """A split, which needs captions unless it is empty."""
    source = records.open_split(run.data.path, split)
    if len(source):
        check_contents(manifest, run.data.path, split)
    return source


def _lengths(text: TextTokenizer, source: records.Split) -> list[int]:
    """Pieces of each caption."""
    captions = [each for item in looked_at(source) for _, each in item.captions]
    return [len(text.encode(each)) for each in captions]


def _example(
    text: TextTokenizer,
    config: ClipConfig,
    settings: ContrastiveConfig,
    item: Any,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    captions = item.captions
    bare = settings.labels and rng.random() < settings.labels
    if bare:
        # The first of each language: later ones of it take its place from behind.
        captions = list(dict(reversed(captions)).items())
    _, caption = captions[rng.integers(len(captions))]
    [ids] = bracketed([text.encode(caption)], config.text_len, text.size)
    image = _seen(item.image, config.image_size, settings.crop, rng)
    if bare and settings.recolor and rng.random() < settings.recolor:
        image = _recolored(image, rng)
    return {"image": image, "ids": ids}


def _seen(image: bytes, size: int, crop: float, rng: np.random.Generator) -> np.ndarray:
    """A random square, at least `crop` of the image's side: uint8 [size, size, 3]."""
    whole = size if crop == 1 else round(size / rng.uniform(crop, 1))
    top, left = rng.integers(whole - size + 1, size=2) if whole > size else (0, 0)
    pixels = records.decode_image(image, whole)
    return pixels[top : top + size, left : left + size]


def _recolored(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels uint8 [y, x, 3] whose channels are means of the three; white stays."""
    shares = rng.dirichlet(np.ones(3), 3)  # [to, from]
    return np.round(pixels @ shares.T).astype(np.uint8)
