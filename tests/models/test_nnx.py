"""The example of docs/architecture.md: a network inside Flax's NNX."""

import jax
import jax.numpy as jnp
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
        lambda leaf: jnp.asarray(rng.normal(0, 0.3, leaf.shape), leaf.dtype),
        shapes["params"],
    )
    model = nnx.bridge.ToNNX(network, rngs=nnx.Rngs(0)).lazy_init(ids, positions)
    nnx.update(model, params)
    logits, _ = model(ids, positions)
    want, _ = network.apply({"params": params}, ids, positions)
    np.testing.assert_allclose(logits, want, rtol=1e-6)
