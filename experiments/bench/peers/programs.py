"""A program of a row, run when it is told to.

    PYTHON programs.py ROW PROGRAM THREADS [nano]

It prints what it is as one line of JSON. Then each line of input, "run" or "matmul", is
answered by a line of JSON.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

PACKAGES = ("jax", "torch", "transformers", "diffusers", "dalle-pytorch", "min-dalle")


class Run(NamedTuple):
    """run: does it once, its results ready. count: units of a run. parameters: of the
    network. gflop: what a run needs, 0 if nobody counted. prepare: comes before each
    run and is not measured.
    """

    run: Callable[[], Any]
    count: int
    parameters: int
    gflop: float = 0.0
    prepare: Callable[[], Any] = lambda: None


def made(maker: str, settings: dict[str, Any], nano: bool) -> Run:
    """The run of a program: `maker` is "module:function"."""
    module, name = maker.split(":")
    return getattr(importlib.import_module(module), name)(nano=nano, **settings)


def timed(run: Run) -> dict[str, float]:
    """Seconds by the clock and of processor time."""
    run.prepare()
    start, used = time.perf_counter(), time.process_time()
    run.run()
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}


def matmul_rate(product: Callable[[], Any], side: int) -> dict[str, float]:
    """GFLOP/s of a product of two squares, the best of three after one."""
    times = []
    for _ in range(4):
        start = time.perf_counter()
        product()
        times.append(time.perf_counter() - start)
    return {"gflops": 2e-9 * side**3 / min(times)}


def versions() -> dict[str, str]:
    """Versions of the packages that are here."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def serve(row: Any, place: int, nano: bool, out: Any) -> None:
    """Answers until the input ends."""
    program = row.programs[place]
    product = "ours:product" if program.is_ours else "torch_text:product"
    side = 128 if nano else 2048
    multiply = made(product, {"side": side}, nano).run
    run = made(program.maker, program.settings, nano)
    about = run._asdict() | {"versions": versions(), "python": sys.version.split()[0]}
    about = {key: value for key, value in about.items() if not callable(value)}
    print(json.dumps(about), file=out, flush=True)
    for line in sys.stdin:
        answer = timed(run) if line.strip() == "run" else matmul_rate(multiply, side)
        print(json.dumps(answer), file=out, flush=True)


def main() -> None:
    """Takes as many cores as there shall be threads, before any library looks."""
    from rows import ROWS

    name, place, threads, *nano = sys.argv[1:]
    cores = sorted(os.sched_getaffinity(0))[: int(threads)]
    os.sched_setaffinity(0, cores)
    # Libraries print to where the answers would go.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    row = next(row for row in ROWS if row.name == name)
    serve(row, int(place), bool(nano), out)


if __name__ == "__main__":
    main()
