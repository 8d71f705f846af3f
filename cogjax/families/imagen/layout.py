"""What a cascade's weights do not say: how each of its stages was trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cascade:
    """The stages of a model, base first.

    predictions, schedules: of each stage. augmentations: schedule of the noise on the
    small image of each stage of super-resolution, one fewer.
    """

    predictions: tuple[str, ...]
    schedules: tuple[str, ...]
    augmentations: tuple[str, ...] = ()

    def __post_init__(self):
        count = len(self.predictions)
        others = len(self.schedules), len(self.augmentations) + 1
        if count < 1 or others != (count, count):
            raise ValueError(
                f"{count} predictions, {others[0]} schedules and {others[1] - 1} "
                "augmentations are not of one cascade"
            )

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the stages' networks in a model."""
        rest = range(1, len(self.predictions))
        return ("base", *(f"super_{i}" for i in rest))
