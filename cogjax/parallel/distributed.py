"""Many processes as one JAX program: TPU pods, SLURM jobs, or any hosts."""

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator

import jax

from cogjax.errors import UserError

VARIABLES = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")


def initialize(patience: int = 300) -> None:
    """Joins the other processes; must run before anything asks JAX for devices.

    patience: seconds that a finished process waits for the others.

    COORDINATOR_ADDRESS (host:port of process 0), NUM_PROCESSES and PROCESS_ID decide if
    they are set. Otherwise JAX looks for a Cloud TPU, SLURM, Open MPI or Kubernetes.
    If not all have joined after JOIN_TIMEOUT seconds (60 with these variables, 300
    otherwise) the process says so and ends with status 2.

    Raises:
      UserError: only some are set or not to whole numbers, nothing was found, the port
        is taken, or other processes are told another number of them.
    """
    found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if found and len(found) < len(VARIABLES):
        missing = ", ".join(name for name in VARIABLES if name not in found)
        raise UserError(
            f"{', '.join(found)} is set but {missing} is not: set all three"
        )
    try:
        limit = int(os.environ.get("JOIN_TIMEOUT") or (60 if found else 300))
        where = _numbers(*found.values()) if found else ()
        if found and where[2] == 0:
            _check_port(where[0])
        # JAX would abort with a stack of C++ after its own limit.
        times = {
            "initialization_timeout": limit + 60,
            "shutdown_timeout_seconds": patience,
        }
        with _deadline(limit, found):
            jax.distributed.initialize(*where, **times)
    except (ValueError, RuntimeError) as error:
        advice = f"set {', '.join(VARIABLES)}" if not found else "check its variables"
        raise UserError(
            f"cannot join the other processes ({error}): {advice}, or leave out "
            f"--distributed"
        ) from error
    if found and jax.process_count() != where[1]:
        raise UserError(
            f"NUM_PROCESSES is {where[1]} in process {where[2]}, but "
            f"{jax.process_count()} in process 0: set it alike"
        )


def _numbers(address: str, count: str, index: str) -> tuple[str, int, int]:
    """The variables as JAX takes them; ValueError for one that numbers no process."""
    if not 0 <= int(index) < int(count):
        raise ValueError(f"PROCESS_ID is {index}, expected 0 to NUM_PROCESSES - 1")
    return address, int(count), int(index)


def _check_port(address: str) -> None:
    """UserError if another process has the coordinator's port.

    JAX says so too, but the process may then end with a segmentation fault.
    """
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        # The port of a run that has just ended is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(
                f"process 0 cannot be at {address} ({error.strerror}): its port is "
                f"taken on this host: choose another in all processes"
            ) from error


@contextlib.contextmanager
def _deadline(seconds: int, found: dict[str, str]) -> Iterator[None]:
    """Ends the process with a line if the block takes longer: it cannot be stopped."""
    address, count, _ = found.values() if found else ("the coordinator", "the", "")

    def give_up() -> None:
        print(
            f"cogjax: error: after {seconds} s {address} and {count} processes have "
            f"not met: start the missing ones, correct COORDINATOR_ADDRESS or "
            f"NUM_PROCESSES, or set JOIN_TIMEOUT to more seconds",
            file=sys.stderr,
            flush=True,
        )
        os._exit(2)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
