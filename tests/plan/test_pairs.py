"""Pairs of attention that are counted for a plan, against the masks."""

import dataclasses

import numpy as np

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.ops.masks import three_region_mask
from cogjax.plan.pairs import count_pairs

LAYOUT = Layout(Vocab(32, 20), 8, 36)  # 12 positions are no codes, of 48.


def network(**settings):
    settings = {"window": 8, "window_times": 2, "num_pivots": 48} | settings
    config = dataclasses.replace(cogview.TRANSFORMERS["nano"], **settings)
    return cogview.make_transformer(config, LAYOUT)


def test_all_pivots_are_all_pairs():
    assert count_pairs(network(), 48) == count_pairs(network(window=0), 48)


def test_pivots_count_as_many_as_are_drawn_on_average():
    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        codes = 12 + rng.permutation(36)[:9]
        mask, _ = three_region_mask(48, 8, 2, [*range(12), *codes])
        found.append(mask.sum())
    pairs = count_pairs(network(num_pivots=21), 48) / 2
    np.testing.assert_allclose(pairs, np.mean(found), rtol=0.01)
