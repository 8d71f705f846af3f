"""Progress of long work, on a terminal and in a log."""

import sys
import time

_SECONDS = 5.0


class Progress:
    """Callable (done, total, label): a bar on a terminal, else a line every 5 s."""

    def __enter__(self) -> "Progress":
        self._bar = self._task = None
        self._next_line = time.monotonic() + _SECONDS
        if sys.stderr.isatty():
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
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=label)
        elif time.monotonic() >= self._next_line or done == total:
            self._next_line = time.monotonic() + _SECONDS
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)
