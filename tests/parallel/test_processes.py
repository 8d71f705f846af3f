"""Two processes of four devices train as one process of one device does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cogjax.train.checkpoint import Checkpoints
from tests.parallel import test_training

ROOT = Path(__file__).parents[2]
SIZES = (2, 2, 2)


def member(number: int, port: int, folder: str) -> None:
    """One of the two processes: trains, saves, restores, and writes its losses."""
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    state, losses = test_training.train(SIZES)
    checkpoints = Checkpoints(Path(folder))
    checkpoints.save(state, 24, "data")
    checkpoints.wait()
    _, abstract, shardings, *_ = test_training.parts(SIZES)
    restored, _ = checkpoints.restore(abstract, shardings, "data")
    checkpoints.close()
    same = all(
        np.array_equal(x.data, y.data)
        for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True)
        for x, y in zip(a.addressable_shards, b.addressable_shards, strict=True)
    )
    found = {"losses": losses, "same": same, "devices": jax.device_count()}
    Path(folder, f"{number}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes_equal_one_device(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    env = {**os.environ, **flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    code = "import sys; from tests.parallel.test_processes import member; "
    members = [
        subprocess.Popen(
            [sys.executable, "-c", f"{code}member({i}, {port}, {str(tmp_path)!r})"],
            env=env,
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    try:
        messages = [each.communicate(timeout=300)[1] for each in members]
    finally:
        for each in members:
            each.kill()
    for each, message in zip(members, messages, strict=True):
        assert each.returncode == 0, message[-2000:]
    _, want = test_training.train((1, 1, 1))
    for i in range(2):
        found = json.loads((tmp_path / f"{i}.json").read_text())
        assert found["same"] and found["devices"] == 8
        np.testing.assert_allclose(found["losses"], want, rtol=1e-5)
    # And the checkpoint of two processes is read by one, on another mesh.
    _, abstract, shardings, *_ = test_training.parts((1, 4, 2))
    restored, _ = Checkpoints(tmp_path).restore(abstract, shardings, "data")
    alone, _ = test_training.train((1, 1, 1))
    for a, b in zip(
        jax.tree.leaves(restored.ema), jax.tree.leaves(alone.ema), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
