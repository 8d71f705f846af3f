import dataclasses

import jax
import numpy as np
import pytest

from cogjax.families.cogview import presets as cogview
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm import param_shapes
from cogjax.models.image_lm_config import image_to_text


def count(config):
    return sum(leaf.size for leaf in jax.tree.leaves(param_shapes(config)))


def test_paper_size():
    """Section 3.1: 10 billion parameters; 12 x 4096^2 a layer, and the embeddings."""
    config = ernie_vilg.make_transformer(ernie_vilg.TRANSFORMERS["paper"])
    assert (config.depth, config.width, config.heads) == (48, 4096, 64)
    assert config.head_dim == 64 and config.max_positions == 128 + 1024
    blocks = 48 * (12 * 4096**2 + 13 * 4096)
    tables = (40_320 + 128 + 32 + 32) * 4096
    assert count(config) == blocks + tables + 2 * 4096 == 9_832_177_664
    kinds = [kind.name for kind in config.kinds]
    assert kinds[:4] == ["row", "column", "row", "row"] and kinds[-1] == "conv"
    assert not image_to_text(config).sequence.image.causal
    assert param_shapes(image_to_text(config)) == param_shapes(config)


@pytest.mark.parametrize(
    ("extent", "edge"), [("own", "raster"), ("raster", "clip"), ("own", "torus")]
)
def test_settings_reach_the_layers(extent, edge):
    layout = ernie_vilg.make_layout(
        cogview.TOKENIZERS["nano"], 20, ernie_vilg.TRANSFORMERS["nano"]
    )
    assert isinstance(layout, TwoWayLayout) and layout.image_len == 16
    nano = ernie_vilg.TRANSFORMERS["nano"]
    settings = dataclasses.replace(nano, kernel=3, row_extent=extent, edge=edge)
    config = ernie_vilg.make_transformer(settings, layout)
    assert config.sequence.image.grid == (4, 4)
    first, last = config.kinds
    assert (first.name, first.row_extent) == ("row", extent)
    assert (last.name, last.kernel, last.edge) == ("conv", 3, edge)
    assert image_to_text(config).kinds == config.kinds
    full = dataclasses.replace(nano, attention="full")
    config = ernie_vilg.make_transformer(full, layout)
    assert {kind.name for kind in config.layer_kinds} == {"full"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kernel": 4}, "kernel is 4"),
        ({"window": 8, "num_pivots": 9}, "window is for"),
        ({"implementation": "cudnn"}, "'cudnn' cannot hide text"),
    ],
)
def test_what_does_not_fit_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        ernie_vilg.TransformerConfig(**setting)


def test_positions_of_a_cogview_are_taken_apart():
    """Where a code's position is a row's and a column's, nothing is lost."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 4)), rng.normal(size=(3, 4))
    codes = rows[:, None] + columns
    text = rng.normal(size=(5 + 4, 4))
    table = np.concatenate([text, codes.reshape(6, 4)])
    kept = np.ones((2, 4))
    params = {"position_embedding": table, "token_embedding": kept}
    found = ernie_vilg.from_cogview(params, 5, (2, 3))
    np.testing.assert_array_equal(found["position_embedding"], text[:6])
    again = found["row_embedding"][:, None] + found["column_embedding"]
    np.testing.assert_allclose(again, codes, atol=1e-12)
    assert found["token_embedding"] is kept and len(params) == 2
