"""Metrics and samples at Weights & Biases too, for `train.wandb`."""

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax.errors import UserError
from cogjax.files import once
from cogjax.train.metrics import Logger


def make_logger(
    workdir: Path, start_step: int, project: str, config: Mapping[str, Any] | None
) -> Logger:
    """The logger of a run; project: at Weights & Biases, "" for files alone."""
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
    variables of wandb are heeded.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        project: str,
        config: Mapping[str, Any] | None,
    ):
        import wandb

        super().__init__(workdir, start_step)
        self._run = wandb.init(
            project=project,
            name=workdir.name,
            id=once(workdir / "wandb_id.json", lambda: uuid.uuid4().hex[:8]),
            resume="allow",
            dir=str(workdir),
            config=dict(config or {}),
        )
        # Not wandb's own count, which never goes back: a roll-back does.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """As of `Logger`."""
        super().scalars(step, values)
        self._run.log({"step": step, **{n: float(v) for n, v in values.items()}})

    def images(
        self, step: int, images: Mapping[str, np.ndarray], texts: Sequence[str] = ()
    ) -> None:
        """As of `Logger`."""
        import wandb

        super().images(step, images, texts)
        caption = "; ".join(texts)
        sheets = {n: wandb.Image(x, caption=caption) for n, x in images.items()}
        self._run.log({"step": step, **sheets})

    def close(self) -> None:
        """Ends the run at Weights & Biases too."""
        super().close()
        self._run.finish()
