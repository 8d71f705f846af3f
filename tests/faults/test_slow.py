"""The rest of the fault matrix: `pytest -m slow tests/faults`, a quarter of an hour."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from cogjax.train.manifest import verify_run
from cogjax.train.session import EXIT_INTERRUPTED
from cogjax.train.watchdog import EXIT_STUCK
from tests.faults.launcher import (
    LIMIT,
    TABLE,
    Run,
    check_rows,
    damage,
    finish,
    free_port,
    kill_often,
    last_step,
    newest,
    resumed_at,
    rows,
)
from tests.faults.worker import Options

pytestmark = pytest.mark.slow

RUN = Options(pause=0.005, steps=400, save_every=15)
PAIR = Options(pause=0.02, devices=4, heartbeat=10, steps=60)


def test_kill_at_any_moment(tmp_path, whole):
    lost = kill_often(tmp_path / "run", RUN, whole, 25)
    TABLE.add("A1", "kill -9, one process", 25, 25, lost)


def test_kill_one_or_both_of_two(tmp_path, whole_pair):
    rng, lost = random.Random(0), []
    options = replace(PAIR, heartbeat=5)
    for kill in range(14):
        with Run(tmp_path / "run", options, 2) as run:
            run.wait_for_step(newest(run.workdir) + rng.randrange(1, 8))
            run.kill(signal.SIGKILL, *[(0,), (1,), (0, 1)][kill % 3])
            assert 0 not in run.wait(options.heartbeat + 30)
        found = newest(run.workdir)
        lost.append(last_step(run.workdir) - found)
        if found > PAIR.steps - 12:
            shutil.rmtree(run.workdir)
            found = 0
    digest, said = finish(run.workdir, PAIR, 2)
    assert digest == whole_pair
    assert resumed_at(said) == found
    check_rows(run.workdir, PAIR.steps)
    assert max(lost) <= 2 * PAIR.save_every
    text = f"{max(lost)} of {PAIR.save_every}"
    TABLE.add("A2", "kill -9 of one or both of two processes", 14, 14, text)


@pytest.mark.parametrize("when", ["compiling", "saving"])
def test_signal_at_an_awkward_time(tmp_path, whole, when):
    with Run(tmp_path / "run", RUN) as run:
        if when == "saving":
            run.wait_for_step(RUN.save_every)
        else:
            # The lock is taken once signals are.
            run.wait_until((run.workdir / ".lock").exists)
        run.kill(signal.SIGTERM)
        assert run.wait() == [EXIT_INTERRUPTED]
    assert verify_run(run.workdir)[-1].status == "good"
    assert finish(run.workdir, RUN)[0] == whole
    TABLE.add("A5", f"SIGTERM while {when}", 1, 1)


def test_second_signal_during_the_last_save(tmp_path, whole):
    for wait in (0, 1, 2):
        with Run(tmp_path / "run", RUN) as run:
            run.wait_for_step(newest(run.workdir) + 4 + wait)
            run.kill(signal.SIGTERM)
            run.wait_for_text("a second signal ends at once")
            run.kill(signal.SIGTERM)
            assert run.wait()[0] in (EXIT_INTERRUPTED, -signal.SIGTERM)
        if newest(run.workdir):
            assert {v.status for v in verify_run(run.workdir)} <= {"good", "unverified"}
    assert finish(run.workdir, RUN)[0] == whole
    TABLE.add("A5", "a second signal during the last save", 3, 3)


def test_folder_moved_away_while_training(tmp_path):
    with Run(tmp_path / "run", RUN) as run:
        run.wait_for_step(20)
        os.rename(run.workdir / "checkpoints", tmp_path / "gone")
        (status,) = run.wait()
        assert "Traceback" not in run.said()
    if status == 0:  # Orbax has made the folder again.
        assert verify_run(run.workdir)[-1].status == "good"
        assert newest(run.workdir) == RUN.steps
    else:
        assert status == 2 and "cannot save a checkpoint in" in run.said()
    TABLE.add("A6", "checkpoints moved away while training", 1, 1)


@pytest.mark.parametrize("kind", ["flip", "zero", "truncate", "delete", "empty"])
def test_every_damage_is_seen_and_the_step_before_taken(tmp_path, kind):
    options = replace(RUN, steps=30)
    whole = finish(tmp_path / "run", options)[0]
    folder, rng = tmp_path / "copy" / "checkpoints" / "30", random.Random(kind)
    files = sorted(
        p for p in (tmp_path / "run/checkpoints/30").rglob("*") if p.is_file()
    )
    names = [p.relative_to(tmp_path / "run/checkpoints/30") for p in files]
    names = names if kind in ("delete", "empty") else rng.choices(names, k=20)
    for name in names:
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        damage(folder / name, kind, rng)
        digest, said = finish(tmp_path / "copy", options)
        assert digest == whole, name
        assert "step 30: bad" in said or "step 30 has no digests" in said, name
        shutil.rmtree(tmp_path / "copy")
    row = "B2" if kind in ("delete", "empty") else "B1"
    count = len(names)
    TABLE.add(
        row, f"{kind} of checkpoint files, then resumed", count, count, "15 of 15"
    )


def test_same_result_again_and_on_one_core(tmp_path, whole):
    assert finish(tmp_path / "again", RUN)[0] == whole
    cores = os.sched_getaffinity(0)
    with Run(tmp_path / "one", RUN) as run:
        os.sched_setaffinity(run.pids[0], {min(cores)})
        assert run.wait() == [0]
    assert (run.workdir / "digest-0").read_text() == whole
    TABLE.add("C3", "the same seed again; on one core", 2, 2)


def test_the_processes_may_change(tmp_path, whole_pair):
    options = replace(PAIR, steps=30)
    finish(tmp_path / "run", options, 2)
    losses = []
    for count, devices in ((2, 4), (4, 2), (1, 1)):
        copy = shutil.copytree(tmp_path / "run", tmp_path / f"run{count}")
        run = replace(PAIR, devices=devices, steps=60)
        digest, said = finish(copy, run, count)
        assert resumed_at(said) == 30
        losses.append([row["loss"] for row in rows(copy)][30:])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)
    TABLE.add("C2", "2 x 4 goes on as 4 x 2 and as 1 x 1", 2, 2)


@pytest.mark.parametrize("fault", ["coordinator", "stopped"])
def test_peer_that_is_gone_ends_the_others(tmp_path, whole_pair, fault):
    with Run(tmp_path / "run", PAIR, 2) as run:
        run.wait_for_step(8)
        if fault == "coordinator":
            run.kill(signal.SIGKILL, 0)
            left = 1
        else:
            run.kill(signal.SIGSTOP, 1)
            left = 0
        assert run.wait_one(left, PAIR.heartbeat + 30) != 0
    assert finish(run.workdir, PAIR, 2)[0] == whole_pair
    TABLE.add("E1", f"one of two processes: {fault}", 1, 1)


def test_a_stopped_run_that_goes_on_is_not_stuck(tmp_path, whole):
    with Run(tmp_path / "run", replace(RUN, step_timeout=2.5)) as run:
        run.wait_for_step(20)
        run.kill(signal.SIGSTOP)
        time.sleep(8)
        run.kill(signal.SIGCONT)
        assert run.wait() == [0], run.said()
    assert (run.workdir / "digest-0").read_text() == whole
    TABLE.add("E2", "stopped for longer than a step may take", 1, 1)


@pytest.mark.parametrize("stuck", [0, 1])
def test_stuck_peer_ends_all(tmp_path, whole_pair, stuck):
    options = [replace(PAIR, step_timeout=5.0)] * 2
    options[stuck] = replace(options[stuck], stuck=15)
    with Run(tmp_path / "run", options, 2) as run:
        assert EXIT_STUCK in run.wait()
    assert list(run.workdir.glob("stacks-*.txt"))
    assert finish(run.workdir, PAIR, 2)[0] == whole_pair
    TABLE.add("E2", f"process {stuck} of two is stuck", 1, 1)


@pytest.mark.parametrize(
    ("change", "key"),
    [({"seed": 1}, "config.train.seed"), ({"fingerprint": "b"}, "data fingerprint")],
)
def test_processes_must_agree(tmp_path, change, key):
    with Run(tmp_path / "run", [PAIR, replace(PAIR, **change)], 2) as run:
        assert run.wait() == [2, 2]
        assert f"the processes differ in {key}: " in run.said(1)
    TABLE.add("E3", f"another {key} on one of two processes", 1, 1)


def test_nan_on_one_process_only(tmp_path):
    digest, _ = finish(tmp_path / "run", replace(PAIR, poison=(-20,)), 2)
    bad = [row["bad_steps"] for row in rows(tmp_path / "run")]
    assert [i for i, count in enumerate(bad) if count] == [20]
    assert len(set(digest.split())) == 1
    with Run(tmp_path / "ever", replace(PAIR, poison=tuple(range(-59, -9))), 2) as run:
        assert run.wait() == [2, 2]
    TABLE.add("E4", "NaN on one process only, once and for ever", 2, 2)


def test_processes_that_count_differently(tmp_path):
    """One of two is told that there are three: it ends, and so does the other."""
    config = "experiments/cogview/emoji.py:tokenizer,nano"
    command = f"-m cogjax.cli train --config {config} --distributed --workdir"
    address, started = f"127.0.0.1:{free_port()}", []
    for index, count in enumerate(("2", "3")):
        values = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": count}
        values |= {"PROCESS_ID": str(index), "JOIN_TIMEOUT": "30"}
        words = [sys.executable, *command.split(), tmp_path]
        started.append(
            subprocess.Popen(
                words, env=os.environ | values, stderr=subprocess.PIPE, text=True
            )
        )
    try:
        said = [process.communicate(timeout=LIMIT)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert all(process.returncode for process in started)
    assert "NUM_PROCESSES is 3 in process 1, but 2 in process 0" in said[1]
    TABLE.add("E5", "another number of processes on one of two", 1, 1)
