"""A model that draws shapes as it is told to: its codes are the pixels themselves."""

import numpy as np
import pytest

from cogjax.pipelines.contracts import Generation
from cogjax.worlds.shapes.captions import read
from cogjax.worlds.shapes.dataset import sample_scene_for
from cogjax.worlds.shapes.scenes import Scene, render


class Painter:
    """Picture i of a prompt is right if i is in `right`, else empty.

    With guidance 3 all are right. stop_after: calls of `generate` before it is
    interrupted. A right picture has the lower caption loss if `judge`, else the higher.
    """

    num_codes = 2**24

    def __init__(self, right=(0, 1), image_size=32, judge=True):
        self.right, self.image_size, self.judge = right, image_size, judge
        self.batch_size, self.calls, self.stop_after = 6, [], None

    def generate(self, prompts, num_images, seed, guidance=None, temperature=None):
        if len(self.calls) == self.stop_after:
            raise KeyboardInterrupt
        self.calls.append((len(prompts), num_images, guidance, temperature))
        rows = [
            [self._paint(text, i, seed, guidance) for i in range(num_images)]
            for text in prompts
        ]
        pixels = np.array(rows, np.uint8)
        lead, size = pixels.shape[:2], self.image_size
        codes = self.encode(pixels.reshape(-1, size, size, 3))
        return Generation(
            tuple(prompts), pixels, codes.reshape(*lead, size, size), None
        )

    def _paint(self, text, i, seed, guidance):
        scene = Scene(())
        if i in self.right or guidance == 3:
            scene = sample_scene_for(read(text), np.random.default_rng([seed, i]))
        return render(scene, self.image_size)

    def score_codes(self, codes, texts):
        empty = np.array([len(np.unique(grid)) == 1 for grid in codes])
        return np.where(empty == self.judge, 2.0, 1.0).astype(np.float32)

    def encode(self, images):
        return (images.astype(np.int32) * (65536, 256, 1)).sum(-1, dtype=np.int32)

    def decode(self, codes):
        return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(
            np.uint8
        )


@pytest.fixture
def painter():
    return Painter
