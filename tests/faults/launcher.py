"""Starts processes of a tiny training run, kills them on a schedule, and never hangs.

Every wait has a limit after which the processes are killed with SIGKILL: a process in a
collective heeds nothing else.
"""

import atexit
import contextlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cogjax.train.manifest import steps
from tests.faults.worker import Options, command, log_path, main

# Seconds: a run compiles as for users, which takes minutes on a busy core.
LIMIT = 600.0
# Compiled programs, so that only the first process of a kind compiles.
_CACHE = tempfile.mkdtemp(prefix="cogjax-faults-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.worker"])


class Run:
    """The processes of one start of a run; `with` kills what is left of them.

    options: of all processes, or one a process.
    """

    def __init__(self, workdir: Path, options: Options | Sequence[Options], count=1):
        self.workdir = workdir
        every = [options] * count if isinstance(options, Options) else options
        port = free_port() if count > 1 else 0
        self._processes = [
            _CONTEXT.Process(
                target=main, args=(str(workdir), each, _CACHE, i, count, port)
            )
            for i, each in enumerate(every)
        ]
        self._seen = [len(self.log(i)) for i in range(count)]

    def __enter__(self):
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_):
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.join()

    def kill(self, number: int, *processes: int) -> None:
        """Sends a signal to some processes, by default to the first."""
        for process in processes or (0,):
            os.kill(self._processes[process].pid, number)

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes]

    def wait_one(self, process: int, limit: float = LIMIT) -> int:
        """Exit status of one process; fails after `limit` seconds."""
        self._processes[process].join(limit)
        status = self._processes[process].exitcode
        assert status is not None, f"{process} hangs:\n{self.said(process)}"
        return status

    def wait(self, limit: float = LIMIT) -> list[int]:
        """Exit statuses (negative: of a signal); fails after `limit` seconds."""
        end = time.monotonic() + limit
        count = len(self._processes)
        return [
            self.wait_one(i, max(end - time.monotonic(), 0.1)) for i in range(count)
        ]

    def wait_for_step(self, number: int) -> None:
        """Returns once this start has logged a step; fails if it ends before."""
        self.wait_until(lambda: self._step() >= number)

    def _step(self) -> int:
        return int((re.findall(r"^step (\d+) ", self.said(), re.M) or [0])[-1])

    def wait_for_text(self, text: str, process: int = 0) -> None:
        """Returns once a process has printed `text`."""
        self.wait_until(lambda: text in self.said(process))

    def wait_until(self, reached) -> None:
        """Returns once `reached()`; fails if a process ends before."""
        end = time.monotonic() + LIMIT
        while not reached():
            alive = all(p.exitcode is None for p in self._processes)
            assert alive and time.monotonic() < end, self.said(0)
            time.sleep(0.002)

    def said(self, process: int = 0) -> str:
        """What a process has printed since this start."""
        return self.log(process)[self._seen[process] :]

    def log(self, process: int) -> str:
        """What a process has printed over all starts."""
        path = log_path(self.workdir, process)
        return path.read_text() if path.exists() else ""


class Command:
    """A process of a command line; `with` kills it if it is still there."""

    def __init__(self, words: Sequence[str], log: Path):
        self._log = log
        words = [str(word) for word in words]
        self._process = _CONTEXT.Process(target=command, args=(words, log, _CACHE))

    def __enter__(self):
        self._process.start()
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.join()

    def end(self, number: int = 0, after: float = LIMIT) -> int:
        """Exit status; after so many seconds it gets a signal, if it is to get one."""
        self._process.join(after)
        if number and self._process.exitcode is None:
            os.kill(self._process.pid, number)
        self._process.join(LIMIT)
        assert self._process.exitcode is not None, f"it hangs:\n{self.said()}"
        return self._process.exitcode

    def said(self) -> str:
        """What it has printed; a process may be killed before it opens its log."""
        return self._log.read_text() if self._log.exists() else ""


def finish(workdir: Path, options: Options, count: int = 1) -> tuple[str, str]:
    """Runs to the end; returns (digests of the state, what process 0 printed)."""
    with Run(workdir, options, count) as run:
        assert run.wait() == [0] * count, run.said()
        digests = [(workdir / f"digest-{i}").read_text() for i in range(count)]
        return " ".join(digests), run.said()


def rows(workdir: Path) -> list[dict]:
    """The metrics of the steps so far; a row being written is left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (workdir / "metrics.jsonl").read_text().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [row for row in found if "loss" in row]


def last_step(workdir: Path) -> int:
    """The last step that was logged."""
    return max((row["step"] for row in rows(workdir)), default=0)


def resumed_at(said: str) -> int:
    """The step that a start resumed at; 0 for a new run."""
    found = re.findall(r"resuming at step (\d+)", said)
    return int(found[-1]) if found else 0


def newest(workdir: Path) -> int:
    """The newest committed step on disk."""
    return max(steps(workdir / "checkpoints"), default=0)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def kill_often(workdir: Path, options: Options, whole: str, kills: int) -> str:
    """Kills a run `kills` times at random steps, then lets it end Equal to `whole`.

    Returns the most steps that a kill cost, in words.
    """
    rng, lost, found = random.Random(kills), [], 0
    for _ in range(kills):
        with Run(workdir, options) as run:
            run.wait_for_step(found + rng.randrange(2, options.save_every + 2))
            run.kill(signal.SIGKILL)
            assert run.wait() == [-signal.SIGKILL]
            assert resumed_at(run.said()) == found
        found = newest(workdir)
        lost.append(last_step(workdir) - found)
    digest, said = finish(workdir, options)
    assert (digest, resumed_at(said)) == (whole, found)
    check_rows(workdir, options.steps)
    # A kill inside a save costs the interval before it, too.
    assert max(lost) <= 2 * options.save_every
    return f"{max(lost)} of {options.save_every}"


def check_rows(workdir: Path, count: int) -> None:
    """No step is missing from the metrics and none is there twice."""
    assert [row["step"] for row in rows(workdir)] == list(range(1, count + 1))


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Flips, zeroes, truncates, empties or deletes; changes at least one byte."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    if kind == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        page = slice(at // 4096 * 4096, at // 4096 * 4096 + 4096)
        data[page] = bytes(len(data[page]))
    elif kind == "truncate":
        del data[at:]
    path.write_bytes(b"" if kind == "empty" else data)
    if kind == "delete":
        path.unlink()


class Table:
    """Faults tried, survived, and the work that was lost, a line a kind."""

    def __init__(self):
        self.lines: list[str] = []

    def add(self, row: str, fault: str, tried: int, survived: int, lost: str = "-"):
        """lost: steps done again, the most of all tries."""
        line = f"{row:4} {fault:52} {tried:5} {survived:8}   {lost}"
        self.lines.append(line)
        assert survived == tried, line


TABLE = Table()
