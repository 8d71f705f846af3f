"""The stage that pre-trains a text encoder on captions alone: -> model folder."""

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from cogjax import model_folder
from cogjax.config import section
from cogjax.data import records
from cogjax.data.codes import record_of
from cogjax.data.t5_text import NUM_SENTINELS, T5Text
from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.model import Component, Model
from cogjax.models.t5 import T5Config
from cogjax.stages.coded import looked_at, say_cut
from cogjax.stages.sections import RunConfig, batches, check_contents, eval_batches
from cogjax.stages.stage import Stage
from cogjax.tasks.span_corruption import PretrainingConfig, SpanCorruptionTask
from cogjax.train.session import Job


class T5Stage(Stage):
    """A T5 by span corruption; its decoder is thrown away."""

    settings, model_section = PretrainingConfig, T5Config

    def task(self, run: RunConfig) -> SpanCorruptionTask:
        """The objective; without data.text of the config's own vocabulary."""
        settings, config = self.settings_of(run), section(T5Config, run.model, "model")
        if run.data.text:
            size = T5Text(self._text(run)).vocab_size
            config = dataclasses.replace(config, vocab_size=size)
        if config.text_len < 3:
            raise UserError(
                f"model.text_len is {config.text_len}, at least 3 is needed"
            )
        _, spans = settings.num_spans(config.text_len - 1)
        if spans >= NUM_SENTINELS:
            raise UserError(
                f"{spans} spans of a text are more than the {NUM_SENTINELS} sentinels: "
                "make task.share smaller or task.mean_span larger"
            )
        return SpanCorruptionTask(config, settings)

    def job(self, run: RunConfig, workdir: Path) -> Job:
        """The objective over one caption of each example, drawn anew each time."""
        del workdir
        task, data = self.task(run), run.data
        words, settings = T5Text(self._text(run)), self.settings_of(run)
        manifest, record = records.read_manifest(data.path), record_of(data.path)
        check_contents(manifest, data.path, data.split)
        text_len = task.config.text_len
        example = functools.partial(_example, settings, words, text_len)
        source = records.open_split(data.path, data.split, record)
        evals = records.open_split(data.path, data.eval_split, record)
        _say_what_is_cut(words, text_len, source, data.split)
        _say_what_is_cut(words, text_len, evals, data.eval_split)
        fingerprint = manifest.fingerprint, data.split, self.sources_digest(run)
        return Job(
            task,
            batches(source, example, run.train),
            eval_batches(evals, example, run),
            fingerprint="/".join(fingerprint),
        )

    def export(self, run: RunConfig, params: Any, state: Any) -> Model:
        """The encoder and its text tokenizer."""
        del state
        encoder = Component(self.task(run).config, params["encoder"])
        return Model("", {"text_encoder": encoder}, text=self._text(run))

    def sources_digest(self, run: RunConfig) -> str:
        """Digest of the text tokenizer."""
        return hashlib.sha256(self._text(run).serialized).hexdigest()[:12]

    def _text(self, run: RunConfig) -> TextTokenizer:
        """That of data.text; UserError without, or for other models in the config."""
        data = run.data
        if not data.text:
            raise UserError(f"config key 'data.text' is required for task {run.name}")
        for name in ("tokenizer", "weights", "questions"):
            if getattr(data, name):
                raise UserError(
                    f"task {run.name} reads texts alone and starts at random: leave "
                    f"out data.{name}"
                )
        return load_text(model_folder.find_text(data.text))


def _say_what_is_cut(words: T5Text, text_len: int, source, split: str) -> None:
    """Counts captions that are longer than what is learnt of them."""
    texts = (text for item in looked_at(source) for _, text in item.captions)
    what = f"captions of split '{split}', each with its end,"
    say_cut([words.num_ids(text) for text in texts], text_len, what, "model.text_len")


def _example(settings, words, text_len: int, item: Any, rng: np.random.Generator):
    texts = [text for _, text in item.captions] or [""]
    text = texts[rng.integers(len(texts))]
    return settings.example(words, text, text_len, rng)


T5 = T5Stage()
