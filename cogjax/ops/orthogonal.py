"""The nearest orthogonal matrix, about: the step of Muon (Jordan et al. 2024)."""

from jax import Array

from cogjax.ops.packed import rounded, rounded_over_rows

STEPS = 5
# a, b, c of a quintic x -> a x + b x^3 + c x^5 that takes singular values of 0.01 to 1
# to between 0.7 and 1.2, and no closer: Muon's own.
COEFFICIENTS = (3.4445, -4.775, 2.0315)


def orthogonal(x: Array) -> Array:
    """x [i, o] with singular values about 1, from one of a Frobenius norm of at most 1.

    float32; the factors of products are rounded to bfloat16, as in Muon's own code.
    """
    first, third, fifth = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    for _ in range(STEPS):
        square = rounded_over_rows(x, x) if tall else rounded(x, x, 1)
        change = third * square + fifth * rounded(square, square, 0)
        x = first * x + (rounded(x, change, 0) if tall else rounded(change, x, 0))
    return x
