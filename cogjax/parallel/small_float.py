"""16-bit floats of 1 sign, 6 exponent and 9 mantissa bits (DALL-E, appendix E.2).

They reach from 2^-60 to just under 16. Gradients are small: float16's five bits of
exponent lose them, bfloat16 has bits for numbers that no gradient reaches.
"""

import jax.numpy as jnp
from jax import Array, lax

# A float32 has 23 mantissa bits; its exponent field of 2^k is k + 127, here k + 60.
_CUT = 23 - 9
_OFFSET = (127 - 60) << 9
LARGEST = 16 - 2.0**-6


def encode(x: Array) -> Array:
    """float32 [...] -> uint16 [...], to the nearest, ties to even.

    Above the range it is the largest number, and below it 0. NaN becomes the largest.
    """
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    sign = (bits >> 16) & 0x8000
    size = bits & 0x7FFFFFFF
    size += (1 << (_CUT - 1)) - 1 + ((size >> _CUT) & 1)
    size = (size >> _CUT).astype(jnp.int32) - _OFFSET
    size = jnp.where(size > 0, jnp.minimum(size, 0x7FFF), 0)
    return (sign | size.astype(jnp.uint32)).astype(jnp.uint16)


def decode(codes: Array) -> Array:
    """uint16 [...] -> float32 [...]."""
    codes = codes.astype(jnp.uint32)
    size = codes & 0x7FFF
    bits = jnp.where(size > 0, (size + _OFFSET) << _CUT, 0)
    return lax.bitcast_convert_type(bits | (codes & 0x8000) << 16, jnp.float32)
