"""Signals that end a command, but not in the middle of what belongs together."""

import contextlib
from collections.abc import Iterator

from cogjax.signals import SignalHandler


class Interrupts(SignalHandler):
    """Within it SIGTERM interrupts as SIGINT does: by KeyboardInterrupt."""

    def __init__(self):
        self._held = self._waiting = False

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
