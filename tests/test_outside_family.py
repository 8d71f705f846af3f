"""A family of another distribution trains, is listed and generates; nothing is edited.

In processes of their own: what is installed is read when Python starts.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
COLOURS = {"red": [1.0, 0.2, 0.0], "blue": [0.0, 0.4, 1.0]}
CONFIG = """
import ml_collections

def get_config():
    return ml_collections.ConfigDict({{
        "task": {{"name": "toy", "weight": 2.0}},
        "model": {{"colours": 2}},
        "data": {{"path": {path!r}}},
        "optim": {{"lr": 0.1, "warmup": 1, "schedule": "constant"}},
        "train": {{"steps": 60, "batch_size": 4, "log_every": 1, "save_every": 30}},
        "eval": {{"batches": 1}},
    }})
"""
GENERATE = """
import sys
import cogjax
print(cogjax.load(sys.argv[1]).generate(("blue", "red")).pixels[:, 0, 0].tolist())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Runs Python where a distribution with the toy family is installed."""
    site = tmp_path_factory.mktemp("site")
    for name in ("toy_family.py", "toy_parts.py"):
        shutil.copy(ROOT / "tests" / "outside" / name, site / name)
    info = site / "toy_family-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-family\n")
    (info / "entry_points.txt").write_text("[cogjax.families]\ntoy=toy_family:FAMILY\n")
    env = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    env["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(site)))

    def run(*words):
        words = [sys.executable, *map(str, words)]
        done = subprocess.run(
            words, env=env, cwd=site, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="module")
def run(python, tmp_path_factory):
    """Work folder of a toy run by the command line."""
    folder = tmp_path_factory.mktemp("toy")
    (folder / "colours.json").write_text(json.dumps(COLOURS))
    config = folder / "config.py"
    config.write_text(CONFIG.format(path=str(folder / "colours.json")))
    words = ["--config", config, "--workdir", folder / "run"]
    python("-m", "cogjax.cli", "train", *words)
    return folder / "run"


def test_it_is_listed(python):
    assert "toy: toy" in " ".join(python("-m", "cogjax.cli", "config").split())


def test_it_trains(run):
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 61))
    # From black: the mean square of a batch of both colours, and the weight of two.
    want = np.mean(np.square(list(COLOURS.values())))
    np.testing.assert_allclose(rows[0]["error"], want, rtol=1e-5)
    assert rows[0]["loss"] == pytest.approx(2 * want)
    assert rows[-1]["error"] < 1e-3


def test_it_generates(python, run):
    config = json.loads((run / "export" / "config.json").read_text())
    assert config["family"] == "toy"
    found = json.loads(python("-c", GENERATE, run / "export"))
    want = [np.multiply(COLOURS[name], 255) for name in ("blue", "red")]
    np.testing.assert_allclose(found, want, atol=8)
