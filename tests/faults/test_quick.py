"""The quick tier of the fault matrix (specs/reliability.md section 4).

"Equal" is SHA-256 over the whole state against a run that nothing befell.
"""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from cogjax.train.checkpoint import restore_params
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
    kill_often,
    last_step,
    newest,
    resumed_at,
    rows,
)
from tests.faults.worker import Options

RUN = Options(pause=0.005, steps=60, save_every=15)
PAIR = Options(pause=0.01, devices=4, heartbeat=10)


def test_kill_at_any_moment(tmp_path, whole):
    lost = kill_often(tmp_path / "run", RUN, whole, 4)
    TABLE.add("A1", "kill -9, one process", 4, 4, lost)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_the_step(tmp_path, whole, number):
    with Run(tmp_path / "run", RUN) as run:
        run.wait_for_step(20)
        run.kill(number)
        assert run.wait() == [EXIT_INTERRUPTED], run.said()
    lost = last_step(run.workdir) - newest(run.workdir)
    digest, said = finish(run.workdir, RUN)
    assert (digest, lost) == (whole, 0)
    assert resumed_at(said) >= 20
    check_rows(run.workdir, RUN.steps)
    TABLE.add("A4", f"{number.name}, one process", 1, 1, "0")


def test_second_signal_ends_at_once(tmp_path):
    options = replace(RUN, stuck=20)
    with Run(tmp_path / "run", options) as run:
        run.wait_for_step(19)
        run.kill(signal.SIGTERM)
        run.wait_for_text("a second signal ends at once")
        run.kill(signal.SIGINT)
        assert run.wait() == [-signal.SIGINT]
    TABLE.add("A5", "a second signal while stuck", 1, 1)


@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGTERM, (0, 1)), (signal.SIGINT, (1,))]
)
def test_signal_stops_both_of_two(tmp_path, whole_pair, number, told):
    with Run(tmp_path / "run", PAIR, 2) as run:
        run.wait_for_step(8)
        run.kill(number, *told)
        assert run.wait() == [EXIT_INTERRUPTED] * 2, run.said()
    digest, said = finish(run.workdir, PAIR, 2)
    assert digest == whole_pair
    assert resumed_at(said) >= 8
    check_rows(run.workdir, PAIR.steps)
    TABLE.add("A3", f"{number.name} to {len(told)} of two processes", 1, 1, "0")


def test_full_disk_is_said_with_the_path(tmp_path):
    options = replace(RUN, steps=15, log_every=0)
    whole = finish(tmp_path / "run", options)[0]
    with Run(tmp_path / "run", replace(options, steps=60, max_file=3000)) as run:
        assert run.wait() == [2]
        assert re.search(r"cannot save a checkpoint in \S+/run/checkpoints", run.said())
        assert "MiB free" in run.said()
        assert "Traceback" not in run.said()
        assert newest(run.workdir) == 15
    assert finish(run.workdir, options)[0] == whole
    TABLE.add("A6", "no room for a file while saving", 1, 1)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("")
    with Run(tmp_path / "run", RUN) as run:
        assert run.wait() == [2]
        assert "cannot keep checkpoints in" in run.said()
        assert "Traceback" not in run.said()
    TABLE.add("A6", "no folder for checkpoints", 1, 1)


def test_second_trainer_is_refused_and_a_dead_one_is_not_minded(tmp_path):
    with Run(tmp_path / "run", replace(RUN, stuck=5)) as run:
        run.wait_for_step(4)
        with Run(tmp_path / "run", RUN) as second:
            assert second.wait() == [2]
            assert "run is being trained by process" in second.said()
        run.kill(signal.SIGKILL)
        run.wait()
    finish(run.workdir, RUN)
    TABLE.add("A8", "a second trainer; the lock of a dead one", 2, 2)


def test_a_workdir_behind_a_link(tmp_path, whole):
    """Killed under one name and resumed under the other; one lock for both."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    # Slow enough to be at work still when the save is there and the second one comes.
    with Run(tmp_path / "link", replace(RUN, pause=0.05)) as run:
        run.wait_until(lambda: newest(tmp_path / "link") >= 15)
        with Run(tmp_path / "real", RUN) as second:
            assert second.wait() == [2]
            assert "is being trained by process" in second.said()
        run.kill(signal.SIGKILL)
        run.wait()
    digest, said = finish(tmp_path / "real", RUN)
    assert digest == whole and resumed_at(said) >= 15
    assert (tmp_path / "link").is_symlink()
    check_rows(tmp_path / "link", RUN.steps)
    TABLE.add("A8", "a workdir behind a link: killed, locked, resumed", 1, 1)


def test_damage_is_seen_and_the_step_before_taken(tmp_path, whole):
    finish(tmp_path / "run", RUN)
    rng = random.Random(0)
    for kind in ("flip", "zero", "truncate") * 4:
        copy = shutil.copytree(tmp_path / "run", tmp_path / "copy")
        folder = copy / "checkpoints" / "60"
        damage(rng.choice([p for p in folder.rglob("*") if p.is_file()]), kind, rng)
        assert [v.status for v in verify_run(copy)] == ["good", "bad"]
        shutil.rmtree(copy)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    damage(folder / "state" / "manifest.ocdbt", "flip", rng)
    digest, said = finish(tmp_path / "copy", RUN)
    assert digest == whole
    assert "step 60: bad" in said and resumed_at(said) == 45
    TABLE.add("B1", "flipped, zeroed and truncated files", 13, 13, "15 of 15")


def test_worker_that_dies_ends_the_other(tmp_path, whole_pair):
    options = replace(PAIR, heartbeat=5)
    with Run(tmp_path / "run", options, 2) as run:
        run.wait_for_step(14)
        run.kill(signal.SIGKILL, 1)
        statuses = run.wait(options.heartbeat + 30)
    assert statuses[1] == -signal.SIGKILL
    assert statuses[0] != 0
    lost = last_step(run.workdir) - newest(run.workdir)
    assert finish(run.workdir, PAIR, 2)[0] == whole_pair
    TABLE.add("E1", "kill -9 of one of two processes", 1, 1, f"{lost} of 6")


def test_watchdog_ends_a_stuck_run_with_its_stacks(tmp_path):
    with Run(tmp_path / "run", replace(RUN, stuck=20, step_timeout=2.0)) as run:
        assert run.wait() == [EXIT_STUCK]
        assert "the stacks of all threads are in" in run.said()
    (stacks,) = run.workdir.glob("stacks-0-*.txt")
    assert "in batches" in stacks.read_text()
    TABLE.add("E2", "stuck in the data, one process", 1, 1)


def test_processes_must_agree(tmp_path):
    with Run(tmp_path / "run", [PAIR, replace(PAIR, lr=0.2)], 2) as run:
        assert run.wait() == [2, 2]
        for process in (0, 1):
            message = "the processes differ in config.optim.lr: 0.1 on process 0, 0.2"
            assert message in run.said(process)
    assert not last_step(run.workdir)
    TABLE.add("E3", "another learning rate on one of two processes", 1, 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("port in use", "its port is taken on this host: choose another"),
        ("a process is missing", "and 2 processes have not met: start the missing"),
    ],
)
def test_who_cannot_join_says_so(tmp_path, fault, message):
    with socket.socket() as other:
        other.bind(("", 0))
        if fault == "port in use":
            other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        values = {"COORDINATOR_ADDRESS": address, "NUM_PROCESSES": "2"}
        values |= {"PROCESS_ID": "0", "JOIN_TIMEOUT": "1"}
        if fault != "port in use":
            other.close()
        config = "experiments/cogview/emoji.py:tokenizer,nano"
        command = f"-m cogjax.cli train --config {config} --distributed --workdir"
        run = subprocess.run(
            [sys.executable, *command.split(), tmp_path],
            env=os.environ | values,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    assert run.returncode == 2
    said = run.stderr.splitlines()[-1]
    assert said.startswith("cogjax: error: ") and message in said
    assert "Traceback" not in run.stderr
    TABLE.add("E5", fault, 1, 1)


@pytest.mark.parametrize("poison", [(20,), (20, 21)])
def test_updates_that_are_not_finite_are_skipped(tmp_path, poison):
    said = finish(tmp_path / "run", replace(RUN, poison=poison))[1]
    assert "step 21 is not finite: its update is skipped (examples 160 to 167)" in said
    bad = [row["bad_steps"] for row in rows(tmp_path / "run")]
    assert [i for i, n in enumerate(bad) if n] == list(poison)
    TABLE.add("F1", f"{len(poison)} NaN batches in a row", 1, 1)


def test_lasting_nan_stops_with_the_last_good_state(tmp_path):
    with Run(tmp_path / "run", replace(RUN, poison=tuple(range(20, 60)))) as run:
        assert run.wait() == [2]
        assert "updates in a row were not finite" in run.said()
    params, *_ = restore_params(run.workdir, "params")
    finish(tmp_path / "good", replace(RUN, steps=20))
    good, *_ = restore_params(tmp_path / "good", "params")
    np.testing.assert_array_equal(params["w"], good["w"])
    TABLE.add("F1", "NaN batches for ever", 1, 1)
