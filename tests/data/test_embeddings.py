"""Records of texts as vectors: ragged, in bfloat16."""

import ml_dtypes
import msgpack
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


def changed(**fields):
    vectors = [np.ones((n, 6), np.float32) for n in (5, 2)]
    whole = EmbeddedExample("a", CAPTIONS, vectors, [x[0] for x in vectors])
    return msgpack.packb(msgpack.unpackb(whole.pack()) | fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"captions": CAPTIONS[:1]},
        {"captions": (*CAPTIONS, CAPTIONS[0])},
        {"lengths": [9, -2]},
        {"lengths": [2**63, 2]},
        {"lengths": [5, 1]},
        {"tokens": b"", "pooled": b""},
        {"tokens": b"\x80\x7f" * 42},
        {"pooled": b"\xc0\x7f" * 12},
    ],
    ids=str,
)
def test_vectors_that_are_not_those_of_the_captions(fields):
    assert len(EmbeddedExample.unpack(changed()).tokens) == 2
    with pytest.raises(ValueError, match="the record holds no embeddings"):
        EmbeddedExample.unpack(changed(**fields))


def test_other_records():
    with pytest.raises(ValueError, match="the record holds no embeddings"):
        EmbeddedExample.unpack(b"\x80")
