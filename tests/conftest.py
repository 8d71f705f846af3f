"""Eight virtual CPU devices for every test; must run before anything imports JAX."""

import os

import pytest

os.environ["JAX_PLATFORMS"] = "cpu"
_FLAG = "--xla_force_host_platform_device_count=8"
if _FLAG not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()


def make_nano_model():
    """A TextToImage of the nano presets with random weights and 285 text pieces."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cogjax.data.text import TextTokenizer
    from cogjax.families import cogview
    from cogjax.model_folder import ImageTokenizer, Parts
    from cogjax.models.image_lm import ImageLM
    from cogjax.models.vqvae import VQVAE
    from cogjax.pipeline import TextToImage

    rng = np.random.default_rng(0)

    def normal(shape, std=0.1):
        return rng.normal(0, std, shape).astype(np.float32)

    def weights(net, *example):
        # Shapes only: running `init` would compile every layer on its own.
        shapes = jax.eval_shape(net.init, jax.random.key(0), *example)["params"]
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: normal(leaf.shape) + (path[-1].key == "scale"), shapes
        )

    words = "cat apple house flower rocket whale red blue line drawing of a flat icon"
    text = TextTokenizer.train([f"{w} {w}s 猫的线稿" for w in words.split()], 285)
    tokenizer = cogview.TOKENIZERS["nano"]
    transformer = cogview.TRANSFORMERS["nano"]
    layout = cogview.make_layout(tokenizer, text.size, transformer.text_len)
    lm = ImageLM(cogview.make_transformer(transformer, layout))
    ids = jnp.zeros((1, 2), jnp.int32)
    images = jnp.zeros((1, tokenizer.image_size, tokenizer.image_size, 3))
    return TextToImage(
        Parts(
            ImageTokenizer(
                tokenizer,
                weights(VQVAE(tokenizer), images),
                normal((tokenizer.codebook_size, tokenizer.code_dim), 1.0),
            ),
            transformer,
            weights(lm, ids, ids),
            text,
            card={"name": "nano", "version": "0"},
        )
    )


@pytest.fixture(scope="session")
def nano_model():
    return make_nano_model()


@pytest.fixture(scope="session")
def nano_folder(nano_model, tmp_path_factory):
    """Folder of a saved nano model; copy it before damaging it."""
    return nano_model.save(tmp_path_factory.mktemp("nano"))
