"""A small detector of shapes: which kind of shape is centred on each lattice point.

    [conv 3x3 stride 2, relu] * 2, ResBlock * 3, relu, 1x1 conv -> logits of each cell

It is for `evaluate/judges/checker.py`, a judge that shares nothing with the oracle.
"""

import flax.linen as nn
from jax import Array

from cogjax.nn.conv import Conv, Down, ResBlock

WIDTH = 48
NUM_BLOCKS = 3


class SceneNet(nn.Module):
    """Pixels in [0, 1] [b, 4 g, 4 g, 3] -> logits [b, g, g, num_logits]."""

    num_logits: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = nn.relu(Down(WIDTH // 2, name="down_0")(images * 2 - 1))
        x = nn.relu(Down(WIDTH, name="down_1")(x))
        for i in range(NUM_BLOCKS):
            x = ResBlock(WIDTH, name=f"res_{i}")(x)
        return Conv(self.num_logits, (1, 1), name="out")(nn.relu(x))
