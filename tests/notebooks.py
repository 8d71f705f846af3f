"""Executes the notebooks of docs/notebooks: `python -m tests.notebooks [NAME ...]`.

They are Python files with cells (jupytext). Each runs in an empty folder, with the
interpreter that runs this file; needs `pip install '.[notebooks]'`.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.py"))
SECONDS = 1200  # a cell


def execute(path: Path, folder: Path) -> dict[str, int]:
    """Runs all cells in a folder; CellExecutionError names one that fails.

    Returns how many outputs of each kind they showed.
    """
    import jupytext
    import nbclient

    notebook = jupytext.read(path)
    # The commands of cells are those of this interpreter.
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=SECONDS, resources=where).execute()
    counts: dict[str, int] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            for kind in output.get("data", {}):
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def main(names: list[str]) -> None:
    for path in NOTEBOOKS:
        if names and path.stem not in names:
            continue
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            counts = execute(path, Path(folder))
        print(f"{path.stem}: {time.monotonic() - start:.0f} s, {counts}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
