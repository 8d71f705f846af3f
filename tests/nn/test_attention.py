"""Every form of attention against float64 under the oracle's mask."""

import functools

import jax
import numpy as np
import pytest

from cogjax.nn import attention as forms
from cogjax.nn.decoder_config import DecoderConfig
from cogjax.ops.masks import FULL, LayerKind
from cogjax.ops.sequence import Segment, Sequence
from tests.reference import numeric

CONFIG = DecoderConfig(width=8, heads=2)
GRID = (3, 4)
ROW, COLUMN = LayerKind("row"), LayerKind("column")
SUPER_RESOLUTION = Sequence(
    (
        Segment(3),
        Segment(4, "causal", (0,), (2, 2)),
        Segment(12, "causal", (0, 1), GRID),
    )
)
TO_IMAGE = Sequence.text_to_image(5, GRID)
TWO_WAY = Sequence.text_to_image(5, GRID, "all")
# (sequence, kind, whether some is padding, the form that is taken)
CASES = {
    "plain": (Sequence.causal(9), FULL, False, "causal"),
    "padded": (Sequence.causal(9), FULL, True, "dense"),
    "full layer": (TO_IMAGE.first(16), FULL, False, "causal"),
    "padded full layer": (TO_IMAGE, FULL, True, "dense"),
    "rows": (TO_IMAGE.first(16), ROW, False, "sparse"),
    "padded rows": (TO_IMAGE, ROW, True, "sparse"),
    "text alone": (TO_IMAGE.first(5), ROW, False, "causal"),
    "padded text alone": (TWO_WAY.first(5), ROW, True, "dense"),
    "two-way text": (TWO_WAY, FULL, False, "dense"),
    "captions": (Sequence.image_to_text(GRID, 3, count=2), COLUMN, False, "sparse"),
    "question": (Sequence.image_to_text(GRID, 2, 3), FULL, True, "sparse"),
    "image and start": (
        Sequence.image_to_text(GRID, 4).first(13),
        ROW,
        False,
        "sparse",
    ),
    "super-resolution": (SUPER_RESOLUTION, COLUMN, False, "dense"),
}


def inputs(length):
    rng = np.random.default_rng(0)
    return [np.float32(rng.normal(size=(2, length, 2, 4))) for _ in range(3)]


@pytest.mark.parametrize("case", CASES)
def test_equals_the_oracle(case):
    sequence, kind, padded, form = CASES[case]
    assert forms.form_of(sequence, kind, padded) == form
    length, visible = sequence.length, None
    mask = np.repeat(sequence.mask(kind)[None], 2, axis=0)
    if padded:
        # In front of the text, up to its second position.
        start = sequence.starts[1] if sequence.starts_with_image else 0
        visible = np.ones((2, start + 4), bool)
        visible[1, start : start + 2] = False
        hidden = np.zeros((2, length), bool)
        hidden[:, : start + 4] = ~visible[:, :length]
        mask = mask & ~hidden[:, None] | np.eye(length, dtype=bool)
    attend = functools.partial(
        forms.self_attention, config=CONFIG, sequence=sequence, kind=kind
    )
    arrays = inputs(length)
    got = jax.jit(attend)(*arrays, visible=visible)
    np.testing.assert_allclose(
        got, numeric.attention(*arrays, mask[:, None]), atol=3e-6
    )


@pytest.fixture
def on_a_tpu(monkeypatch):
    """The names of the kernels that are called, in place of them."""
    taken = []

    def fused(name):
        return lambda query, *rest, **form: taken.append((name, len(rest))) or query

    monkeypatch.setattr("cogjax.ops.fused_attention.platform", lambda: "tpu")
    monkeypatch.setattr("cogjax.ops.attention.splash_causal", fused("causal"))
    monkeypatch.setattr(forms, "splash_masked", fused("masked"))
    return taken


def traced(sequence, kind, visible):
    attend = functools.partial(
        forms.self_attention, config=CONFIG, sequence=sequence, kind=kind
    )
    jax.eval_shape(attend, *inputs(sequence.length), visible=visible)


@pytest.mark.parametrize("case", CASES)
def test_on_a_tpu_all_but_short_prompts_is_fused(on_a_tpu, case):
    """Hidden text too, and captions, which see nothing of each other."""
    sequence, kind, padded, form = CASES[case]
    visible = np.ones((1, 3), bool) if padded else None
    traced(sequence, kind, visible)
    want = {
        "causal": [("causal", 2)],
        "sparse": [("masked", 2 + padded)],
        "dense": [],
    }
    assert on_a_tpu == want[form]


def test_on_a_tpu_what_has_no_blocks_is_fused_where_it_is_long(on_a_tpu):
    sequence = Sequence.text_to_image(200, (8, 8), "all")
    traced(sequence, FULL, np.ones((2, 200), bool))
    assert on_a_tpu == [("masked", 3)]


def test_a_kernel_of_another_machine_is_refused():
    splash = DecoderConfig(width=8, heads=2, implementation="splash")
    visible = np.ones((2, 5), bool)
    with pytest.raises(ValueError, match="'splash' runs on a tpu, this is a cpu"):
        forms.self_attention(*inputs(17), splash, TO_IMAGE, ROW, visible)
