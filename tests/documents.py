"""Executes what README and docs show: `python -m tests.documents [PAGE ...]`.

The fence of a block says what becomes of it:

    sh run, python run    executed here as a user does, all of a page in one folder
    sh long               hours, other data or other machines: its commands are parsed
    python part           needs what the page does not show: parsed, its imports tried

Behind `#` a command of `sh run` says what it prints: a text that is in it, or the
number that it ends with. All but this file's work is in `test_documentation.py`.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments/README.md"]
PAGES += sorted(ROOT.glob("docs/*.md"))
TAGS = {"sh run", "sh long", "python run", "python part", "text", "json"}
NEAR = 0.02  # of a number that is printed, which another machine rounds otherwise


class Block(NamedTuple):
    """A fenced block: its tag, its code, and the number of its first line."""

    tag: str
    code: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page at the start of a line, but for Sphinx's."""
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S):
        if not found[1].startswith("{"):
            line = text.count("\n", 0, found.start(2)) + 1
            yield Block(found[1].strip(), found[2], line)


def commands(code: str) -> Iterator[tuple[str, str]]:
    """(command, what it is said to print, "" for nothing) of a block of a shell."""
    for line in re.sub(r"\\\n\s*|\n(?=#)", " ", code).splitlines():
        command, _, says = line.partition(" #")
        if command.strip():
            yield command.strip(), says.strip()


def fault(says: str, printed: str) -> str:
    """What is wrong with what a command printed, "" for nothing."""
    if re.fullmatch(r"[\d.]+", says):
        found = re.findall(r"\d+\.\d+", printed)
        right = found and abs(float(found[-1]) - float(says)) <= NEAR
    else:
        right = says in printed
    return "" if right else f"printed {printed.strip()!r}, not {says!r}"


def execute(page: Path, folder: Path) -> tuple[int, list[str]]:
    """Runs what a page tags `run`: (how many commands and scripts, their faults)."""
    count, faults = 0, []
    for block in blocks(page):
        if block.tag == "sh run":
            tasks = [
                (["bash", "-c", text], says) for text, says in commands(block.code)
            ]
        elif block.tag == "python run":
            tasks = [([sys.executable, "-c", block.code], "")]
        else:
            continue
        for words, says in tasks:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
            wrong = done.stderr if done.returncode else fault(says, done.stdout)
            name = f"{page.relative_to(ROOT)}:{block.line}: {words[-1].strip()[:70]}"
            faults += [f"{name}\n{wrong}"] if wrong else []
            count += 1
    return count, faults


def main(words: list[str]) -> int:
    """Executes the pages that are named, or all; 1 where something is wrong."""
    failed = 0
    for page in [Path(word).resolve() for word in words] or PAGES:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            count, faults = execute(page, Path(folder))
        if count:
            took = time.monotonic() - start
            print(f"{page.relative_to(ROOT)}: {count} run in {took:.0f} s", flush=True)
        for each in faults:
            print(each, flush=True)
        failed += len(faults)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
