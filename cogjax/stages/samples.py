"""The hook of a run that shows images of the config's prompts."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cogjax.data.contact_sheet import grid
from cogjax.pipelines.contracts import Generator
from cogjax.pipelines.request import Request
from cogjax.stages.sections import SampleConfig


def of_prompts(sample: SampleConfig) -> Request:
    """Images of the prompts."""
    return Request(sample.prompts, sample.num_images, sample.seed)


def sample_hook(
    sample: SampleConfig,
    made: Callable[[Any], Generator],
    request: Callable[[], Request],
) -> Callable:
    """made: the model of a task's parameters. request: what it draws."""

    def hook(step, train_state, logger):
        if not sample.prompts:
            return
        pixels = made(train_state.ema).generate(request()).pixels
        flat = pixels.reshape(-1, *pixels.shape[2:])  # [prompts * images, y, x, 3]
        # Smaller images have no room for words.
        large = pixels.shape[2] >= 64
        labels = [text for text in sample.prompts for _ in range(sample.num_images)]
        sheet = grid(flat, sample.num_images * 2, labels if large else None)
        logger.images(step, {"generated": np.asarray(sheet)}, sample.prompts)

    return hook
