"""The command of `tests.fuzz`: each reader in a process of its own, and a table."""

import argparse
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

# Cases are small folders, made and removed: on a disk that is nearly all of the time.
_MEMORY = Path("/dev/shm")
# Seconds without a new case: one waits, such as for a pipe, or never ends.
_PATIENCE = 120
OUTCOMES = ("refused", "accepted", "silent", "traceback", "words", "hang", "memory")
OUTCOMES += ("outside", "crash")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="cases of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="READER", help="part of a reader's name")
    parser.add_argument("--child", metavar="READER", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from tests.fuzz.readers import READERS

    if args.child:
        return child(READERS[args.child](), args)
    names = [name for name in READERS if args.only is None or args.only in name]
    print(f"{'':16}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    failures = []
    for name in names:
        counts, found = watch(name, args.n, args.seed)
        failures += [f"{name}, {line}" for line in found]
        row = "".join(f"{counts.get(outcome, 0):10}" for outcome in OUTCOMES)
        print(f"{name:16}{row}", flush=True)
    print("\n".join(failures) or "no failures")
    return bool(failures)


def child(reader, args) -> int:
    """Prints a line for each case that begins, and then each outcome."""
    import resource

    from tests.fuzz.harness import fuzz

    limit = 24 << 30  # Bytes of address space, of which JAX reserves much.
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    memory = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        begin = lambda case: print("case", case, flush=True)  # noqa: E731
        found = fuzz(reader, args.n, args.seed, Path(folder), begin, args.start)
    for outcome, count in found.counts.items():
        print("count", outcome, count)
    for case, words in found.failures:
        print("failure", case, " ".join(words.split()))
    return 0


def watch(name: str, n: int, seed: int) -> tuple[dict[str, int], list[str]]:
    """Counts and failures of a reader; its process is ended where a case hangs.

    A process that dies loses the outcomes before, so these are run in the next one.
    """
    counts: dict[str, int] = {}
    failures: list[str] = []
    spans = [(0, n)]
    while spans:
        start, stop = spans.pop()
        case, lines, died = _run(name, start, stop, seed)
        if died:
            counts[died] = counts.get(died, 0) + 1
            failures.append(f"--seed {seed} case {case}: {died}")
            spans += [
                span for span in ((start, case), (case + 1, stop)) if len(range(*span))
            ]
            continue
        for line in lines:
            word, rest = line.split(" ", 1)
            if word == "count":
                outcome, count = rest.split()
                counts[outcome] = counts.get(outcome, 0) + int(count)
            elif word == "failure":
                failures.append(rest)
    return counts, failures


def _run(name: str, start: int, stop: int, seed: int) -> tuple[int, list[str], str]:
    """(the last case that began, lines of the outcomes, "hang" or "crash")."""
    words = [sys.executable, "-m", "tests.fuzz", "--child", name, "--seed", str(seed)]
    words += ["--n", str(stop), "--start", str(start)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    case, lines = start, []
    while select.select([process.stdout], [], [], _PATIENCE)[0]:
        line = process.stdout.readline()
        if not line:
            return case, lines, "crash" if process.wait() else ""
        if line.startswith("case "):
            case = int(line.split()[1])
        else:
            lines.append(line.strip())
    process.kill()
    return case, lines, "hang"


if __name__ == "__main__":
    sys.exit(main())
