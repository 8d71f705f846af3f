"""Curves of any length in bounded memory, and their charts as inline SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cogjax.evaluate.report.html import Markup, markup
from cogjax.evaluate.report.plots import (
    BOTTOM,
    HEIGHT,
    HUES,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    axes,
    scale,
    ticks,
    x_tick,
    y_tick,
)

MOST = 400  # points that are drawn of a curve
_LARGEST = 1e300  # of a value that is drawn: sums and differences stay finite
_SMALLEST = -300  # power of ten of a logarithmic axis
_LOG_FROM = 30  # times the lowest value: a chart that spans more is logarithmic


@dataclass
class Span:
    """Neighbouring values as one point: means of step and value, and the ends."""

    count: int
    step: float
    mean: float
    low: float
    high: float

    def merged(self, other: "Span") -> "Span":
        """Both as one."""
        count = self.count + other.count
        share = other.count / count
        return Span(
            count,
            self.step + share * (other.step - self.step),
            self.mean + share * (other.mean - self.mean),
            min(self.low, other.low),
            max(self.high, other.high),
        )


@dataclass
class Curve:
    """The values of one metric, in the order of the steps.

    Beyond `2 * MOST` points neighbours become one, so that a curve has no more. first,
    last and the lowest value with its step are exact. lost: values that are no finite
    numbers or too large to draw, the first of them at step `lost_at`.
    """

    points: list[Span] = field(default_factory=list)
    first: float = math.nan
    last: float = math.nan
    last_step: int = 0
    lowest: float = math.inf
    lowest_step: int = 0
    lost: int = 0
    lost_at: int = 0
    _width: int = 1

    def add(self, step: int, value: float) -> None:
        """The next value."""
        if not abs(value) <= _LARGEST:
            self.lost_at = self.lost_at if self.lost else step
            self.lost += 1
            return
        value = float(value)
        self.first = self.first if self.points else value
        self.last, self.last_step = value, step
        if value < self.lowest:
            self.lowest, self.lowest_step = value, step
        one = Span(1, step, value, value, value)
        if self.points and self.points[-1].count < self._width:
            self.points[-1] = self.points[-1].merged(one)
        else:
            self.points.append(one)
        if len(self.points) > 2 * MOST:
            self.points = [
                a.merged(b)
                for a, b in zip(self.points[::2], self.points[1::2], strict=False)
            ] + self.points[len(self.points) & ~1 :]
            self._width *= 2


def chart(series: Mapping[str, Curve], title: str) -> Markup:
    """The curves that have points, one colour each, with a band from low to high.

    The values are on a logarithmic axis if all are above 0 and they span a factor of
    30.
    """
    lines = {name: curve.points for name, curve in series.items() if curve.points}
    points = [point for line in lines.values() for point in line]
    low, high = min(p.low for p in points), max(p.high for p in points)
    logarithmic = low > 0 and high > _LOG_FROM * low
    place = math.log10 if logarithmic else float
    marks = _decades(low, high) if logarithmic else ticks(low, high)
    down = scale(place(marks[0]), place(marks[-1]), HEIGHT - BOTTOM, TOP)
    first, last = min(p.step for p in points), max(p.step for p in points)
    across = scale(first, last, LEFT, WIDTH - RIGHT)
    parts = [axes("step", title)]
    parts += [y_tick(y, down(place(y))) for y in marks]
    parts += [x_tick(x, across(x)) for x in ticks(first, last) if first <= x <= last]
    for index, (name, line) in enumerate(lines.items()):
        placed = [
            (across(p.step), *(down(place(y)) for y in (p.mean, p.low, p.high)))
            for p in line
        ]
        parts.append(_line(name, placed, index))
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{markup(title)} '
        'by step" font-size="12" fill="currentColor">\n' + "\n".join(parts) + "\n</svg>"
    )


def _decades(low: float, high: float) -> list[float]:
    """At most six powers of ten around [low, high]."""
    first = max(math.floor(math.log10(low)), _SMALLEST)
    last = max(math.ceil(math.log10(high)), first + 1)
    stride = -(-(last - first) // 5)
    return [10.0**power for power in range(first, last + stride, stride)]


def _line(name: str, placed: Sequence[tuple], index: int) -> str:
    hue = HUES[index % len(HUES)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in placed)
    upper = [f"{x:.1f} {high:.1f}" for x, _, _, high in placed]
    lower = [f"{x:.1f} {low:.1f}" for x, _, low, _ in reversed(placed)]
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y, _, _ in placed
    )
    x = LEFT + 130 * index
    return (
        f'<path d="M{"L".join(upper + lower)}Z" fill="{hue}" opacity=".25"/>'
        f'<path d="{path}" fill="none" stroke="{hue}" stroke-width="1.5"/>'
        f'<g fill="{hue}">{dots if len(placed) <= 40 else ""}</g>'
        f'<path d="M{x} 14h18" stroke="{hue}" stroke-width="2"/>'
        f'<text x="{x + 23}" y="18">{markup(name)}</text>'
    )
