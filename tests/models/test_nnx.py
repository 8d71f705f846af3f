"""The example of docs/architecture.md: a network inside Flax's NNX."""

import jax
import numpy as np
from flax import nnx

from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig


def test_a_network_in_nnx_computes_the_same():
    network = ImageLM(
        ImageLMConfig(
            width=16, depth=1, heads=2, mlp_dim=32, vocab_size=64, max_positions=16
        )
    )
    ids, positions = np.arange(8)[None], np.arange(8)[None]
    shapes = jax.eval_shape(network.init, jax.random.key(0), ids, positions)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype),
        shapes["params"],
    )

    @nnx.jit
    def made():
        return nnx.bridge.ToNNX(network, rngs=nnx.Rngs(0)).lazy_init(ids, positions)

    model = made()
    nnx.update(model, params)
    logits, _ = nnx.jit(lambda model: model(ids, positions))(model)
    want, _ = jax.jit(network.apply)({"params": params}, ids, positions)
    np.testing.assert_allclose(logits, want, rtol=1e-6)
