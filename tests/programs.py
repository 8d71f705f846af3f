"""What test files share so that each worker traces it once: weights and programs."""

import functools

import jax
import numpy as np

from cogjax.models.image_lm_config import ImageLMConfig

# A causal transformer, as small as the tests of sampling can use.
NANO = ImageLMConfig(
    vocab_size=128,
    width=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    max_positions=16,
    dropout=0.0,
    unroll=2,
)
# Token ids of a transformer, and their positions.
IDS = np.zeros((1, 2), np.int32)


def random_params(net, *example, seed=0, std=0.3):
    """Random parameters of a network: its `init` is traced for shapes, never run."""
    shapes = jax.eval_shape(
        lambda *args: net.init(jax.random.key(0), *args), *(example or (IDS, IDS))
    )["params"]
    return random_like(shapes, seed, std)


def random_like(shapes, seed=0, std=0.3):
    """float32 of a deviation of `std`, around 1 for scales of norms, 0 for the rest."""
    rng = np.random.default_rng(seed)

    def one(path, leaf):
        return np.float32(rng.normal(path[-1].key == "scale", std, leaf.shape))

    return jax.tree_util.tree_map_with_path(one, shapes)


@functools.partial(jax.jit, static_argnums=0)
def full_forward(net, params, ids):
    """Logits float32 [n, t, v] of whole sequences int [n, t] without padding."""
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    return net.apply({"params": params}, ids, places)[0]
