"""Damage to checkpoints, saves that fail, and checkpoints of other configs."""

import dataclasses
import errno
import json
import random
import shutil
import time
import zlib

import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest

from cogjax import cli
from cogjax.errors import UserError
from cogjax.train.checkpoint import Checkpoints, restore_params
from cogjax.train.manifest import steps, verify_run, write_digests
from cogjax.train.step import init_state
from tests.faults.launcher import damage
from tests.train.toy import Line


def state(step, width=2, dtype=jnp.float32, extra=False):
    params = {"w": jnp.full((8, width), step, dtype)}
    if extra:
        params["gate"] = jnp.zeros(3)
    task = Line()
    task.init = lambda key: (params, {})
    made = init_state(task, optax.adam(1e-3), jax.random.key(0))
    return dataclasses.replace(made, step=made.step + step)


def restore(workdir, like):
    checkpoints = Checkpoints(workdir)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, like)
    try:
        return checkpoints.restore(like, shardings, "data")
    finally:
        checkpoints.close()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with the steps 1 and 2."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir)
    for step in (1, 2):
        checkpoints.save(state(step), 16 * step, "data")
    checkpoints.close()
    return workdir


@pytest.fixture
def run(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "run")


def files(run, step):
    return sorted(p for p in (run / f"checkpoints/{step}").rglob("*") if p.is_file())


def test_restores_the_newest_state_and_the_example_index(run):
    restored, example_index = restore(run, state(0))
    assert float(restored.params["w"][0, 0]) == 2
    assert example_index == 32


@pytest.mark.parametrize("kind", ["flip", "zero", "truncate"])
def test_no_random_damage_stays_unseen(run, kind):
    """Matrix row B1: 60 of 60. Digests count among the files."""
    rng = random.Random(kind)
    whole = run / "checkpoints" / "2"
    copy = shutil.copytree(whole, run / "copy")
    for _ in range(20):
        path = rng.choice(files(run, 2))
        damage(path, kind, rng)
        assert [v.status for v in verify_run(run)] == ["good", "bad"], path
        shutil.rmtree(whole)
        shutil.copytree(copy, whole)


@pytest.mark.parametrize("kind", ["delete", "empty"])
def test_no_file_goes_missing_unseen(run, kind):
    """Matrix row B2. Without digests a step is restored, but not in silence."""
    whole = run / "checkpoints" / "2"
    copy = shutil.copytree(whole, run / "copy")
    for path in files(run, 2):
        damage(path, kind, random.Random(0))
        of_digests = kind == "delete" and path.name.startswith("digests-")
        assert verify_run(run)[1].status == ("unverified" if of_digests else "bad")
        shutil.rmtree(whole)
        shutil.copytree(copy, whole)


def test_a_bad_step_is_moved_and_said_and_its_number_is_free(run, capsys):
    damage(files(run, 2)[-1], "flip", random.Random(0))
    restored, example_index = restore(run, state(0))
    assert (int(restored.step), example_index) == (1, 16)
    said = capsys.readouterr().out
    assert "step 2: bad" in said and "has changed" in said
    assert files(run, "bad/2")
    checkpoints = Checkpoints(run)
    checkpoints.save(state(2), 32, "data")
    checkpoints.close()
    assert [v.status for v in verify_run(run)] == ["good", "good"]


def test_nothing_is_moved_if_nothing_is_good(run):
    for step in (1, 2):
        damage(files(run, step)[0], "truncate", random.Random(0))
    for _ in range(2):
        with pytest.raises(UserError, match=r"step 2: bad.*step 1: bad"):
            restore(run, state(0))
    with pytest.raises(UserError, match="no checkpoint can be read"):
        restore_params(run)


def test_export_takes_the_good_one_and_moves_nothing(run):
    damage(files(run, 2)[-1], "flip", random.Random(0))
    params, *_ = restore_params(run, "params")
    assert params["w"][0, 0] == 1
    assert steps(run / "checkpoints") == [1, 2]


def test_without_digests_a_step_is_restored_with_a_warning(run, capsys):
    (run / "checkpoints/2/digests-0-of-1.json").unlink()
    assert int(restore(run, state(0))[0].step) == 2
    assert "step 2 has no digests" in capsys.readouterr().out


def test_steps_that_changed_places_are_bad(run):
    """By their digests and, without them, by the step in the state."""
    folder = run / "checkpoints"
    (folder / "1").rename(folder / "9")
    (folder / "2").rename(folder / "1")
    shutil.copytree(folder / "1", folder / "2")
    found = {v.step: (v.status, v.reason) for v in verify_run(run)}
    assert found[2] == ("good", "")
    assert found[1] == ("bad", "it is step 2 under another name")
    assert found[9] == ("bad", "it is step 1 under another name")
    for step in (1, 9):
        (folder / str(step) / "digests-0-of-1.json").unlink()
    params, *_ = restore_params(run, "params")
    assert params["w"][0, 0] == 2
    assert int(restore(run, state(0))[0].step) == 2
    assert steps(folder) == [1, 2]  # 9 was moved away.


def test_an_empty_step_is_passed_over(run):
    (run / "checkpoints" / "9999").mkdir()
    assert [v.status for v in verify_run(run)] == ["good", "good", "bad"]
    params, *_ = restore_params(run, "params")
    assert params["w"][0, 0] == 2
    (run / "checkpoints" / "9999" / "state").mkdir()
    (run / "checkpoints" / "9999" / "state" / "x").touch()  # Not empty, but no step.
    params, *_ = restore_params(run, "params")
    assert int(restore(run, state(0))[0].step) == 2


def test_metadata_of_orbax_that_nests_too_deep(run):
    """It is read where the folder is opened, before any digest is asked for."""
    (run / "checkpoints" / "2" / "_CHECKPOINT_METADATA").write_text("[" * 10**5)
    for step in (1, 2):
        (run / "checkpoints" / str(step) / "digests-0-of-1.json").unlink(
            missing_ok=True
        )
    with pytest.raises(UserError, match="cannot keep checkpoints in .*: .*recursion"):
        restore_params(run, "params")


@pytest.mark.parametrize("change", [{"files": None}, {"part": 3}, {"files": {"a": 1}}])
def test_sealed_digests_of_wrong_types_are_bad(run, change):
    path = run / "checkpoints/2/digests-0-of-1.json"
    body = json.loads(path.read_text()) | change
    body = {name: body[name] for name in body if name != "crc32"}
    seal = zlib.crc32(json.dumps(body, sort_keys=True).encode())
    path.write_text(json.dumps(body | {"crc32": seal}))
    assert verify_run(run)[1].reason == "digests-0-of-1.json is damaged"


def test_every_process_digests_its_share(run):
    folder = run / "checkpoints" / "2"
    (folder / "digests-0-of-1.json").unlink()
    write_digests(folder, 0, 2)
    assert verify_run(run)[1].status == "unverified"
    write_digests(folder, 1, 2)
    assert verify_run(run)[1].status == "good"
    parts = [json.loads(p.read_text())["files"] for p in folder.glob("digests-*")]
    assert min(len(part) for part in parts) > 3
    assert not parts[0].keys() & parts[1].keys()


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            {"width": 4},
            r"params/w is float32 \(8, 2\), the config makes float32 \(8, 4\)",
        ),
        (
            {"dtype": jnp.bfloat16},
            r"params/w is float32 .*, the config makes bfloat16",
        ),
        ({"extra": True}, r"params/gate is missing, the config makes float32 \(3,\)"),
    ],
)
def test_another_config_is_refused_by_leaf(run, like, message):
    """Matrix row B3."""
    with pytest.raises(UserError, match=message):
        restore(run, state(0, **like))
    assert steps(run / "checkpoints") == [1, 2]


def test_a_newer_format_is_refused(run):
    """Matrix row B4."""
    folder = run / "checkpoints" / "2"
    path = folder / "meta" / "metadata"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9}))
    write_digests(folder)
    with pytest.raises(UserError, match="format 9, this cogjax reads up to 2"):
        restore(run, state(0))


def test_a_checkpoint_of_the_first_format_is_restored(run, capsys):
    folder = run / "checkpoints" / "2"
    (folder / "digests-0-of-1.json").unlink()
    path = folder / "meta" / "metadata"
    meta = json.loads(path.read_text()) | {"format": 1}
    del meta["tree"]
    path.write_text(json.dumps(meta))
    assert int(restore(run, state(0))[0].step) == 2
    with pytest.raises(UserError, match=r"\(8, 2\), the config makes \(8, 4\)"):
        restore(run, state(0, width=4))


def test_a_failed_save_surfaces_and_the_next_is_made(tmp_path, monkeypatch):
    """Matrix rows A6 and A7."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), 16, "data")
    checkpoints.wait()

    def full(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")

    finalize = ocp.PyTreeCheckpointHandler.finalize
    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "finalize", full)
    checkpoints.save(state(2), 32, "data")
    end = time.monotonic() + 60
    with pytest.raises(UserError, match=r"checkpoints \(.* MiB free\): .*No space"):
        while time.monotonic() < end:
            checkpoints.check()
            time.sleep(0.01)
    assert checkpoints.steps == [1]
    monkeypatch.setattr(ocp.PyTreeCheckpointHandler, "finalize", finalize)
    checkpoints.save(state(3), 48, "data")
    checkpoints.close()
    assert [(v.step, v.status) for v in verify_run(tmp_path)] == [
        (1, "good"),
        (3, "good"),
    ]


def test_verify_prints_a_line_a_step(run, capsys):
    assert cli.main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == "step 1: good\nstep 2: good\n"
    path = files(run, 1)[0]
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["verify", str(run / "checkpoints"), "--json"]) == 2
    shown = capsys.readouterr()
    assert [row["status"] for row in json.loads(shown.out)] == ["bad", "good"]
    assert "1 of 2 steps are bad (1)" in shown.err
    assert path.name in shown.out
    assert cli.main(["verify", str(run / "tb")]) == 2
