"""Handlers of signals, while an object has them and afterwards."""

import signal
import threading

import pytest

from cogjax.signals import SignalHandler


class Noted(SignalHandler):
    def __init__(self):
        self.numbers = []

    def _note(self, number, frame):
        self.numbers.append(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_old_handler_is_back_even_after_an_error(number):
    def ours(number, frame): ...

    before = signal.signal(number, ours)
    noted = Noted()
    try:
        with pytest.raises(ValueError, match="full"), noted:
            signal.raise_signal(number)
            raise ValueError("the disk is full")
        assert noted.numbers == [number] and signal.getsignal(number) is ours
    finally:
        signal.signal(number, before)


def test_a_thread_leaves_the_handlers_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Noted():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before] and signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_python_did_not_install_becomes_the_default(monkeypatch):
    calls = []
    monkeypatch.setattr(signal, "signal", lambda *given: calls.append(given))
    with Noted():
        calls.clear()
    assert calls == [(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGTERM)]
