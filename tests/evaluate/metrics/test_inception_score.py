import dataclasses

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.inception_score import (
    VARIANTS,
    inception_score,
    split_scores,
    variants,
)
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
SOURCE = Source("inception-2015-12-05", "tf1_bilinear")
ONE = dataclasses.replace(VARIANTS["dmgan"], splits=1)


def test_bounds():
    """1 where all pictures are alike, the number of classes where all are certain."""
    alike = np.tile(RNG.normal(size=7), (20, 1))
    np.testing.assert_allclose(split_scores(alike, ONE), [1], 1e-12)
    # Probabilities that underflow to 0 give no NaN.
    certain = 1e4 * np.eye(8)[np.arange(80) % 8]
    np.testing.assert_allclose(split_scores(certain, ONE), [8], 1e-12)


def test_against_the_definition():
    logits = RNG.normal(0, 2, (30, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    divergences = np.sum(p * np.log(p / p.mean(0)), axis=1)
    np.testing.assert_allclose(
        split_scores(logits, ONE), [np.exp(divergences.mean())], 1e-12
    )
    shifted = split_scores(logits + 1000, ONE)
    np.testing.assert_allclose(shifted, split_scores(logits, ONE), 1e-9)


def test_splits():
    logits = RNG.normal(size=(23, 4))
    tenth = split_scores(logits, VARIANTS["dmgan"])
    assert len(tenth) == 10
    # Split i is of pictures i n / 10 to (i + 1) n / 10, rounded down.
    np.testing.assert_allclose(tenth[1], split_scores(logits[2:4], ONE)[0])
    np.testing.assert_allclose(tenth[9], split_scores(logits[20:23], ONE)[0])

    by_size = dataclasses.replace(VARIANTS["guided"], split_size=10)
    np.testing.assert_allclose(
        split_scores(logits, by_size)[2], split_scores(logits[20:], ONE)[0]
    )
    order = np.random.RandomState(2020).permutation(23)
    np.testing.assert_array_equal(
        split_scores(logits, VARIANTS["torch-fidelity"]),
        split_scores(logits[order], VARIANTS["dmgan"]),
    )


def test_the_name_says_the_variant_and_the_network():
    logits = RNG.normal(size=(40, 5))
    value = inception_score(logits, SOURCE, "dmgan")
    assert value.name == "IS[dmgan]" and value.n == 40 and value.spread > 0
    assert "10 splits, logits without bias" in str(value)
    np.testing.assert_allclose(
        value.value, split_scores(logits, VARIANTS["dmgan"]).mean()
    )
    # Published with torchvision's network, so that another is a foreign one here.
    own = inception_score(logits, SOURCE, "torchvision")
    assert own.name == "IS-inception-2015-12-05[torchvision]" and own.spread == 0
    other = inception_score(logits, Source("efflite0:1", "none"), "dmgan")
    assert other.name == "IS-efflite0[dmgan]"


def test_variants_belong_to_networks():
    assert variants(SOURCE) == ["dmgan", "guided", "torch-fidelity"]
    assert variants(Source("efflite0:1", "none")) == variants(SOURCE)
    assert variants(Source("inception-torchvision:1", "none")) == ["torchvision"]


def test_mistakes():
    with pytest.raises(UserError, match="9 images cannot be split into 10"):
        split_scores(np.zeros((9, 2)), VARIANTS["dmgan"])
