"""Agreement between the processes of a run; a single process agrees at once."""

import contextlib
import hashlib
import json
import os
import platform
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cogjax.errors import UserError
from cogjax.signals import SignalHandler

_STOP = "cogjax/stop"


def any_process(flag: bool) -> bool:
    """True on every process if `flag` is true on one; all must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def say(line: str) -> None:
    """Prints a line once, whatever the number of processes."""
    if jax.process_index() == 0:
        print(f"cogjax: {line}", flush=True)


def barrier(name: str) -> None:
    """Waits for all processes."""
    multihost_utils.sync_global_devices(f"cogjax {name}")


def check_agreement(
    run_config: Mapping[str, Any] | None, fingerprint: str, config: Any
) -> None:
    """UserError on every process, naming what differs between them, before any step.

    It compares the run's config key by key, the training section, the data's
    fingerprint, cogjax's source code and the versions of Python and JAX.
    """
    if jax.process_count() == 1:
        return
    facts = _facts(run_config, fingerprint, config)
    ours = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    length = int(np.max(multihost_utils.process_allgather(np.array(ours.size))))
    padded = np.pad(ours, (0, length - ours.size), constant_values=ord(" "))
    rows = multihost_utils.process_allgather(padded)
    everyone = [json.loads(row.tobytes()) for row in np.asarray(rows)]
    for process, theirs in enumerate(everyone[1:], 1):
        for key in {**everyone[0], **theirs}:
            first, other = everyone[0].get(key), theirs.get(key)
            if first != other:
                raise UserError(
                    f"the processes differ in {key}: {first} on process 0, {other} on "
                    f"process {process}; start all with the same command and code"
                )


def _facts(run_config, fingerprint: str, config: Any) -> dict[str, str]:
    """Key -> value in words, in the order in which differences are to be named."""
    return {
        **flat("config", run_config or {}),
        **flat("config.train", vars(config)),
        "data fingerprint": fingerprint,
        "cogjax source": source_digest(),
        "jax": jax.__version__,
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def flat(prefix: str, value: Any) -> dict[str, str]:
    """Dotted key -> value in words, of nested sections."""
    if not isinstance(value, Mapping):
        return {prefix: str(value)[:200]}
    return {
        path: text
        for key, item in sorted(value.items())
        for path, text in flat(f"{prefix}.{key}", item).items()
    }


def source_digest() -> str:
    """Digest of cogjax's code, in twelve hexadecimal digits."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class StopSignal(SignalHandler):
    """Turns SIGTERM and SIGINT into a step after which all processes stop.

    The first signal is remembered, a second one kills as usual. With several processes
    the one that was told publishes "stop after my step + 2". A process begins a step
    only when all have begun the one before the last, so none is past that step and
    each reads the notice before it gets there.
    """

    def __init__(self):
        self._received, self._stop_after = False, None

    def _note(self, number, frame) -> None:
        del frame
        self._received = True
        for each in self._old:
            signal.signal(each, signal.SIG_DFL)
        # Not print: the signal may have come in the middle of one.
        name = signal.Signals(number).name
        text = f"cogjax: {name}: saving after this step; a second signal ends at once\n"
        os.write(2, text.encode())

    def reached(self, step: int) -> bool:
        """Whether all processes stop after `step`; to be called after every step."""
        if jax.process_count() == 1:
            return self._received
        if self._stop_after is None:
            self._stop_after = _agree_stop(step + 2 if self._received else None)
        return self._stop_after is not None and step >= self._stop_after


def _agree_stop(proposal: int | None) -> int | None:
    """The step after which to stop, if a process has proposed one; the first counts."""
    # JAX has no public way to its key-value store; Orbax goes the same way.
    from jax._src.distributed import global_state

    if proposal is not None:
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # Another was first.
            global_state.client.key_value_set(f"{_STOP}/step", str(proposal))
    found = global_state.client.key_value_dir_get(_STOP)
    return int(found[0][1]) if found else None
