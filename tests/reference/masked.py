"""MaskGIT's decoding of one image (Chang et al. 2022, section 3.2, and the release).

gamma(r) = cos(pi r / 2) is the share of codes that are masked when a share r of the
steps is done.
"""

import math
from collections.abc import Callable, Sequence

from tests.reference.numeric import Array, log_softmax


def gamma(r: float) -> float:
    """1 at 0, 0 at 1."""
    return math.cos(math.pi * r / 2)


def left_masked(masked: int, steps: int) -> list[int]:
    """How many of so many codes are masked after each step: at least one less."""
    found = [masked]
    for step in range(1, steps + 1):
        wanted = math.floor(masked * gamma(step / steps))
        found.append(max(0, min(wanted, found[-1] - 1)))
    return found[1:]


def decode(
    predict: Callable[[list], Array],
    codes: Sequence[int | None],
    left: Sequence[int],
    noise: Array,
) -> list[int]:
    """The likeliest codes; None is masked.

    predict: codes -> logits [n, v]. left: after each step. noise: [steps, n], what is
    added to the log-probability of a code to get its confidence.
    """
    codes = list(codes)
    for count, added in zip(left, noise, strict=True):
        log_probs = log_softmax(predict(codes))
        best = log_probs.argmax(-1)
        places = [place for place, code in enumerate(codes) if code is None]
        places.sort(key=lambda place: log_probs[place].max() + added[place])
        for place in places[count:]:
            codes[place] = int(best[place])
    return codes
