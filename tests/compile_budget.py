"""Each test file makes no more programs than `compile_budget.json` says.

Tracing and compiling are what the fast tests spend their time on, so their number is
held: each file is listed with its own, and a new one may make a default. A program
counts whether XLA compiles it or loads it, so a warm cache changes nothing. Programs of
session fixtures count for no file. After earlier files in one process a file makes
fewer, never more; `pytest --record-compiles FILES` starts each anew and writes what it
found.
"""

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUDGET = Path(__file__).with_suffix(".json")
# Programs of a file that is not listed.
DEFAULT = 20
# Other versions of JAX make other helper programs.
MEASURED_ON = "0.10."
EVENT = "/jax/core/compile/backend_compile_duration"


class Counter:
    """Counts programs while no session fixture is made."""

    def __init__(self):
        self.found, self.outside, self._listens = 0, 0, False

    def listen(self):
        """Registers with JAX, once, where something has imported it."""
        if "jax" in sys.modules and not self._listens:
            from jax import monitoring

            monitoring.register_event_duration_secs_listener(self._hear)
            self._listens = True

    def _hear(self, event, duration, **_):
        self.found += event == EVENT and not self.outside

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        session = fixturedef.scope == "session"
        self.outside += session
        try:
            return (yield)
        finally:
            self.outside -= session


def programs() -> dict[Path, int]:
    """How many each listed file makes."""
    return {ROOT / name: n for name, n in json.loads(BUDGET.read_text()).items()}


def check(request, counter: Counter):
    """A generator around all tests of a file, for a fixture of its module."""
    record = request.config.option.record_compiles
    if record and "jax" in sys.modules:
        import jax

        jax.clear_caches()
    counter.listen()
    before = counter.found
    yield
    found = counter.found - before
    name = request.path.relative_to(ROOT).as_posix()
    budget = json.loads(BUDGET.read_text()) if BUDGET.is_file() else {}
    if record:
        budget[name] = found
        BUDGET.write_text(json.dumps(budget, indent=2, sort_keys=True) + "\n")
        return
    if not importlib.metadata.version("jax").startswith(MEASURED_ON):
        return
    allowed = budget.get(name, DEFAULT)
    assert found <= allowed, (
        f"{name} made {found} programs, {allowed} are allowed: share jitted functions, "
        "make fixtures of numpy, or record more (tests/compile_budget.py)"
    )
