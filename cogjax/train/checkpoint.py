"""Checkpoints of a run through Orbax: whole training state and data position."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from cogjax.errors import UserError
from cogjax.train.state import TrainState

FORMAT = 1


class Checkpoints:
    """The checkpoints of one run, newest last, at most `keep`."""

    def __init__(self, workdir: Path, keep: int = 2):
        self._manager = _open(workdir, keep)

    @property
    def steps(self) -> list[int]:
        """Steps that were saved completely, oldest first."""
        return sorted(self._manager.all_steps())

    def save(self, train_state: TrainState, fingerprint: str, batch_size: int) -> None:
        """Starts saving in the background; a failed earlier save raises here."""
        step = int(train_state.step)
        if step in self.steps:
            return
        meta = {
            "format": FORMAT,
            "example_index": step * batch_size,
            "fingerprint": fingerprint,
        }
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_as_dict(train_state)),
                    meta=ocp.args.JsonSave(meta),
                ),
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot save a checkpoint: {_first_line(error)}"
            ) from error

    def wait(self) -> None:
        """Returns when all saves are on disk; raises UserError if one failed."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise UserError(
                f"cannot save a checkpoint: {_first_line(error)}"
            ) from error

    def restore(
        self, abstract: TrainState, shardings: TrainState, fingerprint: str
    ) -> TrainState | None:
        """The newest readable state placed by `shardings`; None without a checkpoint.

        A damaged step is reported and the one before is tried. UserError if none can
        be read, if shapes differ, or if the data or tokenizers changed since.
        """
        target = jax.tree.map(
            lambda leaf, sharding: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=sharding
            ),
            _as_dict(abstract),
            _as_dict(shardings),
        )
        problems = []
        for step in reversed(self.steps):
            try:
                restored = self._restore_step(step, target, fingerprint)
            except UserError:
                raise
            except Exception as error:  # Orbax raises many types for a damaged file.
                problems.append(f"step {step}: {_first_line(error)}")
                continue
            for problem in problems:
                print(f"cogjax: checkpoint of {problem}; going back to step {step}")
            return TrainState(**restored)
        if problems:
            raise UserError(
                f"no checkpoint can be read: {'; '.join(problems)}. Move "
                f"{self._manager.directory} away to start again"
            )
        return None

    def close(self) -> None:
        """Waits for pending saves and releases the threads."""
        self.wait()
        self._manager.close()

    def _restore_step(self, step: int, target: dict, fingerprint: str) -> dict:
        meta = self._restore_item(step, "meta", ocp.args.JsonRestore())
        found = _shapes(self._manager.item_metadata(step)["state"])
        _check_meta(meta, fingerprint)
        _check_shapes(found, _shapes(target))
        return self._restore_item(step, "state", ocp.args.StandardRestore(target))

    def _restore_item(self, step: int, name: str, args: Any) -> Any:
        return self._manager.restore(step, args=ocp.args.Composite(**{name: args}))[
            name
        ]


def restore_params(workdir: str | os.PathLike, which: str = "ema") -> tuple[Any, Any]:
    """Newest (params, task state) of a run as numpy trees, without building the model.

    which: "ema" or "params". UserError if the run has no readable checkpoint.
    """
    folder = Path(workdir) / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"{workdir} holds no checkpoint: train first")
    manager = _open(Path(workdir))
    step = manager.latest_step()
    if step is None:
        raise UserError(f"{workdir} holds no checkpoint: train first")
    target = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        dict(manager.item_metadata(step)["state"]),
        is_leaf=lambda leaf: hasattr(leaf, "shape"),
    )
    try:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
        restored = manager.restore(step, args=args)["state"]
    except Exception as error:
        reason = _first_line(error)
        raise UserError(f"cannot read step {step} of {folder}: {reason}") from error
    finally:
        manager.close()
    return restored[which], restored["state"]


def _open(workdir: Path, keep: int | None = None) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        (workdir / "checkpoints").absolute(),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=keep is not None
        ),
        # Named here, so that metadata can be read before anything is restored.
        item_handlers={
            "state": ocp.StandardCheckpointHandler(),
            "meta": ocp.JsonCheckpointHandler(),
        },
    )


def _as_dict(train_state: TrainState) -> dict[str, Any]:
    return {name: getattr(train_state, name) for name in TrainState.__annotations__}


def _shapes(tree: Any) -> dict[str, tuple]:
    leaves = jax.tree_util.tree_leaves_with_path(
        tree, is_leaf=lambda leaf: hasattr(leaf, "shape")
    )
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in leaves}


def _check_meta(meta: Mapping[str, Any], fingerprint: str) -> None:
    if meta["format"] != FORMAT:
        raise UserError(f"the checkpoint is of format {meta['format']}, not {FORMAT}")
    if meta["fingerprint"] != fingerprint:
        raise UserError(
            f"the data or a tokenizer changed since the checkpoint "
            f"({meta['fingerprint']} is now {fingerprint}): restore them, or start in "
            f"a new workdir"
        )


def _check_shapes(found: Mapping[str, tuple], wanted: Mapping[str, tuple]) -> None:
    """Compares the shapes in order: Orbax may spell containers differently."""
    if sorted(found.values()) == sorted(wanted.values()):
        return
    differing = [
        f"{path} is {found.get(path, 'missing')}, the config makes {shape}"
        for path, shape in wanted.items()
        if found.get(path) != shape
    ]
    raise UserError(
        "the checkpoint does not fit the config: " + "; ".join(differing[:3])
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
