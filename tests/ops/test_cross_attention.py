"""Attention of sequences to shared texts, one by one in float64."""

import jax
import numpy as np

from cogjax.ops.cross_attention import cross_attention


def test_each_sequence_sees_its_own_text():
    rng = np.random.default_rng(0)
    query = rng.normal(size=(4, 3, 2, 5)).astype(np.float32)
    key, value = (rng.normal(size=(2, 6, 2, 5)).astype(np.float32) for _ in range(2))
    visible = np.arange(6) < np.array([[6], [2]])
    arrays = key.transpose(0, 2, 3, 1), value.swapaxes(1, 2)
    found = jax.jit(cross_attention)(query, *arrays, visible)
    for b in range(4):
        text = b // 2
        seen = visible[text]
        q, k, v = (x.astype(np.float64) for x in (query[b], key[text], value[text]))
        scores = np.einsum("unh,tnh->nut", q, k[seen]) / np.sqrt(5)
        weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
        expected = np.einsum("nut,tnh->unh", weights, v[seen])
        np.testing.assert_allclose(found[b], expected, atol=2e-6)
