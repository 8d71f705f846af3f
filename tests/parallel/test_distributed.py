import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from cogjax.errors import UserError
from cogjax.parallel.distributed import VARIABLES, initialize

ROOT = Path(__file__).parents[2]


@pytest.fixture
def calls(monkeypatch):
    """What jax.distributed.initialize is called with; no variable is set."""
    found = []
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *words, **named: found.append(words)
    )
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    return found


def set_all(monkeypatch, *values):
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)


def test_the_environment_decides(calls, monkeypatch):
    initialize()
    # In another order than the arguments of JAX.
    monkeypatch.setenv("PROCESS_ID", "1")
    monkeypatch.setenv("NUM_PROCESSES", "3")
    monkeypatch.setenv("COORDINATOR_ADDRESS", "host:1234")
    initialize()
    assert calls == [(), ("host:1234", 3, 1)]


def test_half_an_environment(calls, monkeypatch):
    set_all(monkeypatch, "host:1234", "2", "")
    with pytest.raises(UserError, match="is set but PROCESS_ID is not: set all three"):
        initialize()
    assert not calls


def test_a_number_that_is_none(calls, monkeypatch):
    set_all(monkeypatch, "host:1234", "two", "0")
    with pytest.raises(UserError, match="cannot join .*'two'.* check its variables"):
        initialize()


def test_nothing_to_join(calls, monkeypatch):
    def fail(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(UserError, match="set COORDINATOR_ADDRESS, NUM_PROCESSES, PRO"):
        initialize()


JOIN = """
import jax
from cogjax.parallel.distributed import initialize
initialize()
print(jax.process_index(), jax.process_count(), len(jax.devices()))
"""


def test_a_process_beyond_the_last(calls, monkeypatch):
    set_all(monkeypatch, "host:1234", "2", "2")
    with pytest.raises(UserError, match="PROCESS_ID is 2, expected 0 to NUM_PROCESSES"):
        initialize()
    assert not calls


def test_another_number_of_processes(calls, monkeypatch):
    set_all(monkeypatch, "host:1234", "4", "1")
    with pytest.raises(UserError, match="is 4 in process 1, but 3 in process 0"):
        initialize()


@pytest.mark.slow
def test_two_processes_meet():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    started = []
    for index in ("0", "1"):
        values = dict(zip(VARIABLES, (address, "2", index), strict=True))
        words = [sys.executable, "-c", JOIN]
        environment = os.environ | values | {"XLA_FLAGS": ""}
        started.append(
            subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
            )
        )
    try:
        shown = [process.communicate(timeout=120)[0].split() for process in started]
    finally:
        for process in started:
            process.kill()
    assert shown == [["0", "2", "2"], ["1", "2", "2"]]
