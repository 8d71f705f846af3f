"""Pairs of attention that are counted for a plan, against the masks."""

import dataclasses

import numpy as np
import pytest

from cogjax import config as configs
from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.ops.masks import three_region_mask
from cogjax.plan import training as planning
from cogjax.plan.pairs import count_pairs, count_visited
from cogjax.plan.workload import Workload

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


@pytest.mark.parametrize(
    ("family", "share"), [("ernie_vilg", 0.364), ("dalle", 0.45), ("cogview", 2 / 3)]
)
def test_blocks_that_a_kernel_computes(family, share):
    """They are 9 to 15 of 25 by kind and direction; 2 of 3 of full causal attention."""
    work = Workload.of(configs.load(f"experiments/{family}/paper.py", []))
    assert count_visited(work.cost.passes) == pytest.approx(share, abs=1e-3)


@pytest.mark.parametrize(
    ("topology", "implementation", "share"),
    [("v5p:4x4x8", "auto", 0.45), ("v5p:4x4x8", "xla", 0), ("h100:128", "auto", 0)],
)
def test_without_the_kernel_of_tpus_no_share_is_told(topology, implementation, share):
    word = f"--config.model.implementation={implementation}"
    config = configs.load("experiments/dalle/paper.py", [word])
    report = planning.plan(config, topology, estimate=True)
    assert report.attention_visited == pytest.approx(share, abs=1e-3)


def test_no_kernel_computes_windows():
    work = Workload.of(configs.load("experiments/cogview/paper.py:fashion", []))
    assert count_visited(work.cost.passes) == 0
