"""The fused forms, interpreted, against float64; which one "auto" takes."""

import functools

import jax
import numpy as np
import pytest

from cogjax.ops.attention import causal_attention
from cogjax.ops.fused_attention import (
    choose,
    splash_causal,
    splash_masked,
    visited_share,
)
from cogjax.ops.masks import FULL, LayerKind
from cogjax.ops.sequence import Sequence
from tests.reference import numeric


def inputs(length):
    rng = np.random.default_rng(0)
    return [np.float32(rng.normal(size=(2, length, 2, 4))) for _ in range(4)]


def with_gradients(function, mask):
    """Output and gradients of a fused form, and what they are in float64."""
    *arrays, weights = inputs(len(mask))

    @jax.jit
    def run(*arrays):
        out, back = jax.vjp(function, *arrays)
        return out, back(weights)

    want = numeric.attention(*arrays, mask)
    return run(*arrays), (want, numeric.attention_gradients(arrays, weights, mask))


def agree(got, want, atol):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, atol=atol)


def test_splash_causal():
    # Not a multiple of any block.
    fused = functools.partial(splash_causal, interpret=True)
    agree(*with_gradients(fused, np.tri(150, dtype=bool)), 5e-6)


@pytest.mark.parametrize(
    ("kind", "grid", "missing"),
    [
        # Over two blocks of keys; the others fit in one.
        (LayerKind("row"), (20, 13), 1),
        # By columns, of a grid that is not square, and back.
        (LayerKind("column"), (5, 7), 1),
        (LayerKind("conv", kernel=3, edge="torus"), (6, 6), 0),
    ],
    ids=str,
)
def test_splash_masked(kind, grid, missing):
    whole = Sequence.text_to_image(9, grid)
    sequence = whole.first(whole.length - missing)
    form = {"sequence": sequence, "kind": kind, "interpret": True}
    fused = functools.partial(splash_masked, **form)
    agree(*with_gradients(fused, sequence.mask(kind)), 5e-6)


@pytest.mark.parametrize(
    "sequence",
    [
        Sequence.text_to_image(7, (4, 6), "all"),
        Sequence.image_to_text((4, 6), 7),
        Sequence.image_to_text((4, 6), 3, 4, 2),
    ],
    ids=("text all", "caption", "two questions"),
)
def test_splash_masked_both_ways(sequence):
    arrays = inputs(sequence.length)[:3]
    form = {"sequence": sequence, "kind": LayerKind("column")}
    fused = jax.jit(lambda *x: splash_masked(*x, **form, interpret=True))
    want = numeric.attention(*arrays, sequence.mask(LayerKind("column")))
    agree(fused(*arrays), want, 2e-6)


@pytest.mark.parametrize("kind", [FULL, LayerKind("column")], ids=str)
def test_splash_hides_text(kind):
    """Neither output nor gradients of what is seen know of what is hidden."""
    sequence = Sequence.text_to_image(5, (3, 4), "all")
    visible = np.ones((2, sequence.length), bool)
    visible[1, :3] = False
    mask = sequence.mask(kind) & visible[:, None, None]  # [b, 1, s, s]
    mask = mask | np.eye(sequence.length, dtype=bool)
    seen = np.float32(visible[:, :, None, None])

    def fused(*arrays):
        form = {"sequence": sequence, "kind": kind, "interpret": True}
        return splash_masked(*arrays, visible, **form) * seen

    *arrays, weights = inputs(sequence.length)

    @jax.jit
    def run(*arrays):
        out, back = jax.vjp(fused, *arrays)
        return out, back(weights)

    want = numeric.attention(*arrays, mask) * seen
    grads = numeric.attention_gradients(arrays, weights * seen, mask)
    agree(run(*arrays), (want, grads), 5e-6)


def test_a_forward_pass_that_runs_again_keeps_nothing():
    """Only the second pass, for the gradient, writes the kernel's normalisers."""
    splash = jax.checkpoint(functools.partial(splash_causal, interpret=True))
    shapes = [jax.ShapeDtypeStruct((1, 128, 1, 8), np.float32)] * 3
    forward = str(jax.make_jaxpr(lambda *x: jax.vjp(splash, *x))(*shapes))
    both = jax.grad(lambda *x: splash(*x).sum(), argnums=(0, 1, 2))
    assert "fwd_no_residuals" in forward and "fwd_residuals" not in forward
    assert "fwd_residuals" in str(jax.make_jaxpr(both)(*shapes))


def test_visited_share():
    """Causal blocks of 512 or 640; columns stand together."""
    assert visited_share(Sequence.causal(1024), FULL) == 3 / 4
    paper = Sequence.text_to_image(256, (32, 32))
    assert visited_share(paper, FULL) == 3 / 4
    shares = [visited_share(paper, LayerKind(name)) for name in ("row", "column")]
    assert shares == [12 / 25, 9 / 25]
    two_way = Sequence.text_to_image(256, (32, 32), "all")
    assert visited_share(two_way, FULL) == 15 / 25


def test_auto(monkeypatch):
    def auto(dtype="bfloat16", causal=True):
        return choose("auto", dtype, causal=causal)

    assert auto() == auto(causal=False) == "xla"
    monkeypatch.setattr("cogjax.ops.fused_attention.platform", lambda: "tpu")
    assert auto() == auto(causal=False) == auto("float32") == "splash"
    monkeypatch.setattr("cogjax.ops.fused_attention.platform", lambda: "gpu")
    assert (auto(), auto("float32"), auto(causal=False)) == ("cudnn", "xla", "xla")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("flash", "expected one of"),
        ("splash", "runs on a tpu, this is a cpu"),
        ("cudnn", "runs on a gpu, this is a cpu"),
    ],
)
def test_what_does_not_run_here(asked, message):
    arrays = inputs(8)[:3]
    with pytest.raises(ValueError, match=message):
        causal_attention(*arrays, implementation=asked)


def test_cudnn_does_not_take_what_it_cannot(monkeypatch):
    monkeypatch.setattr("cogjax.ops.fused_attention.platform", lambda: "gpu")
    for dtype, causal in (("float32", True), ("bfloat16", False)):
        with pytest.raises(ValueError, match="full attention in bfloat16 or float16"):
            choose("cudnn", dtype, causal=causal)
