"""Row C1: real runs of each family, stopped and gone on (specs/reliability.md)."""

import functools
import signal

import numpy as np
import pytest

from cogjax import config
from cogjax.data.images import encode_png
from cogjax.data.records import DatasetBuilder, Example
from cogjax.stages import run as launch
from cogjax.train.session import EXIT_INTERRUPTED
from tests.faults.launcher import (
    TABLE,
    Run,
    check_rows,
    finish,
    last_step,
    resumed_at,
)
from tests.faults.worker import Options

STEPS, SAVE_EVERY = 24, 6
CODES = {"data.tokenizer", "data.text"}
# Config of each kind of run, and what it reads beside the data.
STAGES = {
    "VQ tokenizer": ("cogview/emoji.py:tokenizer,nano", set()),
    "VQGAN tokenizer": ("vqgan/shapes.py:shapes,nano", set()),
    "dVAE tokenizer": ("dalle/shapes.py:tokenizer,nano", set()),
    "CogView transformer": ("cogview/emoji.py:transformer,nano", CODES),
    "DALL-E transformer": ("dalle/shapes.py:transformer,nano", CODES),
    "ERNIE-ViLG transformer": ("ernie_vilg/shapes.py:transformer,nano", CODES),
    "CLIP": ("clip/shapes.py:nano", {"data.text"}),
    "T5 text encoder": ("imagen/text.py:nano", {"data.text"}),
    "Imagen base": ("imagen/icons.py:base,nano", {"T5"}),
    "Imagen super-resolution": ("imagen/icons.py:super,nano", {"T5", "data.below"}),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of 16 small images with captions."""
    out = tmp_path_factory.mktemp("data") / "set"
    rng = np.random.default_rng(0)
    with DatasetBuilder(out, "nano", 16, {"train": 1, "val": 1}) as builder:
        for i in range(16):
            image = encode_png(rng.integers(0, 256, (16, 16, 3), np.uint8))
            split = "val" if i >= 14 else "train"
            builder.write(split, Example(str(i), image, (("en", f"apple {i}"),), {}))
        builder.finish({})
    return out


def load(name, **values):
    """The nano form of an experiment with these values."""
    values |= {"train.log_every": 1, "train.eval_every": 0, "train.sample_every": 0}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load(f"experiments/{name}", words)


@pytest.fixture(scope="module")
def reads(data, nano_folder, tmp_path_factory):
    """Function of a stage's name: what its config says of the data."""
    text = nano_folder / "text.model"

    @functools.cache
    def trained(name):
        """Export of one step of a run that others read."""
        settings = {"train.steps": 1, "eval.batches": 0, **values(name)}
        folder = tmp_path_factory.mktemp("read") / "run"
        return launch.train(load(STAGES[name][0], **settings), folder)

    def values(name):
        needed, found = STAGES[name][1], {"data.path": data}
        found |= {"data.tokenizer": nano_folder} if "data.tokenizer" in needed else {}
        found |= {"data.text": text} if "data.text" in needed else {}
        found |= {"data.text": trained("T5 text encoder")} if "T5" in needed else {}
        below = "data.below" in needed
        return found | ({"data.below": trained("Imagen base")} if below else {})

    return values


@pytest.fixture(scope="module", params=STAGES)
def run_of(request, reads, tmp_path_factory):
    """(name, options of the run, digest of its state when nothing befalls it)."""
    folder = tmp_path_factory.mktemp("run")
    values = {"train.steps": STEPS, "train.batch_size": 8, **reads(request.param)}
    values |= {"train.save_every": SAVE_EVERY}
    path = config.save_json(
        load(STAGES[request.param][0], **values), folder / "run.json"
    )
    options = Options(steps=STEPS, pause=0.02, config=str(path))
    return request.param, options, finish(folder / "whole", options)[0]


def stop_and_go_on(workdir, options, whole, number, step):
    """A signal after a step; the rest is Equal, no row is missing or there twice.

    Returns the steps that were lost, in words.
    """
    with Run(workdir, options) as run:
        run.wait_for_step(step)
        run.kill(number)
        want = -number if number == signal.SIGKILL else EXIT_INTERRUPTED
        assert run.wait() == [want], run.said()
    reached = last_step(workdir)
    digest, said = finish(workdir, options)
    assert digest == whole
    check_rows(workdir, STEPS)
    lost = reached - resumed_at(said)
    assert reached >= step
    assert lost <= (2 * SAVE_EVERY if number == signal.SIGKILL else 0)
    return f"{lost} of {SAVE_EVERY}" if lost else "0"


@pytest.mark.slow
def test_a_family_goes_on_where_it_was(tmp_path, run_of):
    name, *rest = run_of
    lost = stop_and_go_on(tmp_path / "run", *rest, signal.SIGTERM, 10)
    TABLE.add("C1", f"{name} stopped and resumed", 1, 1, lost)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, 3), (signal.SIGKILL, 13), (signal.SIGINT, 20)],
)
def test_a_family_goes_on_from_any_point(tmp_path, run_of, number, step):
    name, *rest = run_of
    lost = stop_and_go_on(tmp_path / "run", *rest, number, step)
    TABLE.add("C1", f"{name}, {number.name} after step {step}", 1, 1, lost)
