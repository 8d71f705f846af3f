"""Floating-point numbers of 16 bits with 6 bits of exponent, as DALL-E keeps moments.

    1-6-9    sign, exponent, mantissa: the running mean of a gradient
    0-6-10   no sign: the running mean of its square

Section 2.4 of DALL-E names the formats. The largest value is just below 16 (section
2.5), so the smallest is 2^-59; what is smaller becomes 0. bfloat16 has 7 bits of
mantissa, too few for a mean that moves by a hundredth, and float16's least is 6e-8.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Format(NamedTuple):
    """mantissa: its bits. signed: whether numbers below 0 are kept."""

    mantissa: int
    signed: bool


MEAN, VARIANCE = Format(9, True), Format(10, False)
_EXPONENTS = 64  # of 6 bits, the first of which is that of 0
# float32 counts exponents from -127; here the last of all is 3.
_SKIPPED = 127 + 4 - _EXPONENTS


def pack(x: Array, form: Format) -> Array:
    """float32 [...] -> the nearest number of the format, uint16 [...].

    What is too large becomes the largest. Without a sign x must not be negative.
    """
    shift = 23 - form.mantissa
    bits = jax.lax.bitcast_convert_type(jnp.abs(x), jnp.uint32)
    half = (1 << (shift - 1)) - 1 + ((bits >> shift) & 1)  # a tie goes to the even one
    found = (bits + half) >> shift
    first, least = _SKIPPED << form.mantissa, 1 << form.mantissa
    most = (_EXPONENTS << form.mantissa) - 1
    kept = jnp.minimum(jnp.maximum(found, first) - first, most)
    kept = jnp.where(kept < least, 0, kept).astype(jnp.uint16)
    return kept | ((x < 0).astype(jnp.uint16) << 15) if form.signed else kept


def unpack(packed: Array, form: Format) -> Array:
    """uint16 [...] -> the same number, float32 [...]."""
    sign = jnp.float32(1)
    if form.signed:
        sign = jnp.where(packed >> 15, -1.0, 1.0)
        packed = packed & 0x7FFF
    wide = packed.astype(jnp.uint32)
    bits = (wide + (_SKIPPED << form.mantissa)) << (23 - form.mantissa)
    value = jax.lax.bitcast_convert_type(bits, jnp.float32)
    return jnp.where(wide < 1 << form.mantissa, 0.0, sign * value)
