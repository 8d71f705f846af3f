"""Metrics and samples at Weights & Biases too, for `train.wandb`."""

import importlib.util
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax.errors import UserError
from cogjax.files import once
from cogjax.train.metrics import Logger
from cogjax.train.processes import say


def make_logger(
    workdir: Path, start_step: int, project: str, config: Mapping[str, Any] | None
) -> Logger:
    """The logger of a run; project: at Weights & Biases, "" for files alone.

    UserError if no run can be begun there.
    """
    if not project or jax.process_index() > 0:
        return Logger(workdir, start_step)
    return _WandbLogger(workdir, start_step, project, config)


def check_wandb(project: str) -> None:
    """UserError if a project is named and the package is not here."""
    if project and importlib.util.find_spec("wandb") is None:
        raise UserError(
            "config key 'train.wandb' needs a package that is not here: pip install "
            "'cogjax[wandb]', or leave it out"
        )


class _WandbLogger(Logger):
    """A `Logger` whose rows and images a run of a project gets too.

    The run is the same when training resumes. WANDB_MODE=offline and the other
    variables of wandb are heeded. What fails there later is said once, and training
    goes on.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        project: str,
        config: Mapping[str, Any] | None,
    ):
        import wandb

        self._said = False
        name = once(workdir / "wandb_id.json", lambda: uuid.uuid4().hex[:8])
        try:
            self._run = wandb.init(
                project=project,
                name=workdir.name,
                id=name,
                resume="allow",
                dir=str(workdir),
                config=dict(config or {}),
            )
            # Not wandb's own count, which never goes back: a roll-back does.
            self._run.define_metric("*", step_metric="step")
        except Exception as error:  # Its kind depends on the version of wandb.
            raise UserError(
                f"config key 'train.wandb': Weights & Biases begins no run ({error}): "
                "log in with `wandb login`, set WANDB_MODE=offline, or leave it out"
            ) from error
        super().__init__(workdir, start_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """As of `Logger`."""
        super().scalars(step, values)
        row = {"step": step, **{n: float(v) for n, v in values.items()}}
        self._try(lambda: self._run.log(row))

    def images(
        self, step: int, images: Mapping[str, np.ndarray], texts: Sequence[str] = ()
    ) -> None:
        """As of `Logger`."""
        import wandb

        super().images(step, images, texts)
        caption = "; ".join(texts)

        def send() -> None:
            sheets = {n: wandb.Image(x, caption=caption) for n, x in images.items()}
            self._run.log({"step": step, **sheets})

        self._try(send)

    def close(self) -> None:
        """Ends the run at Weights & Biases too."""
        super().close()
        self._try(self._run.finish)

    def _try(self, send: Callable[[], Any]) -> None:
        try:
            send()
        except Exception as error:  # Whatever it is, it must not end a training.
            if not self._said:
                kind = type(error).__name__
                say(f"Weights & Biases lacks what the files have: {kind} {error}")
            self._said = True
