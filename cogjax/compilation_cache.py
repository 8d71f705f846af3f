"""Compiled programs are kept on disk, so that only the first run of all waits for XLA.

JAX's persistent cache, which is off unless someone names a folder, with a folder of the
user's. What the user sets goes first; JAX_ENABLE_COMPILATION_CACHE=0 turns it off.
"""

import contextlib
import hashlib
import os
import platform
import re
import sys
from pathlib import Path

_MAX_BYTES = 2**30
_MIN_SECONDS = 0.1


def enable() -> None:
    """Turns the cache on unless a folder is set already or none can be written.

    Before JAX is imported it is left unimported.
    """
    jax, folder = sys.modules.get("jax"), _folder()
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or not _may_write(folder):
        return
    if jax and jax.config.jax_compilation_cache_dir is not None:
        return
    for name, value in (
        ("jax_compilation_cache_dir", str(folder)),
        ("jax_compilation_cache_max_size", _MAX_BYTES),
        ("jax_persistent_cache_min_compile_time_secs", _MIN_SECONDS),
    ):
        if name.upper() in os.environ:
            continue
        if jax:
            jax.config.update(name, value)
        else:
            os.environ[name.upper()] = str(value)


def _folder() -> Path:
    """A folder for this kind of processor: homes are shared between machines, and what
    is compiled for one may use instructions that another lacks.
    """
    kind = platform.machine()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        kind += next((x for x in lines if x.startswith(("flags", "Features"))), "")
    name = hashlib.sha256(kind.encode()).hexdigest()[:8]
    return user_cache() / "xla" / name


def user_cache() -> Path:
    """The folder in the user's cache for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base), "cogjax")


def _may_write(folder: Path) -> bool:
    """Whether the folder, or the nearest one above it that exists, can be written."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    # Not absolute: there is no home.
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return folder.is_absolute() and writable


def in_words(warning: str) -> str:
    """What JAX says of its cache, in one line; "" for any other warning.

    A program whose file was cut by a full disk is never written again.
    """
    kind = "Error (reading|writing) persistent compilation cache entry for '(.*?)': "
    found = re.match(kind, warning)
    if not found:
        return ""
    folder = sys.modules["jax"].config.jax_compilation_cache_dir
    if found[1] == "reading":
        return f"{folder} has a damaged {found[2]}, compiled anew: empty that folder"
    reason = " ".join(warning[found.end() :].split())[:200]
    return f"{folder} cannot keep {found[2]}, which every run compiles: {reason}"
