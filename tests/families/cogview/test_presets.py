import dataclasses

import jax
import jax.numpy as jnp

from cogjax.families.cogview import presets as cogview
from cogjax.models.image_lm import ImageLM, param_shapes


def test_paper_transformer_has_3_93_billion_parameters():
    preset = cogview.TRANSFORMERS["paper"]
    tokenizer = cogview.TOKENIZERS["paper"]
    layout = cogview.make_layout(tokenizer, 50_000, preset)
    config = cogview.make_transformer(preset, layout)
    ids = jax.ShapeDtypeStruct((1, 2), jnp.int32)
    params = jax.eval_shape(ImageLM(config).init, jax.random.key(0), ids, ids)
    width = 2560
    block = 12 * width**2 + 9 * width + 8 * width
    expected = (58240 + 1089) * width + 48 * block + 2 * width
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert count == expected == 3_928_849_920
    assert (config.max_positions, config.vocab_size) == (1089, 58240)
    assert (config.heads, config.head_dim, config.depth) == (40, 64, 48)


def test_the_release_has_one_maximum_for_a_batch():
    """As its public code: tests/models/test_reference.py compares that scope."""
    paper, release = (cogview.TRANSFORMERS[name] for name in ("paper", "release"))
    assert (paper.norm_scope, release.norm_scope) == ("token", "tensor")
    assert dataclasses.replace(release, norm_scope="token") == paper


def test_fashion_has_3_billion_parameters_and_50_x_50_codes():
    preset = cogview.TRANSFORMERS["fashion"]
    layout = cogview.make_layout(cogview.FASHION, 50_000, preset)
    config = cogview.make_transformer(preset, layout)
    assert layout.shape == (50, 50) and cogview.FASHION.image_size == 800
    # 61 pieces and 4 commands are pivots, and 703 of the codes.
    assert (config.num_others, config.image_pivots) == (65, 703)
    assert (config.window * config.window_times, config.num_pivots) == (768, 768)
    shapes = jax.tree.leaves(param_shapes(config))
    assert sum(leaf.size for leaf in shapes) == 3_009_359_360
