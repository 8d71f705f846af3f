import jax
import numpy as np

from cogjax.nn.block import Block, LayerInput
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.sequence import Sequence


def test_each_branch_drops_out_by_a_key_of_its_own():
    """Branches of ones alone: what is added is 0, 2 or 4 where the masks differ."""
    config = DecoderConfig(width=64, depth=1, heads=2, dropout=0.5, sandwich=False)
    block = Block(config, 16, Sequence.causal(4))
    x = np.zeros((1, 4, 64), np.float32)
    init = block.init, jax.random.key(0), x, LayerInput(), None, None
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), jax.eval_shape(*init))
    for name in ("attn_out", "mlp_out"):
        params["params"][name]["bias"] += 1
    layer = LayerInput(dropout_key=jax.random.key(1))
    out, _ = jax.jit(block.apply)(params, x, layer, None, None)
    values, counts = np.unique(out, return_counts=True)
    np.testing.assert_array_equal(values, [0, 2, 4])
    # A half of 256 are 2, each with a chance of 1 / 2.
    assert 96 < counts[1] < 160
