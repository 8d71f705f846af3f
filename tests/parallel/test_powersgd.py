"""PowerSGD against its statement in float64, on 4 of the 8 virtual devices."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cogjax.ops.small_floats import MEAN, unpack
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.parallel.powersgd import (
    Matrices,
    PowerSGD,
    count_bytes,
    find_matrices,
    low_rank_sum,
    spread,
    start_memory,
)
from tests.reference import powersgd as reference

WORKERS, UPDATES = 4, 6
MESH = make_mesh(MeshConfig(WORKERS), jax.devices()[:WORKERS])
# Two layers; of the second parameter rows and columns have two axes each.
MATRICES = {
    "mlp": Matrices((2, 12, 10), (1,), (2,)),
    "out": Matrices((2, 3, 4, 2, 5), (1, 2), (3, 4)),
}
RNG = np.random.default_rng(0)
# A part that all updates share, of falling singular values, and noise.
SHARED = RNG.normal(size=(2, 12, 10)) @ np.diag(0.5 ** np.arange(10))
GRADS = SHARED + 0.3 * RNG.normal(size=(UPDATES, WORKERS, 2, 12, 10))
BIAS = RNG.normal(size=(UPDATES, WORKERS, 3))


@cache
def start(config):
    """Memory before the first update."""
    memory = partial(start_memory, config, MATRICES, WORKERS)
    return jax.jit(memory)(jax.random.key(0))


@cache
def program(config):
    """`low_rank_sum` of all workers' gradients [w, ...], by name, and a memory."""
    each, same = PartitionSpec("data"), PartitionSpec()
    places = {"error": each, "query": same}

    def work(grads, memory):
        grads = jax.tree.map(lambda x: x[0], grads)
        return low_rank_sum(config, MATRICES, WORKERS, grads, memory)

    return jax.jit(
        jax.shard_map(
            work,
            in_specs=(each, places),
            out_specs=(same, places),
            axis_names={"data"},
            check_vma=False,
        )
    )


def update(config, grads, bias, memory):
    """(sums, next memory) of gradients [w, 2, 12, 10] that all matrices have."""
    grads = grads.astype(np.float32)
    named = {k: grads.reshape(WORKERS, *m.shape) for k, m in MATRICES.items()}
    with jax.set_mesh(MESH):
        return program(config)(named | {"bias": np.float32(bias)}, memory)


@cache
def run(config):
    """(sums of each update, errors after each, the first Q), by name, in numpy."""
    memory = start(config)
    query, rows = jax.device_get(memory["query"]), []
    for grads, bias in zip(GRADS, BIAS, strict=True):
        sums, memory = update(config, grads, bias, memory)
        rows.append(jax.device_get((sums, memory)))
    return rows, query


@cache
def stated(config, layer):
    """(sum, errors) of each update of a layer of "mlp", as the reference says."""
    query = run(config)[1]["mlp"][layer]
    settings = {"warm": config.basis == "warm", "feedback": config.feedback}
    return list(reference.updates(GRADS[:, :, layer], query, **settings))


@pytest.mark.parametrize("basis", ["warm", "fixed"])
@pytest.mark.parametrize("feedback", [True, False])
def test_equals_the_statement(basis, feedback):
    config = PowerSGD(rank=3, basis=basis, feedback=feedback)
    rows, _ = run(config)
    for layer in range(2):
        for (sums, memory), (want, errors) in zip(
            rows, stated(config, layer), strict=True
        ):
            np.testing.assert_allclose(sums["mlp"][layer], want, atol=2e-4)
            if feedback:
                found = memory["error"]["mlp"][:, layer]
                np.testing.assert_allclose(found, errors, atol=2e-4)
    for (sums, _), bias in zip(rows, BIAS, strict=True):
        np.testing.assert_allclose(sums["bias"], bias.sum(0), rtol=1e-5, atol=1e-6)


def test_axes_are_folded_to_a_matrix():
    """Both parameters have the same numbers: only Q is another."""
    rows, query = run(PowerSGD(rank=3))
    assert query["out"].shape == (2, 2, 5, 3)
    flat = query["out"][1].reshape(10, 3)
    want = reference.updates(GRADS[:, :, 1], flat)
    for (sums, _), (applied, _) in zip(rows, want, strict=True):
        np.testing.assert_allclose(sums["out"][1].reshape(12, 10), applied, atol=2e-4)


def test_full_rank_is_the_exact_sum():
    rows, _ = run(PowerSGD(rank=100))
    for (sums, memory), grads in zip(rows, GRADS, strict=True):
        np.testing.assert_allclose(sums["mlp"], grads.sum(0), atol=1e-4)
        left = sum(memory["error"]["mlp"])
        np.testing.assert_allclose(left, 0 * left, atol=1e-4)


def test_what_was_applied_and_what_is_kept_are_all_gradients():
    rows, _ = run(PowerSGD(rank=3))
    applied = sum(sums["mlp"] for sums, _ in rows)
    kept = rows[-1][1]["error"]["mlp"].sum(0)
    total = GRADS.sum((0, 1))
    np.testing.assert_allclose(applied + kept, total, atol=1e-4)
    # Each update alone leaves out more than all of them together do.
    alone = [GRADS[i].sum(0) - rows[i][0]["mlp"] for i in range(UPDATES)]
    assert np.linalg.norm(kept) < 0.5 * sum(map(np.linalg.norm, alone))


def test_16_bits_of_error_change_little():
    rows, _ = run(PowerSGD(rank=3, bits=16))
    exact, _ = run(PowerSGD(rank=3))
    assert rows[-1][1]["error"]["mlp"].dtype == np.uint16
    for (sums, _), (want, _) in zip(rows, exact, strict=True):
        scale = np.abs(want["mlp"]).max()
        np.testing.assert_allclose(sums["mlp"] / scale, want["mlp"] / scale, atol=0.01)


def test_updates_recover_from_gradients_of_zero():
    """Their sum and errors are 0, and the warm Q after them too."""
    memory, rows = start(PowerSGD(rank=3)), []
    query, grads = np.asarray(memory["query"]["mlp"]), [0 * GRADS[0], *GRADS[:2]]
    for each in grads:
        found = update(PowerSGD(rank=3), each, BIAS[0], memory)
        sums, memory = jax.device_get(found)
        rows.append((sums["mlp"], memory["error"]["mlp"]))
        if not each.any():
            assert not any(x.any() for x in (*rows[0], memory["query"]["mlp"]))
        memory = found[1]
    for layer in range(2):
        stated = reference.updates(np.stack(grads)[:, :, layer], query[layer])
        for (sums, errors), (want, kept) in zip(rows, stated, strict=True):
            np.testing.assert_allclose(sums[layer], want, atol=2e-4)
            np.testing.assert_allclose(errors[:, layer], kept, atol=2e-4)
    assert np.linalg.norm(sums) > 0.5 * np.linalg.norm(grads[-1].sum(0))


@pytest.mark.parametrize("bits", [32, 16])
def test_other_workers_have_the_same_sum(bits):
    rows, _ = run(PowerSGD(rank=3, bits=bits))
    before = rows[-1][1]["error"]["mlp"]
    after = np.asarray(jax.jit(spread, static_argnums=1)(before, 8))
    assert after.shape == (8, 2, 12, 10) and after.dtype == before.dtype
    if bits == 16:
        before, after = (
            np.asarray(jax.jit(unpack, static_argnums=1)(x, MEAN))
            for x in (before, after)
        )
    tolerance = 1e-5 if bits == 32 else 2e-2
    np.testing.assert_allclose(after.sum(0), before.sum(0), atol=tolerance)


def test_only_matrices_that_get_smaller():
    def leaf(*shape):
        return jax.ShapeDtypeStruct(shape, np.float32)

    params = {"a": {"kernel": leaf(2, 8, 8), "bias": leaf(2, 8)}, "table": leaf(99, 8)}
    axes = {"a": {"kernel": ((1,), (2,)), "bias": None}, "table": None}
    find = partial(find_matrices, params, axes)
    assert list(find(3)) == ["a/kernel"]
    # 4 x (8 + 8) numbers are as many as 8 x 8.
    assert not find(4)
    sent = count_bytes(PowerSGD(rank=3, bits=16), find(3), params)
    assert sent.exact == 4 * (128 + 16 + 792)
    assert sent.compressed == 2 * (2 * 3 * 16) + 4 * (16 + 792)
    assert sent.error == 2 * 128
