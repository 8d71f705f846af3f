import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import jax
import numpy as np
import pytest

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.train.checkpoint import restore_params
from cogjax.train.lock import lock_workdir
from cogjax.train.loop import TrainConfig, fit, late_writes_unsaid
from cogjax.train.optim import OptimConfig, make_schedule
from cogjax.train.session import EXIT_INTERRUPTED, Job
from tests.train.toy import Line, digest, make_batches

OPTIM = OptimConfig(lr=0.1, warmup=1, schedule="constant")
JOB = Job(Line(), make_batches)


def train(workdir, steps, batches=make_batches, devices=1, **kwargs):
    config = TrainConfig(
        steps=steps,
        batch_size=8,
        log_every=1,
        save_every=kwargs.pop("save_every", 2),
        eval_every=4,
        max_bad_steps=3,
        accumulate=kwargs.pop("accumulate", 1),
        max_loss_spike=kwargs.pop("max_loss_spike", 0.0),
        max_rollbacks=kwargs.pop("max_rollbacks", 0),
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return fit(Job(Line(), batches, **kwargs), config, OPTIM, mesh, workdir)


def read_rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    state = train(workdir, 12, eval_batches=[next(make_batches(99))])
    return workdir, digest(state)


@pytest.fixture(scope="module")
def wholes(uninterrupted, tmp_path_factory):
    """{parts of a batch: digest of 12 steps}."""
    parts = train(tmp_path_factory.mktemp("parts"), 12, accumulate=2)
    return {1: uninterrupted[1], 2: digest(parts)}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stop", [2, 7])
def test_resume_is_bitwise(tmp_path, wholes, stop, accumulate):
    whole = wholes[accumulate]
    train(tmp_path / "cut", stop, accumulate=accumulate)
    assert digest(train(tmp_path / "cut", 12, accumulate=accumulate)) == whole


def test_metrics_have_no_gap_and_no_duplicate(uninterrupted, tmp_path):
    workdir, whole = uninterrupted
    copy = shutil.copytree(workdir, tmp_path / "run")
    # As after a crash: the newest checkpoint is older than the newest row.
    shutil.rmtree(copy / "checkpoints" / "12")
    assert digest(train(copy, 12)) == whole
    rows = read_rows(copy)
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 13))
    assert any("eval/loss" in row for row in rows)


def test_finished_run_does_nothing(uninterrupted):
    workdir, whole = uninterrupted
    assert digest(train(workdir, 12)) == whole


def test_damaged_checkpoint_falls_back(uninterrupted, tmp_path, capsys):
    workdir, whole = uninterrupted
    copy = shutil.copytree(workdir, tmp_path / "run")
    for path in (copy / "checkpoints" / "12").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert digest(train(copy, 12)) == whole
    assert "step 12" in capsys.readouterr().out


def test_changed_data_is_refused(uninterrupted):
    with pytest.raises(UserError, match="data or a tokenizer changed"):
        train(uninterrupted[0], 14, fingerprint="other")


def test_a_changed_config_is_said(uninterrupted, tmp_path, capsys):
    """Each key, and the rate; a seed or an optimiser is refused, nothing is written."""
    copy = shutil.copytree(uninterrupted[0], tmp_path / "run")
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])

    class Matrix(Line):
        def matrix_axes(self, params):
            return {"w": ((0,), (1,)), "bias": None}

    def resume(config):
        job = Job(Matrix(), make_batches, config=config)
        train = section(TrainConfig, config["train"])
        fit(job, train, section(OptimConfig, config["optim"]), mesh, copy)
        return " ".join(capsys.readouterr().out.split())

    optim = {"lr": 0.1, "warmup": 0}
    first = {"train": {"steps": 12, "batch_size": 8}, "optim": optim}
    assert "has changed" not in resume(first)
    assert "has changed" not in resume(first)
    more = {"train": {"steps": 13, "batch_size": 8}, "optim": {"lr": 0.2, "clip": 2.0}}
    said = resume(more)
    for text in (
        "train.steps was 12, is 13",
        "optim.lr was 0.1, is 0.2",
        "optim.clip was not set, is 2.0",
        "optim.warmup was 0, is not set",
    ):
        assert text in said
    rate = make_schedule(OptimConfig(lr=0.2), 13)(12)
    assert f"the learning rate of step 12 was 0.01, is {rate:.3g}" in said
    before = (copy / "config.json").read_bytes()
    for seed in ({"seed": 1}, {"seed": 2, "steps": 14}):
        with pytest.raises(UserError, match="was trained with train.seed 0, not"):
            resume(more | {"train": more["train"] | seed})
    for key, value in {"name": "muon", "moments": "16bit"}.items():
        message = f"was trained with optim.{key} '.*', not '{value}', whose state its"
        with pytest.raises(UserError, match=message):
            resume(more | {"optim": more["optim"] | {key: value}})
    assert "has changed" not in capsys.readouterr().out
    assert (copy / "config.json").read_bytes() == before


def test_changed_shape_is_named(uninterrupted):
    class Wider(Line):
        def init(self, key):
            params, state = super().init(key)
            return {**params, "w": jax.numpy.zeros((8, 4))}, state

    config = TrainConfig(steps=14, batch_size=8)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    with pytest.raises(UserError, match=r"\(8, 2\).*\(8, 4\)"):
        fit(Job(Wider(), make_batches), config, OPTIM, mesh, uninterrupted[0])


def test_restore_on_more_devices(uninterrupted, tmp_path):
    copy = shutil.copytree(uninterrupted[0], tmp_path / "run")
    many = train(copy, 16, devices=8)
    shutil.rmtree(copy)
    copy = shutil.copytree(uninterrupted[0], tmp_path / "run")
    one = train(copy, 16)
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_restored_params_need_no_model(uninterrupted):
    params, state, *_ = restore_params(uninterrupted[0], "params")
    assert params["w"].shape == (8, 2)
    assert int(state["seen"]) == 96


def test_weights_to_start_from_are_not_held_by_the_run(tmp_path):
    seen = []

    def job():
        start = np.full((8, 2), 5, np.float32)
        found = weakref.ref(start)

        def look(step, train_state, logger):
            seen.append(
                (found(), np.abs(np.asarray(train_state.params["w"]) - 5).max())
            )

        start = {"w": start}
        return Job(Line(), make_batches, None, ((1, look),), start_params=start)

    config = TrainConfig(steps=1, batch_size=8)
    fit(job(), config, OPTIM, make_mesh(MeshConfig(), jax.devices()[:1]), tmp_path)
    [(held, distance)] = seen
    assert held is None and distance < 0.2


def test_persistent_nan_stops_with_the_last_good_weights(tmp_path):
    def batches(start):
        return make_batches(start, poison=range(5, 100))

    good = train(tmp_path / "good", 5)
    with pytest.raises(UserError, match="updates in a row were not finite"):
        train(tmp_path / "bad", 50, batches)
    params, *_ = restore_params(tmp_path / "bad", "params")
    np.testing.assert_array_equal(params["w"], good.params["w"])


def test_batch_must_divide_over_devices(tmp_path):
    with pytest.raises(UserError, match="multiple of data x fsdp devices, 8"):
        config = TrainConfig(steps=1, batch_size=12)
        fit(JOB, config, OPTIM, make_mesh(MeshConfig()), tmp_path)


def spiking(start):
    """Batch 21 is far off."""
    for step, batch in enumerate(make_batches(start), start):
        yield {**batch, "y": batch["y"] * (100 if step == 21 else 1)}


def test_spike_is_said_with_its_examples(tmp_path, capsys):
    state = train(tmp_path, 30, spiking, max_loss_spike=20.0)
    said = capsys.readouterr().err
    assert "step 22 has loss" in said and "(examples 168 to 175)" in said
    assert int(state.step) == 30


def test_roll_back_leaves_out_the_batches_since(tmp_path, capsys):
    """As if the batches of the spike and of the step in flight were not there."""

    def without(start):
        for step, batch in enumerate(make_batches(start), start):
            if step not in (20, 21, 22):
                yield batch

    kwargs = {"save_every": 5, "max_loss_spike": 20.0, "max_rollbacks": 1}
    state = train(tmp_path / "run", 30, spiking, **kwargs)
    assert "rolled back from step 23 to 20" in capsys.readouterr().out
    # The positions that the clean run counts are other ones, its state is the same.
    assert digest(state) == digest(train(tmp_path / "clean", 30, without))
    rows = read_rows(tmp_path / "run")
    assert [r["step"] for r in rows if "loss" in r] == list(range(1, 31))


def test_resume_after_a_roll_back_is_bitwise(tmp_path):
    kwargs = {"save_every": 5, "max_loss_spike": 20.0, "max_rollbacks": 1}
    whole = digest(train(tmp_path / "whole", 36, spiking, **kwargs))
    train(tmp_path / "cut", 28, spiking, **kwargs)
    assert digest(train(tmp_path / "cut", 36, spiking, **kwargs)) == whole


def test_roll_backs_are_counted(tmp_path):
    def rising(start):
        for step, batch in enumerate(make_batches(start), start):
            yield {**batch, "y": batch["y"] * (100 if step > 20 else 1)}

    with pytest.raises(UserError, match="spiked again at step 21 after 2 roll-backs"):
        train(tmp_path, 40, rising, save_every=5, max_loss_spike=20.0, max_rollbacks=2)


def test_seconds_add_up_and_name_what_was_lost(uninterrupted, tmp_path):
    copy = shutil.copytree(uninterrupted[0], tmp_path / "run")
    shutil.rmtree(copy / "checkpoints" / "12")
    train(copy, 12)
    rows = read_rows(copy)
    seconds = [row for row in rows if "seconds/step" in row]
    kinds = {"compile", "step", "data", "save", "restore", "eval", "lost"}
    assert {f"seconds/{kind}" for kind in kinds} <= seconds[0].keys()
    assert sum(row["seconds/compile"] > 0 for row in seconds) == 2
    assert sum(row["seconds/lost"] > 0 for row in seconds) == 1
    # The first start had nothing to restore.
    assert [row["seconds/restore"] > 0 for row in seconds].index(True) > 0


def test_another_batch_size_goes_on_at_the_same_example(tmp_path):
    starts = []

    def noted(start):
        starts.append(start)
        return make_batches(start)

    train(tmp_path, 6, noted)
    config = TrainConfig(steps=8, batch_size=16, eval_every=0)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    fit(Job(Line(), noted), config, OPTIM, mesh, tmp_path)
    assert starts == [0, 3]


def test_second_trainer_is_refused(tmp_path):
    with lock_workdir(tmp_path), pytest.raises(UserError, match="being trained by pro"):
        train(tmp_path, 2)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import tests.train.test_loop as t

def batches(start):
    for step, batch in enumerate(t.make_batches(start), start):
        if step == 6:
            os.kill(os.getpid(), int(sys.argv[2]))
        yield batch

t.train(Path(sys.argv[1]), 12, batches, save_every=100)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_resume_is_bitwise(tmp_path, uninterrupted, number):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(int(number))],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=120,
    )
    assert done.returncode == EXIT_INTERRUPTED
    assert digest(train(tmp_path, 12)) == uninterrupted[1]


def test_late_writes_of_a_failed_save_are_not_said(monkeypatch):
    """As TensorStore gives them to Python, where nobody waits for them any more."""
    said = []
    hook = lambda found: said.append(str(found.exc_value))  # noqa: E731
    monkeypatch.setattr(sys, "unraisablehook", hook)

    class Ends:
        def __init__(self, words):
            self.words = words

        def __del__(self):
            raise RuntimeError(self.words)

    with late_writes_unsaid():
        Ends("Event loop is closed")
        Ends("another")
    Ends("Event loop is closed")
    assert said == ["another", "Event loop is closed"]


def test_what_is_trained_is_said_before_it_is_compiled(tmp_path, capsys):
    train(tmp_path, 1)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("cogjax: training ") and f" in {tmp_path}: " in first
    assert first.endswith(" parameters in " + first.partition(" in ")[2])
    assert ": 1 steps of " in first
