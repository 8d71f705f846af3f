"""Mutation score: how many small faults the tests nearest to them catch.

    python -m tests.mutations                all of them, in list order, two at a time
    python -m tests.mutations --only masks   those whose file, text or reason matches
    python -m tests.mutations --list         only check that each fault has its place
    python -m tests.mutations --clean        the same test files without any fault

Each fault of `tests/mutation_list.py` is written into a temporary copy of the package
and its tests; the working tree is only read. "caught": a test failed. "survived": none
did. "timeout": the tests did not end, which counts as caught. "error": nothing could be
run, or a fixture raised; it does not count as caught. Compiled programs are shared with
pytest's own cache folder unless JAX_COMPILATION_CACHE_DIR names another.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutation_kind import Mutation
from tests.mutation_list import MUTATIONS

ROOT = Path(__file__).parents[1]
# All that the copied tests read; the shipped models are linked, not copied.
COPIED = ("cogjax", "tests", "setup.cfg")
LINKED = Path("cogjax/assets")


@dataclass(frozen=True)
class Result:
    """verdict: see the module. detail: the first test that failed, or why none ran."""

    verdict: str
    seconds: float
    detail: str = ""


def locate(mutation: Mutation) -> Path:
    """The file that holds the fragment, relative to the root.

    A file that has moved is found by the fragment alone; one that is there must have it
    itself, or another fault is tried. ValueError unless the fragment is in one place
    and the test files are there.
    """
    for name in mutation.tests:
        if not (ROOT / "tests" / name).is_file():
            raise ValueError(f"tests/{name} does not exist")
    named = ROOT / "cogjax" / mutation.path
    count = named.read_text("utf-8").count(mutation.old) if named.is_file() else 0
    if count == 1:
        return named.relative_to(ROOT)
    places = [named] * count
    if not named.is_file():
        files = sorted((ROOT / "cogjax").rglob("*.py"))
        places = [
            f for f in files for _ in range(f.read_text("utf-8").count(mutation.old))
        ]
    if len(places) != 1:
        raise ValueError(f"found {len(places)} times, expected once: {mutation.old!r}")
    return places[0].relative_to(ROOT)


def copy_tree(target: Path) -> None:
    """Copies what the tests need into an empty folder."""
    ignored = shutil.ignore_patterns("__pycache__", LINKED.name)
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target / name)
    (target / LINKED).symlink_to(ROOT / LINKED)


def environment(tree: Path) -> dict[str, str]:
    """What a process needs to import the package from `tree`."""
    found = {**os.environ, "PYTHONPATH": str(tree)}
    cache = ROOT / ".pytest_cache" / "d" / "xla"
    found.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache))
    found.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    return found


def run_tests(tree: Path, tests: tuple[str, ...], limit: float) -> Result:
    """Runs test files of a copied tree until the first failure."""
    files = [f"tests/{name}" for name in tests]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q"]
    start = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--tb=line", *files],
            cwd=tree,
            env=environment(tree),
            capture_output=True,
            text=True,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        return Result("timeout", time.monotonic() - start)
    seconds = time.monotonic() - start
    if done.returncode == 0:
        return Result("survived", seconds)
    failed = re.search(r"^FAILED tests/(.+?)(?: - |$)", done.stdout, re.M)
    if done.returncode == 1 and failed:
        return Result("caught", seconds, failed[1])
    lines = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))] or lines[-1:]
    return Result("error", seconds, errors[0][:160])


def check_import(tree: Path) -> None:
    """RuntimeError if a process in the copied tree would import another package."""
    code = "import cogjax; print(cogjax.__file__)"
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True
    )
    if not Path(run.stdout.strip()).is_relative_to(tree.resolve()):
        raise RuntimeError(
            f"the copy is not what is imported: {run.stdout or run.stderr}"
        )


def try_one(mutation: Mutation, limit: float) -> Result:
    """Runs the mapped tests with the fault in place."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        check_import(tree)
        path = tree / locate(mutation)
        text = path.read_text("utf-8")
        path.write_text(text.replace(mutation.old, mutation.new), "utf-8")
        return run_tests(tree, mutation.tests, limit)


def try_clean(name: str, limit: float) -> Result:
    """Runs one test file without a fault."""
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        check_import(tree)
        return run_tests(tree, (name,), limit)


def line(result: Result, label: str) -> str:
    return (
        f"{result.verdict:9}{result.seconds:6.0f} s  {label}  {result.detail}".rstrip()
    )


def run_mutations(chosen: list[Mutation], jobs: int, limit: float) -> bool:
    """Prints a line for each mutation and the score; False after an error."""
    with ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda one: try_one(one, limit), chosen)
        counts = Counter()
        for mutation, result in zip(chosen, results, strict=True):
            counts[result.verdict] += 1
            print(line(result, f"{mutation.path}: {mutation.why}"), flush=True)
    caught = counts["caught"] + counts["timeout"]
    print(f"score {caught}/{len(chosen)}", dict(counts))
    return not counts["error"]


def run_clean(chosen: list[Mutation], jobs: int, limit: float) -> bool:
    """Prints a line for each mapped test file; False if one fails."""
    names = list(dict.fromkeys(name for one in chosen for name in one.tests))
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda name: try_clean(name, limit), names))
    passed = {"survived": "passed", "caught": "failed"}
    for name, result in zip(names, results, strict=True):
        verdict = passed.get(result.verdict, result.verdict)
        print(line(Result(verdict, result.seconds, result.detail), name))
    return all(result.verdict == "survived" for result in results)


def main() -> int:
    """Exit status 1: a fragment is not in one place, or something could not be run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="regular expression")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--clean", action="store_true", help="without faults")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--limit", type=float, default=900, help="seconds of one run")
    args = parser.parse_args()
    chosen, problems = [], []
    for one in MUTATIONS:
        if not re.search(args.only, f"{one.path} {one.old} {one.why}"):
            continue
        chosen.append(one)
        try:
            place = locate(one)
        except ValueError as error:
            problems.append(f"{one.path}: {one.why}: {error}")
        else:
            if args.list:
                print(f"{place}: {one.why}  {', '.join(one.tests)}")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        return 1
    if args.list:
        return 0
    run = run_clean if args.clean else run_mutations
    return 0 if run(chosen, args.jobs, args.limit) else 1


if __name__ == "__main__":
    sys.exit(main())
