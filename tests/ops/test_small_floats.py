"""16-bit numbers against all that there are, listed in float64."""

import jax
import numpy as np
import pytest

from cogjax.ops.small_floats import MEAN, VARIANCE, pack, unpack

PACK, UNPACK = (jax.jit(f, static_argnums=1) for f in (pack, unpack))
FORMS = pytest.mark.parametrize("form", [MEAN, VARIANCE], ids=["1-6-9", "0-6-10"])


def values(form):
    """All that are not negative, in order: 0, then 63 exponents up to 3."""
    parts = 1 + np.arange(2**form.mantissa) / 2**form.mantissa
    return np.concatenate([[0.0], *(parts * 2.0**e for e in range(-59, 4))])


@FORMS
def test_every_number_is_kept(form):
    wanted = values(form)
    assert wanted[-1] < 16 and len(wanted) == 63 * 2**form.mantissa + 1
    both = np.concatenate([wanted, -wanted]) if form.signed else wanted
    packed = PACK(np.float32(both), form)
    assert packed.dtype == np.uint16
    np.testing.assert_array_equal(np.asarray(UNPACK(packed, form), np.float64), both)


@FORMS
def test_others_become_the_nearest(form):
    rng, known = np.random.default_rng(0), values(form)
    x = np.float32(2.0 ** rng.uniform(-58, 3.9, 5000))
    x = x * rng.choice([-1, 1], x.shape).astype(np.float32) if form.signed else x
    found = np.asarray(UNPACK(PACK(x, form), form), np.float64)
    places = np.searchsorted(known, np.abs(x))
    near = np.minimum(
        np.abs(known[places] - np.abs(x)), np.abs(known[places - 1] - np.abs(x))
    )
    np.testing.assert_array_equal(
        np.abs(np.abs(found) - np.abs(x, dtype=np.float64)), near
    )
    assert (np.sign(found) == np.sign(x)).all()


@FORMS
def test_ends_of_the_range(form):
    x = np.float32([0, 1e-30, 2.0**-59, 15.999, 16, 1e9])
    found = UNPACK(PACK(x, form), form)
    most = values(form)[-1]
    np.testing.assert_array_equal(found, np.float32([0, 0, 2.0**-59, most, most, most]))


@FORMS
def test_a_tie_goes_to_the_even_one(form):
    step = 2.0**-form.mantissa
    x = np.float32([1 + step / 2, 1 + 3 * step / 2])
    np.testing.assert_array_equal(UNPACK(PACK(x, form), form), [1, 1 + 2 * step])
