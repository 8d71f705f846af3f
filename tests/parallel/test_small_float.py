import jax
import numpy as np

from cogjax.parallel.small_float import LARGEST, decode, encode
from tests.reference.powersgd import six_nine

BOTH = jax.jit(lambda x: decode(encode(x)))
TWICE = jax.jit(lambda codes: (decode(codes), encode(decode(codes))))


def test_all_codes_come_back():
    codes = np.arange(2**16, dtype=np.uint16)
    values, found = jax.device_get(TWICE(codes))
    # Code 2^15 is a second 0.
    np.testing.assert_array_equal(found, codes)
    assert len(np.unique(values)) == 2**16 - 1
    assert values.max() == LARGEST == -values.min()


def test_numbers_become_the_nearest():
    rng = np.random.default_rng(0)
    x = rng.normal(size=5000) * 2.0 ** rng.integers(-65, 3, 5000)
    x = np.concatenate([x, [0, 15.99, 16, 1e9, -np.inf, 2.0**-59, 1e-30]])
    x = x.astype(np.float32)
    np.testing.assert_array_equal(BOTH(x), six_nine(x))
    kept = np.abs(x[:5000]) > 2.0**-59
    error = np.abs(np.asarray(BOTH(x))[:5000] / x[:5000] - 1)[
        kept & (abs(x[:5000]) < 15)
    ]
    assert error.max() <= 2.0**-10
