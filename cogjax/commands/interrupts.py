"""Signals that end a command, but not in the middle of what belongs together."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupts:
    """Within it SIGTERM interrupts as SIGINT does: by KeyboardInterrupt."""

    def __enter__(self) -> "Interrupts":
        self._held = self._waiting = False
        self._old = {}
        # Only there can Python handle signals.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: a handler that Python did not install.
                old = signal.signal(number, self._note)
                self._old[number] = signal.SIG_DFL if old is None else old
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Work that is finished first; an interrupt comes after it."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self._waiting:
            self._waiting = False
            raise KeyboardInterrupt

    def _note(self, number, frame) -> None:
        del number, frame
        if not self._held:
            raise KeyboardInterrupt
        self._waiting = True
