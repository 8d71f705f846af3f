"""What other decoders than CogView's need of an `ImageLM`, in one network."""

import functools

import jax
import numpy as np
import pytest

from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import for_inference, scoring
from cogjax.ops.sequence import Sequence

CONFIG = ImageLMConfig(
    width=32,
    depth=2,
    heads=2,
    mlp_dim=48,
    vocab_size=20,
    max_positions=3 + 16,
    grid=4,
    sequence=Sequence.text_to_image(3, (4, 4)),
    dropout=0.0,
    norm="rms",
    mlp="swiglu",
    use_bias=False,
    rotary=100.0,
    outputs=12,
    normed_head=True,
    caption_dim=8,
)
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(2, 3, 8)).astype(np.float32)
CODES = RNG.integers(12, size=(2, 6)).astype(np.int32)
POSITIONS = np.tile(np.arange(9, dtype=np.int32), (2, 1))


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(
        lambda x: (0.3 * RNG.normal(size=x.shape)).astype(np.float32),
        param_shapes(CONFIG),
    )


@functools.partial(jax.jit, static_argnames="config")
def logits(params, config=CONFIG):
    inputs = (VECTORS, CODES)
    return ImageLM(config).apply({"params": params}, inputs, POSITIONS)[0]


def test_the_head_scores_its_own_ids_with_their_bias(params):
    """It scores some ids, and packed weights, as it scores all."""
    whole = np.asarray(logits(params))
    assert whole.shape == (2, 9, 12)
    packed = for_inference(params)
    some = logits(scoring(packed, (4, 9)))
    np.testing.assert_allclose(some, whole[..., 4:9], atol=1e-4)
    moved = params | {"head_bias": params["head_bias"] + np.arange(12)}
    np.testing.assert_allclose(logits(moved), whole + np.arange(12), atol=1e-4)
    int8 = np.asarray(logits(for_inference(params, "int8")))
    assert 0 < np.abs(int8 - whole).max() < 0.1 * np.abs(whole).max()


def test_no_parameter_is_without_a_gradient(params):
    """But the vectors of no caption, which prompts are made of, and rows not read."""
    grads = jax.jit(jax.grad(lambda p: (logits(p) ** 2).mean()))(params)
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(grads)
        if not np.abs(leaf).max() > 0
    ]
    assert still == ["['null_caption']"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": 0}, "rotary needs a grid, which is 0"),
        ({"heads": 16}, "heads of a multiple of 4 channels, which have 2"),
        ({"outputs": 0}, "normed_head needs a head"),
        ({"norm_epsilon": -1.0}, "norm_epsilon is -1.0"),
        ({"caption_dim": -1}, "caption_dim is -1"),
    ],
)
def test_options_that_do_not_go_together(change, words):
    fields = {name: getattr(CONFIG, name) for name in CONFIG.__dataclass_fields__}
    with pytest.raises(ValueError, match=words):
        ImageLMConfig(**fields | change)
