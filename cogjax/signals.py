"""SIGINT and SIGTERM in the hands of an object for a while."""

import abc
import signal
import threading
from typing import Self


class SignalHandler(abc.ABC):
    """Within it `_note` gets SIGINT and SIGTERM; at its end the old handlers are back.

    It does nothing in a thread other than the main one: only there can Python handle
    signals.
    """

    def __enter__(self) -> Self:
        self._old = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: a handler that Python did not install (jax.distributed).
                old = signal.signal(number, self._note)
                self._old[number] = signal.SIG_DFL if old is None else old
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    @abc.abstractmethod
    def _note(self, number: int, frame) -> None:
        """What is done at a signal; it may come between any two lines."""
