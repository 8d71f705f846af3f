"""Progress of long work, on a terminal and in a log."""

import sys
import time

_SECONDS = 5.0


class Progress:
    """Callable (done, total, label): a bar on a terminal, else a line every 5 s.

    The first call is a line of its own, which says where `out` is, if that is given.
    bar: False for lines on a terminal too, where another bar follows.
    """

    def __init__(self, out: object = None, bar: bool = True):
        self._out, self._drawn = out, bar and sys.stderr.isatty()

    def __enter__(self) -> "Progress":
        self._bar = self._task = self._started = None
        self._next_line = time.monotonic() + _SECONDS
        if self._drawn:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(console=Console(stderr=True))
            self._bar.start()
            # Pulses until the first call: loading and compiling have no known length.
            self._task = self._bar.add_task("preparing", total=None)
        return self

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, label: str) -> None:
        now, first = time.monotonic(), self._started is None
        if first or self._label != label:
            self._started, self._label, self._before = now, label, done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=label)
        if self._bar is None and (now >= self._next_line or done == total) or first:
            self._next_line = now + _SECONDS
            where = f", into {self._out}" if first and self._out else ""
            line = f"{label}: {done} of {total}{where}{self._left(now, done, total)}"
            self._print(line)

    def _left(self, now: float, done: int, total: int) -> str:
        """How long the rest takes at the speed so far, if that is half a minute."""
        made = done - self._before
        seconds = (total - done) * (now - self._started) / made if made > 0 else 0
        return f", {seconds / 60:.0f} min left" if seconds > 30 else ""

    def _print(self, line: str) -> None:
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.console.print(line, soft_wrap=True, highlight=False)
