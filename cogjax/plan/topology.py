"""TPUs that this machine does not have, and what their compiler complains about."""

import glob
import importlib.util
import os
import re
import sys
from typing import Any, NamedTuple

import jax

from cogjax.errors import UserError
from cogjax.plan.chips import Chip

# What is said of a program that was laid out, and of one that was given up before.
_TOO_LARGE = re.compile(
    r"(?:Used |required for HLO temporaries \()(?P<size>[\d.]+)(?P<unit>[KMG])"
    r"(?: of [\d.]+[KMG] hbm|\) exceeds available HBM)"
)


class Pod(NamedTuple):
    """Chips of a topology such as "v5p:4x4x8", and a mesh over them."""

    mesh: Any
    chip: Chip
    topology: str


def can_compile(chip: Chip) -> bool:
    """Whether programs for the chip can be compiled here."""
    return chip.is_tpu and bool(importlib.util.find_spec("libtpu"))


def tpus(topology: str) -> list[Any]:
    """Devices of a TPU topology; UserError if libtpu does not know it."""
    from jax.experimental import topologies

    _quiet()
    try:
        # The two cores of a v4 chip act as one device, as they do when a program runs.
        more = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
        described = topologies.get_topology_desc(topology, platform="tpu", **more)
        return described.devices
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(
            f"libtpu does not know topology {topology}: {reason}"
        ) from error


def _quiet() -> None:
    """Keeps libtpu from asking a metadata server, logging that, and locking others."""
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")
    os.environ.setdefault("TPU_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/*"):
        # No TPU VM: libtpu looks for this host's TPU, and says at length that there is
        # none. Any will do: a topology is described alike.
        os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
        os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")


def compile_or_size(lowered: Any) -> Any:
    """The compiled program; if it does not fit a chip, the bytes it would need."""
    print("compiling, which may take minutes", file=sys.stderr, flush=True)
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        found = _TOO_LARGE.search(str(error))
        if not found:
            raise
        return float(found["size"]) * 2.0 ** {"K": 10, "M": 20, "G": 30}[found["unit"]]
