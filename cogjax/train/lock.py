"""One trainer a workdir."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import jax

from cogjax.errors import UserError


@contextlib.contextmanager
def lock_workdir(workdir: Path) -> Iterator[None]:
    """Holds WORKDIR/.lock; UserError naming the holder if another trainer has it.

    The system frees the lock of a process that dies, however it dies. Process 0 holds
    it for all processes of a run.
    """
    if jax.process_index() > 0:
        yield
        return
    with (workdir / ".lock").open("a+") as file:
        _take(file, workdir)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _take(file, workdir: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(
            f"{workdir} is being trained by {holder}: wait for it, or choose another "
            f"workdir"
        ) from None
    except OSError as error:
        # Some network folders have no locks; training there is still useful.
        reason = error.strerror or error
        print(f"cogjax: {workdir} cannot be locked ({reason}): train there only once")
