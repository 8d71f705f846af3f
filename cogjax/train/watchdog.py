"""Ends a run that hangs, with the stack of every thread.

A peer that is alive but stuck keeps its heartbeats up, so JAX waits for it for ever.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections import deque
from pathlib import Path

import jax

EXIT_STUCK = 18
_MEDIANS = 10
_LONG = 30
_POLL = 1.0  # seconds


class Watchdog:
    """A thread that exits the process with status 18 when no step ends in time.

    A step may take `timeout` seconds or 10 median steps, whichever is more; compiling,
    restoring, evaluating, sampling and saving 30 x `timeout`. 0 is off.
    """

    def __init__(self, workdir: Path, timeout: float):
        self._workdir, self._timeout = workdir, timeout
        self._steps: deque[float] = deque(maxlen=64)
        self._last = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, name="cogjax-watchdog", daemon=True
        )

    def __enter__(self):
        self.expect_long()
        if self._timeout:
            self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        if self._timeout:
            self._thread.join()

    def expect_long(self) -> None:
        """Allows more time, until the next `step`."""
        self._deadline = time.monotonic() + _LONG * self._timeout

    def step(self) -> None:
        """Notes that a step has ended."""
        now = time.monotonic()
        self._steps.append(now - self._last)
        self._last = now
        usual = _MEDIANS * statistics.median(self._steps)
        self._deadline = now + max(self._timeout, usual)

    def _watch(self) -> None:
        last = time.monotonic()
        while (left := self._deadline - last) > 0:
            if self._done.wait(min(left, _POLL)):
                return
            now = time.monotonic()
            if now - last > 2 * _POLL:
                # This thread slept too: the process was stopped (Ctrl-Z), not stuck.
                self._deadline += now - last
            last = now
        self._end()

    def _end(self) -> None:
        name = f"stacks-{jax.process_index()}-{os.getpid()}.txt"
        waited = time.monotonic() - self._last
        print(
            f"cogjax: error: no step ended for {waited:.0f} s: the stacks of all "
            f"threads are in {self._workdir / name}; exiting with status {EXIT_STUCK}",
            file=sys.stderr,
            flush=True,
        )
        faulthandler.dump_traceback(sys.stderr)
        try:
            with (self._workdir / name).open("w") as file:
                faulthandler.dump_traceback(file)
        finally:
            # Not sys.exit: the main thread hangs and would never notice.
            os._exit(EXIT_STUCK)
