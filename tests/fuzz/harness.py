"""One case: intact files, damage, perhaps new digests, reading, and what came of it."""

import random
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cogjax.errors import UserError

SECONDS, MEMORY_GIB, LINE = 20.0, 3.0, 3000
Files = dict[str, bytes]


@dataclass(frozen=True)
class Reader:
    """A reader of untrusted input.

    files: the intact ones by name. read: folder -> what the product gets out of it: of
    dicts, sequences, arrays and plain values. damage: (rng, files) -> files, changed
    once.
    sign: files -> files with digests that fit them, None where there are none: then a
    damaged value may be accepted, as long as it is of the right types and finite.
    refusals: exceptions that mean "refused".
    """

    name: str
    files: Files
    read: Callable[[Path], Any]
    damage: Callable[[random.Random, Files], Files]
    sign: Callable[[Files], Files] | None = None
    refusals: tuple[type[Exception], ...] = (UserError,)


@dataclass
class Found:
    """counts: of "refused", "accepted" and each failure. failures: (case, words)."""

    counts: Counter = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)


def fuzz(
    reader: Reader,
    n: int,
    seed: int,
    folder: Path,
    begin: Callable[[int], None] = lambda case: None,
    start: int = 0,
) -> Found:
    """Runs cases `start` to n - 1 of a seed; `begin` is told the number of each."""
    found, place = Found(), folder / "case"
    _write(place, reader.files)
    intact = reader.read(place)
    if fault := _odd(intact):
        raise AssertionError(f"{reader.name}: the intact files give {fault}")
    for case in range(start, n):
        begin(case)
        outcome, words = one(reader, f"{reader.name} {seed} {case}", place, intact)
        found.counts[outcome] += 1
        if outcome not in ("refused", "accepted"):
            found.failures.append((f"--seed {seed} case {case}", f"{outcome}: {words}"))
    shutil.rmtree(place)
    left = [path.name for path in folder.iterdir()]
    if left:
        found.counts["outside"] += 1
        found.failures.append((f"--seed {seed}", f"outside: {left}"))
    return found


def one(reader: Reader, key: str, place: Path, intact: Any) -> tuple[str, str]:
    """(outcome, words) of one case, which its key decides."""
    rng = random.Random(key)
    files, signs = dict(reader.files), reader.sign is not None and rng.random() < 0.5
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        try:
            files = reader.damage(rng, files)
        except Exception:  # What the damage before has made has no structure left.
            break
    if signs:
        try:
            files = reader.sign(files)
        except Exception:
            signs = False
    _write(place, files)
    before = _listing(place)
    # This process's time: another one may have the machine.
    start, peak = time.process_time(), _peak_gib()
    try:
        value = reader.read(place)
        outcome, words = "accepted", ""
    except reader.refusals as error:
        outcome, words = "refused", str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "traceback", f"{type(error).__name__}: {str(error)[:200]}"
    if time.process_time() - start > SECONDS:
        return "hang", f"{time.process_time() - start:.0f} s"
    if _peak_gib() - peak > MEMORY_GIB:
        return "memory", f"{_peak_gib() - peak:.1f} GiB"
    if _listing(place) != before:
        return "outside", "files of the case have changed"
    if outcome == "refused":
        long = "\n" in words.strip() or len(words) > LINE or not words.strip()
        return ("words", words[:200]) if long else (outcome, "")
    if fault := _odd(value):
        return "silent", fault
    vouched = reader.sign is None or signs
    if not vouched and not same(value, intact):
        return "silent", "accepted with another value, which no digest vouches for"
    return outcome, ""


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, arrays bit by bit."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and a == b


def _odd(value: Any, depth: int = 0) -> str:
    """What is wrong with an accepted value, in words."""
    if depth > 40:
        return "nests too deep"
    if isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, np.ndarray):
        if value.nbytes > 1 << 28:
            return f"an array of {value.nbytes} bytes"
        finite = value.dtype.kind not in "fc" or np.isfinite(value).all()
        return "" if finite else "an array that is not finite"
    else:
        plain = value is None or isinstance(
            value, str | bytes | int | float | np.number
        )
        return "" if plain else f"a {type(value).__name__}"
    return next(filter(None, (_odd(part, depth + 1) for part in parts)), "")


def _write(place: Path, files: Files) -> None:
    shutil.rmtree(place, ignore_errors=True)
    for name, data in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _listing(place: Path) -> dict[str, int]:
    return {str(p): p.stat().st_size for p in place.rglob("*") if p.is_file()}


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
