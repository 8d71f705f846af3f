"""Our speed beside that of other libraries, all in one table.

    python experiments/bench/peers --out peers
    python experiments/bench/peers --out peers --rows train-mix sample-mix-8 --runs 9
    python experiments/bench/peers --out peers-nano --nano

The first makes an environment of the peers' own in `peers/env` (2 GB), measures every
row, and writes `peers/peers.json` and `peers/peers.md` after each. The same command
goes on where it was stopped; rows that --rows names are measured again.

The programs of a row are all kept in memory and take turns, ours in this interpreter,
with the same cores and the same allocator setting: huge pages, unless GLIBC_TUNABLES
says otherwise. Behind each run each program measures its library's own rate of matrix
products. What others used of the cores is read from the system. Transformers have the
sizes of `cogjax bench train --size reference`. `rows.py` says what is equal in a row.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import environment
import table
from rows import ROWS, Row

from cogjax.files import write_atomic

HERE = Path(__file__).resolve().parent
TUNABLES = "GLIBC_TUNABLES"


class Child:
    """A program of a row in a process of its own, ready when made; a context."""

    def __init__(self, command: list[str], variables: dict[str, str], log: Path):
        self.label, self._log = "", log
        with log.open("w", encoding="utf-8") as file:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=variables,
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *error) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        if error[0] is not None:
            self._process.kill()
        self._process.wait()

    def read(self) -> dict[str, Any]:
        """Its next answer; RuntimeError with the last line of its log if it ended."""
        line = self._process.stdout.readline()
        if not line:
            lines = self._log.read_text("utf-8", "replace").split("\n")
            last = next((x for x in reversed(lines) if x.strip()), "it ended early")
            raise RuntimeError(f"{last.strip()[:200]} ({self._log})")
        return json.loads(line)

    def ask(self, word: str) -> dict[str, Any]:
        """What it answers to "run" or "matmul"."""
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self.read()


def busy_seconds(cores: list[int]) -> float:
    """Seconds that these cores have worked since the start, for whomever."""
    names, total = {f"cpu{core}" for core in cores}, 0
    for line in Path("/proc/stat").read_text("utf-8").splitlines():
        name, *ticks = line.split()
        if name in names:
            user, nice, system, _, _, *rest = map(int, ticks[:8])
            total += user + nice + system + sum(rest)
    return total / os.sysconf("SC_CLK_TCK")


def run_once(child: Child, cores: list[int]) -> dict[str, float]:
    """What a run took, what others used meanwhile, and the matmul rate behind it."""
    before, start = busy_seconds(cores), time.perf_counter()
    took = child.ask("run")
    busy, seconds = busy_seconds(cores) - before, time.perf_counter() - start
    took["foreign"] = table.foreign_share(busy, took["cpu"], seconds, len(cores))
    return took | child.ask("matmul")


def measure(row: Row, settings: dict[str, Any], python: Path, logs: Path) -> dict:
    """One row; RuntimeError if one of its programs fails."""
    variables = os.environ | {"JAX_PLATFORMS": "cpu", TUNABLES: settings["hugepages"]}
    cores = sorted(os.sched_getaffinity(0))[: settings["threads"]]
    with ExitStack() as stack:
        children, programs = [], []
        for place, program in enumerate(row.programs):
            who = sys.executable if program.is_ours else python
            command = [who, HERE / "programs.py", row.name, place, settings["threads"]]
            command += ["nano"] if settings["nano"] else []
            log = logs / f"{row.name}-{place}.log"
            child = Child([str(word) for word in command], variables, log)
            children.append(stack.enter_context(child))
            # One after the other: starting takes processor time too.
            programs.append({"label": program.label, "runs": []} | child.read())
        for turn in range(1 + settings["runs"]):
            for child, found in zip(children, programs, strict=True):
                took = run_once(child, cores)
                if turn:
                    found["runs"].append(took)
    for found in programs:
        found |= table.summary(found["runs"], found["count"])
    return {"programs": programs} | table.compared(programs)


def write(out: Path, report: dict[str, Any]) -> None:
    """Both files, each whole or not at all; rows in the order of the table."""
    order = [row.name for row in ROWS]
    rows = sorted(report["rows"].items(), key=lambda item: order.index(item[0]))
    report["rows"] = dict(rows)
    texts = {"peers.json": json.dumps(report, indent=2) + "\n"}
    texts["peers.md"] = table.markdown(report)
    for name, text in texts.items():
        write_atomic(out / name, text)


def begun(out: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The report that is there; SystemExit if it is of other settings."""
    path = out / "peers.json"
    if not path.is_file():
        return {"settings": settings, "versions": {}, "rows": {}}
    report = json.loads(path.read_text("utf-8"))
    known = {row.name for row in ROWS}
    report["rows"] = {k: v for k, v in report["rows"].items() if k in known}
    other = [
        k for k in settings if k != "runs" and report["settings"][k] != settings[k]
    ]
    if other:
        raise SystemExit(
            f"{path} has other {' and '.join(other)}: choose another --out"
        )
    return report


def main() -> None:
    """Makes the environment and measures what is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of environment and results")
    names = [row.name for row in ROWS]
    add("--rows", nargs="+", choices=names, metavar="ROW", help=", ".join(names))
    add("--runs", type=int, default=5, help="that are measured (%(default)s)")
    add("--threads", type=int, default=2, help="of every program (%(default)s)")
    add("--nano", action="store_true", help="tiny sizes, to see that all rows work")
    args = parser.parse_args()
    hugepages = os.environ.get(TUNABLES, "glibc.malloc.hugetlb=1")
    settings = {"runs": args.runs, "threads": args.threads, "nano": args.nano}
    settings["hugepages"] = hugepages
    report = begun(args.out, settings)
    logs = args.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    python = environment.make(args.out / "env", logs / "pip.log").absolute()
    done = {name for name, row in report["rows"].items() if "error" not in row}
    wanted = args.rows or [name for name in names if name not in done]
    for row in (row for row in ROWS if row.name in wanted):
        try:
            found = measure(row, settings, python, logs)
        except (RuntimeError, BrokenPipeError) as error:
            found = {"error": str(error)}
        report["rows"][row.name] = {"unit": row.unit, "note": row.note} | found
        for program in found.get("programs", []):
            report["versions"] |= program["versions"]
        write(args.out, report)
        said = found.get("error") or f"{found['ratio']:.2f} x {found['peer']}"
        print(f"{row.name}: {said}", flush=True)
    print(f"written: {args.out / 'peers.md'} and peers.json")
    if failed := [name for name, row in report["rows"].items() if "error" in row]:
        raise SystemExit(f"failed: {', '.join(failed)}; see {logs}")


if __name__ == "__main__":
    main()
