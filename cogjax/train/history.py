"""What each call of `cogjax train` on a run was: its config, versions and devices."""

import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from cogjax.train.metrics import is_moment, read_lines
from cogjax.train.processes import flat, source_digest

_FILE = "sessions.jsonl"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "grain")


def note_session(
    workdir: Path, step: int, config: Mapping[str, Any] | None, mesh: Mesh
) -> None:
    """Adds a line to WORKDIR/sessions.jsonl; step: that the session starts after."""
    devices = mesh.devices.reshape(-1)
    line = {
        "step": step,
        "time": round(time.time(), 3),
        "config": {key[1:]: text for key, text in flat("", config or {}).items()},
        "machine": {
            "devices": f"{len(devices)} x {devices[0].device_kind}",
            "mesh": ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items()),
            "processes": str(jax.process_count()),
            "python": platform.python_version(),
            "cogjax source": source_digest(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
    }
    with (workdir / _FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_sessions(workdir: Path) -> Iterator[dict[str, Any]]:
    """The lines of `note_session`, but for those that a crash has damaged."""
    return filter(_is_session, read_lines(workdir / _FILE))


def _is_session(found: Any) -> bool:
    if not isinstance(found, dict):
        return False
    texts = (found.get("config"), found.get("machine"))
    return is_moment(found.get("step"), found.get("time")) and all(
        isinstance(x, dict) for x in texts
    )
