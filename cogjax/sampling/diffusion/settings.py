"""How a cascade samples unless told otherwise: a part of its model folder."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from cogjax.config import check_ranges
from cogjax.errors import UserError

Method = Literal["ddpm", "ddim", "dpmpp2m", "heun"]
# Settings of which each stage may have its own.
PER_STAGE = ("steps", "guidance", "percentile")


@dataclass(frozen=True)
class CascadeSampler:
    """Settings of a cascade; ValueError for a value out of range.

    steps, guidance, percentile: one for all stages, or one a stage in a tuple. steps:
    calls of the sampler. guidance: 1 is off. percentile: of the dynamic threshold, 0 is
    static clipping: division by a large percentile greys the white ground of drawings.
    method, gamma: as of `samplers.sample`. augmentation: noise on the images that a
    stage enlarges, a time of the schedule it was trained with.
    """

    steps: int | tuple[int, ...] = 32
    guidance: float | tuple[float, ...] = 3.0
    percentile: float | tuple[float, ...] = 0.0
    method: Method = "dpmpp2m"
    augmentation: float = 0.1
    gamma: float = 0.0

    def __post_init__(self):
        check_ranges(self, steps=(1, 10_000), guidance=(0, 100), percentile=(0, 100))
        check_ranges(self, augmentation=(0, 1), gamma=(0, 1))
        given = self.percentile
        if any(0 < p <= 1 for p in (given if isinstance(given, tuple) else (given,))):
            raise ValueError(f"percentile is {given}, of 100: the paper has 99.5")

    def stages(self, count: int) -> "list[CascadeSampler]":
        """Samplers of `count` stages; UserError for another number of values."""
        each = {name: self._spread(name, count) for name in PER_STAGE}
        rows = zip(*each.values(), strict=True)
        return [
            dataclasses.replace(self, **dict(zip(each, row, strict=True)))
            for row in rows
        ]

    def first(self, count: int) -> dict[str, int | float | tuple]:
        """Settings that each stage may have, of so many stages from the base on."""
        own = {name: getattr(self, name) for name in PER_STAGE}
        return {k: v[:count] if isinstance(v, tuple) else v for k, v in own.items()}

    def _spread(self, name: str, count: int) -> tuple:
        value = getattr(self, name)
        values = value if isinstance(value, tuple) else (value,) * count
        if len(values) != count:
            stages = "1 stage" if count == 1 else f"{count} stages"
            raise UserError(
                f"{name} has {len(values)} values and the cascade has {stages}: give "
                "one value, or one a stage"
            )
        return values
