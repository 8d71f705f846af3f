"""Records of texts as vectors: ragged, in bfloat16."""

import ml_dtypes
import numpy as np
import pytest

from cogjax.data.embeddings import EmbeddedExample

CAPTIONS = (("en", "a red apple"), ("zh", "一个红苹果"))


def test_a_record_returns_as_it_was():
    rng = np.random.default_rng(0)
    tokens = [np.float32(rng.normal(size=(n, 6))) for n in (5, 2)]
    pooled = [x.mean(0) for x in tokens]
    example = EmbeddedExample("a", CAPTIONS, tokens, pooled, {"style": "flat"})
    record = example.pack()
    # Seven rows and two means of six numbers, two bytes each.
    assert 0 < len(record) - 9 * 6 * 2 < 150
    found = EmbeddedExample.unpack(record)
    assert (found.id, found.captions, found.meta) == ("a", CAPTIONS, {"style": "flat"})
    for ours, theirs in ((found.tokens, tokens), (found.pooled, pooled)):
        assert len(ours) == 2
        for x, y in zip(ours, theirs, strict=True):
            assert x.dtype == ml_dtypes.bfloat16
            np.testing.assert_array_equal(x, y.astype(ml_dtypes.bfloat16))


def test_an_example_without_captions():
    found = EmbeddedExample.unpack(EmbeddedExample("a", (), (), ()).pack())
    assert (found.captions, found.tokens, found.pooled) == ((), (), ())


def test_other_records():
    with pytest.raises(ValueError, match="the record holds no embeddings"):
        EmbeddedExample.unpack(b"\x80")
