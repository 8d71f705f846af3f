"""The hook of a run that shows images of the config's prompts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.pipelines.contracts import Generator
from cogjax.stages.sections import SampleConfig


def sample_hook(sample: SampleConfig, made: Callable[[Any], Generator]) -> Callable:
    """made: the model of a task's parameters, which draws the prompts."""

    def hook(step, train_state, logger):
        if not sample.prompts:
            return
        found = made(train_state.ema).generate(
            sample.prompts, sample.num_images, sample.seed
        )
        pixels = found.pixels  # [prompts, images, y, x, 3]
        flat = pixels.reshape(-1, *pixels.shape[2:])
        sheet = grid(flat, sample.num_images * 2)
        logger.images(step, {"generated": np.asarray(sheet)})

    return hook
