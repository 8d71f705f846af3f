"""Curves as inline SVG, in the colours of the page around them."""

import math
from collections.abc import Mapping, Sequence

from cogjax.evaluate.report.html import Markup, markup

# x, y, and the ends of the interval of y.
Point = tuple[float, float, float, float]
WIDTH, HEIGHT = 480, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 46
_INSET = 10  # of the first and the last point
HUES = ("#4878d0", "#ee854a", "#4f9f60", "#d65f5f", "#956cb4")


def line_plot(
    series: Mapping[str, Sequence[Point]],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
) -> Markup:
    """One line a series through its points, with bars for their intervals.

    Two series at most have room for their names. log_x: powers of two are equally far
    apart. All values finite, x above 0 with log_x.
    """
    points = [point for line in series.values() for point in line]
    xs = sorted({point[0] for point in points})
    lows, highs = [min(p[1:]) for p in points], [max(p[1:]) for p in points]
    y_ticks = ticks(min(lows), max(highs))
    place = math.log2 if log_x else float
    ends = LEFT + _INSET, WIDTH - RIGHT - _INSET
    across = scale(place(xs[0]), place(xs[-1]), *ends)
    down = scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = [axes(x_label, y_label)]
    parts += [y_tick(y, down(y)) for y in y_ticks]
    parts += [x_tick(x, across(place(x))) for x in _thinned(xs)]
    for index, (name, line) in enumerate(series.items()):
        placed = [(across(place(p[0])), *map(down, p[1:])) for p in line]
        parts.append(_line(name, placed, index))
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'aria-label="{markup(y_label)} against {markup(x_label)}" '
        f'font-size="12" fill="currentColor">\n' + "\n".join(parts) + "\n</svg>"
    )


def scale(low: float, high: float, start: float, end: float):
    """The line through (low, start) and (high, end); the middle for a single value."""
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def ticks(low: float, high: float) -> list[float]:
    """About five round values around [low, high]."""
    span = (high - low) or abs(high) or 1.0
    rough = max(span / 4, 1e-300)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _thinned(xs: Sequence[float]) -> Sequence[float]:
    """At most about twelve of the values."""
    return xs[:: -(-len(xs) // 12)]


def axes(x_label: str, y_label: str) -> str:
    bottom, middle = HEIGHT - BOTTOM, (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" '
        f'stroke="currentColor"/>'
        f'<text x="{(LEFT + WIDTH) / 2:g}" y="{HEIGHT - 8}" text-anchor="middle">'
        f"{markup(x_label)}</text>"
        f'<text transform="translate(14 {middle:g}) rotate(-90)" text-anchor="middle">'
        f"{markup(y_label)}</text>"
    )


def y_tick(value: float, y: float) -> str:
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="currentColor" '
        f'opacity=".15"/><text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
        f"{value:.6g}</text>"
    )


def x_tick(value: float, x: float) -> str:
    y = HEIGHT - BOTTOM
    return (
        f'<path d="M{x:.1f} {y}v4" stroke="currentColor"/>'
        f'<text x="{x:.1f}" y="{y + 17}" text-anchor="middle">{value:.6g}</text>'
    )


def _line(name: str, placed: Sequence[tuple], index: int) -> str:
    hue = HUES[index % len(HUES)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in placed)
    bars = "".join(f"M{x:.1f} {low:.1f}V{high:.1f}" for x, _, low, high in placed)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y, _, _ in placed
    )
    x = LEFT + 200 * index
    key = f'<path d="M{x} 14h18" stroke="{hue}" stroke-width="2"/>'
    return (
        f'<g fill="{hue}" stroke="none">{dots}</g>'
        f'<path d="{path}" fill="none" stroke="{hue}" stroke-width="2"/>'
        f'<path d="{bars}" stroke="{hue}" opacity=".5"/>'
        f'{key}<text x="{x + 23}" y="18">{markup(name)}</text>'
    )
