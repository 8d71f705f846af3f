"""What a cascade's weights do not say: how each of its stages was trained."""

from collections.abc import Callable
from dataclasses import dataclass

from cogjax.data.caption_cleaning import clean_caption


@dataclass(frozen=True)
class Cascade:
    """The stages of a model, base first.

    predictions, schedules: of each stage. augmentations: schedule of the noise on the
    small image of each stage of super-resolution, one fewer. distilled: steps of DDIM
    that each stage was distilled to, with its guidance inside; 0 is not, and so are all
    of (). cleaned: whether captions were cleaned, as the text encoder's own were.
    """

    predictions: tuple[str, ...]
    schedules: tuple[str, ...]
    augmentations: tuple[str, ...] = ()
    distilled: tuple[int, ...] = ()
    cleaned: bool = False

    def __post_init__(self):
        count = len(self.predictions)
        others = len(self.schedules), len(self.augmentations) + 1
        if count < 1 or others != (count, count):
            raise ValueError(
                f"{count} predictions, {others[0]} schedules and {others[1] - 1} "
                "augmentations are not of one cascade"
            )
        if len(self.distilled) not in (0, count) or min(self.distilled, default=0) < 0:
            raise ValueError(
                f"distilled is {self.distilled}, expected a number of steps a stage"
            )

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the stages' networks in a model."""
        rest = range(1, len(self.predictions))
        return ("base", *(f"super_{i}" for i in rest))

    def first(self, count: int) -> "Cascade":
        """A cascade of the first `count` stages, from the base on."""
        return Cascade(
            self.predictions[:count],
            self.schedules[:count],
            self.augmentations[: count - 1],
            self.distilled[:count],
            self.cleaned,
        )

    @property
    def distilled_steps(self) -> tuple[int, ...]:
        """Steps of each stage, 0 for one that is not distilled."""
        return self.distilled or (0,) * len(self.predictions)

    @property
    def clean(self) -> Callable[[str], str] | None:
        """A caption as those of training were cleaned; None if they were not."""
        return clean_caption if self.cleaned else None
