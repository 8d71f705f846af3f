"""The peers' environment: a venv of their own with the releases that are named here.

pip's own settings (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL) say where torch for CPUs is.
The usual one brings gigabytes of CUDA with it, and measures the same.
"""

import json
import subprocess
import sys
from pathlib import Path

from cogjax.files import write_atomic

PACKAGES = (
    "torch==2.13.0",
    "transformers==5.24.0",
    "diffusers==0.42.1",
    "einops==0.8.2",
    "rotary-embedding-torch==0.8.9",
    "axial-positional-embedding==0.3.12",
    "emoji==2.15.0",
    # The last one with pkg_resources, which dalle-pytorch imports.
    "setuptools==80.10.2",
)
# Without what they depend on: that has no wheels, and nothing measured needs it.
ALONE = ("dalle-pytorch==1.6.6", "min-dalle==0.4.11")


def make(folder: Path, log: Path) -> Path:
    """Makes it, or finishes or finds it: the path of its Python.

    SystemExit with one line where pip fails; the same call goes on from there.
    """
    python, ready = folder / "bin/python", folder / "ready.json"
    wanted = json.dumps([*PACKAGES, *ALONE], indent=2) + "\n"
    if ready.is_file() and ready.read_text("utf-8") == wanted:
        return python
    log.parent.mkdir(parents=True, exist_ok=True)
    print(f"making {folder}, what pip says is in {log}", flush=True)
    install = [python, "-m", "pip", "install", "--no-input"]
    commands = [] if python.exists() else [[sys.executable, "-m", "venv", folder]]
    commands += [[*install, *PACKAGES], [*install, "--no-deps", *ALONE]]
    with log.open("w", encoding="utf-8") as file:
        for command in commands:
            if subprocess.run(command, stdout=file, stderr=file).returncode:
                raise SystemExit(
                    f"cannot make {folder}: see the end of {log}, then run this again"
                )
    write_atomic(ready, wanted)
    return python
