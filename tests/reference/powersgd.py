"""PowerSGD of one matrix (Vogels et al. 2019; DALL-E, appendix E)."""

from collections.abc import Iterator

import numpy as np

from tests.reference.numeric import Array, double


def updates(
    gradients: Array, query: Array, *, warm: bool = True, feedback: bool = True
) -> Iterator[tuple[Array, Array]]:
    """(what is applied [m, n], errors [w, m, n]) of each update.

    gradients: of all updates and workers, [t, w, m, n]. query: [n, r].
    """
    gradients, query = double(gradients), double(query)
    errors = np.zeros(gradients.shape[1:])
    for each in gradients:
        seen = each + errors
        left = orthonormal(sum(one @ query for one in seen))
        right = sum(one.T @ left for one in seen)
        applied = left @ right.T
        if feedback:
            errors = seen - applied / len(seen)
        if warm:
            query = right
        yield applied, errors


def orthonormal(p: Array) -> Array:
    """Columns of [m, r] after Gram and Schmidt, made different by a millionth of I."""
    p = p / max(np.sqrt(np.mean(p**2)), 1e-30) + 1e-6 * np.eye(*p.shape)
    found = np.zeros(p.shape)
    for i in range(p.shape[1]):
        column = p[:, i]
        for _ in range(2):
            column = column - found[:, :i] @ (found[:, :i].T @ column)
        found[:, i] = column / np.linalg.norm(column)
    return found
