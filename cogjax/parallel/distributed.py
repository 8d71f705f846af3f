"""Many processes as one JAX program: TPU pods, SLURM jobs, or any hosts."""

import os

import jax

from cogjax.errors import UserError

VARIABLES = ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID")


def initialize(patience: int = 300) -> None:
    """Joins the other processes; must run before anything asks JAX for devices.

    patience: seconds that a process which is done waits for the others to be.

    COORDINATOR_ADDRESS (host:port of process 0), NUM_PROCESSES and PROCESS_ID decide if
    they are set. Otherwise JAX looks for a Cloud TPU, SLURM, Open MPI or Kubernetes.

    Raises:
      UserError: only some are set or not to whole numbers, or nothing was found.
    """
    found = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    if found and len(found) < len(VARIABLES):
        missing = ", ".join(name for name in VARIABLES if name not in found)
        raise UserError(
            f"{', '.join(found)} is set but {missing} is not: set all three"
        )
    try:
        if found:
            address, count, index = found.values()
            where = address, int(count), int(index)
            jax.distributed.initialize(*where, shutdown_timeout_seconds=patience)
        else:
            jax.distributed.initialize(shutdown_timeout_seconds=patience)
    except (ValueError, RuntimeError) as error:
        advice = f"set {', '.join(VARIABLES)}" if not found else "check its variables"
        raise UserError(
            f"cannot join the other processes ({error}): {advice}, or leave out "
            f"--distributed"
        ) from error
