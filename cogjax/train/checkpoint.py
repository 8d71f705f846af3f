"""Checkpoints of a run through Orbax: whole training state and data position.

A step counts once Orbax has renamed it into place; digests of its files follow in the
background (`manifest`). A damaged step is never restored and never deleted.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec

from cogjax.errors import UserError
from cogjax.parallel.powersgd import spread
from cogjax.parallel.rules import path_name
from cogjax.train import manifest
from cogjax.train.manifest import Verdict
from cogjax.train.processes import any_process, barrier, say
from cogjax.train.state import TrainState

FORMAT = 2  # Format 1 had neither digests nor the shapes in its meta.
# Replicas save a leaf together if each has so much of it. They cut their parts out by a
# program each, which for less takes longer to compile than the part to write.
_PART_BYTES = 1 << 20

# Orbax logs the whole stack of every error before it raises it.
logging.getLogger("absl").addFilter(
    lambda record: record.levelno < logging.ERROR or "orbax" not in record.pathname
)


class Checkpoints:
    """The checkpoints of one run, newest last, at most `keep`.

    frozen: entries of the task's state that are neither saved nor restored.
    """

    def __init__(self, workdir: Path, keep: int = 2, frozen: Sequence[str] = ()):
        self._folder, self._frozen = workdir / "checkpoints", frozen
        self._manager = _open(workdir, keep)
        self._background = ThreadPoolExecutor(1, "cogjax-checkpoint")
        self._pending: Future | None = None

    @property
    def steps(self) -> list[int]:
        """Steps that were saved completely, oldest first."""
        return manifest.steps(self._folder)

    def save(
        self, train_state: TrainState, example_index: int, fingerprint: str
    ) -> None:
        """Copies the state to host memory; writes and digests it in the background.

        example_index: of the first example that the state has not seen. A failed
        earlier save raises UserError here.
        """
        self.wait()
        step = int(train_state.step)
        if step in self.steps:
            return
        tree = self._as_dict(train_state)
        meta = {
            "format": FORMAT,
            "example_index": example_index,
            "fingerprint": fingerprint,
            "tree": _describe(tree),
        }
        args = ocp.args.Composite(
            state=ocp.args.PyTreeSave(tree), meta=ocp.args.JsonSave(meta)
        )
        try:
            self._manager.save(step, args=args)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._failed(error) from error
        self._pending = self._background.submit(self._finish, step)

    def check(self) -> None:
        """Raises UserError if a save has failed in the background; waits for none."""
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Returns when all saves and digests are on disk; UserError if one failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # Orbax and TensorStore raise many types.
            raise self._failed(error) from error

    def restore(
        self,
        abstract: TrainState,
        shardings: TrainState,
        fingerprint: str,
        before: int | None = None,
    ) -> tuple[TrainState, int] | None:
        """(newest good state placed by `shardings`, example index), None without one.

        Damaged steps newer than it are moved to checkpoints/bad. With `before`, steps
        from it on are moved there too: a roll-back saves them anew. UserError if no
        step is good, if shapes or types differ, or if the data or tokenizers changed.
        """
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding
            ),
            self._as_dict(abstract),
            self._as_dict(shardings),
        )
        bad: list[Verdict] = []
        for step in reversed(self.steps):
            if before is not None and step >= before:
                bad.append(Verdict(step, "bad", "saved after the loss had risen"))
                continue
            found = self._try(step, target, fingerprint)
            if isinstance(found, Verdict):
                bad.append(found)
                continue
            for verdict in bad:
                self._quarantine(verdict)
            self._manager.reload()
            return found
        if bad:
            # Steps stay: the next start must not take an empty folder for a new run.
            raise UserError(
                f"no checkpoint can be read: {'; '.join(map(str, bad))}. Move "
                f"{self._folder} away to start again"
            )
        return None

    def close(self) -> None:
        """Waits for pending saves and releases the threads; UserError if one failed."""
        try:
            self.wait()
        finally:
            self._background.shutdown()
            with contextlib.suppress(Exception):  # The same failure once more.
                self._manager.close()

    def _try(self, step: int, target: dict, fingerprint: str):
        """(state, example index), or the verdict of a step that cannot be read."""
        verdict = manifest.verify_step(
            self._folder / str(step), jax.process_index(), jax.process_count()
        )
        if any_process(verdict.status == "bad"):
            if verdict.status == "bad":
                return verdict
            return Verdict(step, "bad", "another process found damage")
        if verdict.status == "unverified":
            say(f"step {step} has no digests: it is restored unverified")
        try:
            meta = self._restore_item(step, "meta", ocp.args.JsonRestore())
            _check_meta(meta, fingerprint)
            saved = _as_saved(target, meta.get("tree", {}))
            self._check_tree(step, meta, saved)
            restored = self._restore_item(step, "state", _restore_args(saved))
            restored = _as_wanted(restored, target)
        except UserError:
            raise
        except Exception as error:  # Orbax raises many types for a damaged file.
            return Verdict(step, "bad", _first_line(error))
        if int(restored["step"]) != step:
            return Verdict(step, "bad", _other(restored))
        return TrainState(**restored), meta["example_index"]

    def _check_tree(self, step: int, meta: Mapping[str, Any], target: dict) -> None:
        if "tree" in meta:
            _check_leaves(meta["tree"], _describe(target))
        else:
            found = self._manager.item_metadata(step)["state"]
            _check_shapes(_shapes(found), _shapes(target))

    def _restore_item(self, step: int, name: str, args: Any) -> Any:
        args = ocp.args.Composite(**{name: args})
        return self._manager.restore(step, args=args)[name]

    def _quarantine(self, verdict: Verdict) -> None:
        """Moves a step out of the way of restores; its number can be saved again."""
        folder = self._folder / "bad"
        place, copy = folder / f"{verdict.step}", 1
        while place.exists():
            copy += 1
            place = folder / f"{verdict.step}-{copy}"
        say(f"checkpoint of {verdict}; moved to {place}")
        barrier("quarantine")  # All have chosen the same name.
        if jax.process_index() == 0:
            folder.mkdir(exist_ok=True)
            os.rename(self._folder / str(verdict.step), place)
        barrier("quarantined")

    def _as_dict(self, train_state: TrainState) -> dict[str, Any]:
        names = TrainState.__annotations__
        found = {name: getattr(train_state, name) for name in names}
        # Nothing is written for runs without it, as before there was such a field.
        if not found["powersgd"]:
            del found["powersgd"]
        own = found["state"].keys() - set(self._frozen)
        return found | {"state": {name: found["state"][name] for name in sorted(own)}}

    def _finish(self, step: int) -> None:
        self._manager.wait_until_finished()
        manifest.write_digests(
            self._folder / str(step), jax.process_index(), jax.process_count()
        )

    def _failed(self, error: BaseException) -> UserError:
        with contextlib.suppress(Exception):
            self._manager.wait_until_finished()  # Raises once more in this thread.
        with contextlib.suppress(Exception):
            self._manager.reload()  # Orbax's list forgets the step that was not saved.
        try:
            free = f"{shutil.disk_usage(self._folder).free / 2**20:,.0f} MiB free"
        except OSError:
            free = "the folder is gone"
        return UserError(
            f"cannot save a checkpoint in {self._folder} ({free}): {_first_line(error)}"
        )


def restore_params(
    workdir: str | os.PathLike, which: str = "ema"
) -> tuple[Any, Any, str, int]:
    """Newest (params, task state, fingerprint, step), without building the model.

    Trees of numpy arrays; the fingerprint is that of `Checkpoints.save`. which: "ema"
    or "params". Damaged steps are reported and skipped. UserError if the run has no
    readable checkpoint.
    """
    folder = Path(workdir) / "checkpoints"
    bad: list[Verdict] = []
    for step in reversed(manifest.steps(folder)):
        verdict = manifest.verify_step(folder / str(step))
        found = verdict if verdict.status == "bad" else _read(Path(workdir), step)
        if isinstance(found, Verdict):
            bad.append(found)
            continue
        for newer in bad:
            say(f"checkpoint of {newer}; taking step {step}")
        state, fingerprint = found
        return state[which], state["state"], fingerprint, step
    if bad:
        raise UserError(f"no checkpoint can be read: {'; '.join(map(str, bad))}")
    raise UserError(f"{folder.parent} holds no checkpoint: train first")


def _read(workdir: Path, step: int) -> tuple[Any, str] | Verdict:
    """(state of numpy arrays, fingerprint) of a step, or the verdict of one without."""
    manager = _open(workdir)
    try:
        target = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, leaf.dtype),
            dict(manager.item_metadata(step)["state"]),
            is_leaf=lambda leaf: hasattr(leaf, "shape"),
        )
        args = ocp.args.Composite(
            state=_restore_args(target), meta=ocp.args.JsonRestore()
        )
        found = manager.restore(step, args=args)
        state, fingerprint = found["state"], found["meta"]["fingerprint"]
        if int(state["step"]) != step:
            return Verdict(step, "bad", _other(state))
    except Exception as error:  # Orbax raises many types for a damaged file.
        return Verdict(step, "bad", _first_line(error))
    finally:
        manager.close()
    return state, fingerprint


def _other(state: Mapping[str, Any]) -> str:
    return f"it is step {int(state['step'])} under another name"


def _open(workdir: Path, keep: int | None = None) -> ocp.CheckpointManager:
    folder = (workdir / "checkpoints").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep, cleanup_tmp_directories=keep is not None
            ),
            # Named here, so that metadata can be read before anything is restored.
            item_handlers={
                "state": _state_handler(),
                "meta": ocp.JsonCheckpointHandler(),
            },
        )
    except Exception as error:  # Orbax reads the steps' metadata, which may be damaged.
        reason = getattr(error, "strerror", None) or _first_line(error)
        raise UserError(f"cannot keep checkpoints in {folder}: {reason}") from error


def _state_handler() -> ocp.PyTreeCheckpointHandler:
    """Orbax's usual one for trees of arrays, but for `_PART_BYTES`."""
    types = ocp.type_handlers
    arrays = types.ArrayHandler(min_slice_bytes_for_replica_parallel=_PART_BYTES)
    registry = types.create_type_handler_registry(
        (np.ndarray, types.NumpyHandler()), (jax.Array, arrays)
    )
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _restore_args(target: Any) -> ocp.args.PyTreeRestore:
    """For arrays of the shapes, types and places of `target`."""
    args = ocp.checkpoint_utils.construct_restore_args(target)
    return ocp.args.PyTreeRestore(target, restore_args=args)


def _as_saved(target: dict, tree: Mapping[str, str]) -> dict:
    """The target with the errors of as many workers as were saved."""

    def saved(name, leaf):
        shape = re.search(r"\((\d+), ", tree.get(f"powersgd/error/{name}", ""))
        count = int(shape[1]) if shape else leaf.shape[0]
        mesh, spec = leaf.sharding.mesh, leaf.sharding.spec
        each = spec[0] if count % mesh.shape[spec[0]] == 0 else None
        where = NamedSharding(mesh, PartitionSpec(each, *spec[1:]))
        shape = count, *leaf.shape[1:]
        return jax.ShapeDtypeStruct(shape, leaf.dtype, sharding=where)

    return _with_errors(target, saved)


def _as_wanted(restored: dict, target: dict) -> dict:
    """The restored state with the errors of as many workers as there are now."""

    def wanted(name, leaf):
        found = target["powersgd"]["error"][name]
        if leaf.shape == found.shape:
            return leaf
        return jax.jit(spread, static_argnums=1, out_shardings=found.sharding)(
            leaf, found.shape[0]
        )

    return _with_errors(restored, wanted)


def _with_errors(state: dict, change) -> dict:
    """The state with `change(name, leaf)` of PowerSGD's errors, if there are any."""
    memory = state.get("powersgd", {})
    if not memory.get("error"):
        return state
    error = {name: change(name, leaf) for name, leaf in memory["error"].items()}
    return {**state, "powersgd": {**memory, "error": error}}


def _describe(tree: Any) -> dict[str, str]:
    """Path of every leaf -> its type and shape in words."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        path_name(path): f"{np.dtype(leaf.dtype).name} {tuple(leaf.shape)}"
        for path, leaf in leaves
    }


def _check_leaves(found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    paths = [*wanted, *sorted(found.keys() - wanted.keys())]
    # Parameters are named first: moments and averages differ only because they do.
    paths.sort(key=lambda path: not path.startswith("params/"))
    differing = [
        f"{path} is {found.get(path, 'missing')}, the config makes "
        f"{wanted.get(path, 'none')}"
        for path in paths
        if found.get(path) != wanted.get(path)
    ]
    if differing:
        more = f" (and {len(differing) - 3} more)" if len(differing) > 3 else ""
        raise UserError(
            f"the checkpoint does not fit the config: {'; '.join(differing[:3])}{more}"
        )


def _shapes(tree: Any) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda leaf: hasattr(leaf, "shape")
    )
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


def _check_shapes(found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """For format 1. In order: Orbax may spell containers differently."""
    if sorted(found.values()) != sorted(wanted.values()):
        _check_leaves(
            {path: str(shape) for path, shape in found.items()},
            {path: str(shape) for path, shape in wanted.items()},
        )


def _check_meta(meta: Mapping[str, Any], fingerprint: str) -> None:
    if meta["format"] not in (1, FORMAT):
        raise UserError(
            f"the checkpoint is of format {meta['format']}, this cogjax reads up to "
            f"{FORMAT}: install a newer one"
        )
    if meta["fingerprint"] != fingerprint:
        raise UserError(
            f"the data or a tokenizer changed since the checkpoint "
            f"({meta['fingerprint']} is now {fingerprint}): restore them, or start in "
            f"a new workdir"
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
