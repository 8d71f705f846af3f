"""Scenes of flat coloured shapes: their items, and how they are rendered.

Lengths are shares of the image side, of an oblong image of the side of a square of
about as many pixels; y points down. An image shows its scene and
nothing else, so that `oracle.py` can be held to it exactly. Centres lie on a lattice
and there are two sizes, so that a scene looks the same at every resolution.
"""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Far apart in RGB, and each far from all backgrounds: the oracle goes by colour.
COLOURS = {
    "red": (220, 30, 40),
    "orange": (255, 135, 0),
    "yellow": (250, 220, 30),
    "green": (30, 150, 50),
    "cyan": (0, 205, 215),
    "blue": (35, 70, 215),
    "purple": (130, 40, 170),
    "pink": (255, 130, 195),
    "brown": (125, 75, 35),
    "black": (25, 25, 25),
}
# Nearly grey and light.
GROUNDS = ((255, 255, 255), (228, 228, 228), (243, 236, 222), (222, 232, 242))
TEXTURES = ("plain", "striped", "checked", "dotted")
SUPERSAMPLING = 4
CONTRAST = 22
# Radii of the two sizes, and the radius that parts them.
RADII = {"small": 0.1, "large": 0.17}
LARGE_FROM = 0.135
# Centres are multiples of 1 / LATTICE or a coarser step; shapes keep GAP apart, EDGE
# from the edges.
LATTICE = 16
GAP, EDGE = 0.08, 0.02
SQUARE = (1.0, 1.0)
RELATIONS = ("left", "right", "above", "below")


@dataclass(frozen=True)
class Item:
    """One shape: a key of SHAPES, a key of COLOURS, its centre and radius."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float

    @property
    def size(self) -> str:
        """ "small" or "large"."""
        return "large" if self.radius >= LARGE_FROM else "small"


@dataclass(frozen=True)
class Background:
    """A ground of GROUNDS by index, a texture of TEXTURES and its period."""

    ground: int = 0
    texture: str = "plain"
    period: float = 0.125


@dataclass(frozen=True)
class Scene:
    """Items that do not touch, on a background; extent: its width and height."""

    items: tuple[Item, ...]
    background: Background = Background()
    extent: tuple[float, float] = SQUARE

    def to_json(self) -> str:
        """The scene as JSON, on one line."""
        items = [[i.shape, i.colour, i.x, i.y, i.radius] for i in self.items]
        ground = self.background
        where = [ground.ground, ground.texture, ground.period]
        oblong = {} if self.extent == SQUARE else {"extent": self.extent}
        return json.dumps({"items": items, "background": where, **oblong})

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """Reads the text of `to_json`."""
        fields = json.loads(text)
        items = tuple(Item(*item) for item in fields["items"])
        extent = tuple(fields.get("extent", SQUARE))
        return cls(items, Background(*fields["background"]), extent)


def relations(a: Item, b: Item, least: float = 0.5) -> set[str]:
    """Where a lies seen from b: names of RELATIONS, two of them if it is diagonal.

    GenEval's rule: the offset of the centres less a tenth of both extents on each axis,
    normalised, must have a component above `least`.
    """
    slack = 0.1 * 2 * (a.radius + b.radius)
    along = [math.copysign(max(abs(d) - slack, 0.0), d) for d in (a.x - b.x, a.y - b.y)]
    length = math.hypot(*along) or 1.0
    right, down = along[0] / length, along[1] / length
    sides = (-right, right, -down, down)
    return {name for name, share in zip(RELATIONS, sides, strict=True) if share > least}


def place(
    radii: Sequence[float],
    rng: np.random.Generator,
    lattice: int = LATTICE,
    extent: tuple[float, float] = SQUARE,
) -> list[tuple] | None:
    """Lattice centres (x, y) at which circles of these radii keep GAP, or None.

    None where a bad start leaves no room for the last: try again.
    """
    centres: list[tuple] = []
    for index, radius in enumerate(radii):
        inside = []
        for length in extent:
            steps = np.arange(1, math.ceil(length * lattice)) / lattice
            fits = (steps >= radius + EDGE) & (steps <= length - radius - EDGE)
            inside.append(steps[fits])
        x, y = (axis.ravel() for axis in np.meshgrid(*inside))
        free = np.ones(x.shape, bool)
        for (u, v), other in zip(centres, radii[:index], strict=True):
            free &= np.hypot(x - u, y - v) >= radius + other + GAP
        if not free.any():
            return None
        pick = rng.choice(np.flatnonzero(free))
        centres.append((float(x[pick]), float(y[pick])))
    return centres


def _star(u, v):
    """Five points, the dents at half of their radius."""
    angle = np.abs((np.arctan2(u, -v) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    radius = np.hypot(u, v)
    dent = 0.5 * np.exp(0.2j * np.pi)
    along, across = dent.real - 1, dent.imag
    x, y = radius * np.cos(angle) - 1, radius * np.sin(angle)
    return along * y - across * x >= 0


def _heart(u, v):
    x, y = 1.2 * u, 0.12 - 1.2 * v
    inside = x**2 + y**2 - 1
    return inside**3 - x**2 * y**3 <= 0


def _cross(u, v):
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) <= 0.32) & (np.maximum(u, v) <= 1)


def _ring(u, v):
    square = u**2 + v**2
    return (square <= 1) & (square >= 0.55**2)


# Whether points (u right, v down, in radii from the centre) are inside.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.88,
    "triangle": lambda u, v: (v <= 0.8) & (np.abs(u) <= (v + 1) / 1.8),
    "diamond": lambda u, v: 1.25 * np.abs(u) + np.abs(v) <= 1,
    "star": _star,
    "heart": _heart,
    "cross": _cross,
    "ring": _ring,
}


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """Renders a scene, four samples a pixel and axis: uint8 [size, size, 3].

    size: 32 to 256; of an oblong scene what its extent is a multiple of.
    """
    width, height = (round(length * size) * SUPERSAMPLING for length in scene.extent)
    fine = size * SUPERSAMPLING
    canvas = _background(scene.background, fine, (height, width)).copy()
    for item in scene.items:
        _paint(canvas, item, fine)
    return np.round(_averaged(canvas)).astype(np.uint8)


def coverage(shape: str, centre: tuple, radius: float, window: tuple) -> np.ndarray:
    """Share of each pixel of a window that a shape covers, float [y, x].

    Lengths in pixels; centre (x, y) from the window's corner, window (height, width).
    """
    samples = [(np.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING for n in window]
    rows, columns = (samples[0][:, None] - centre[1]), samples[1] - centre[0]
    inside = SHAPES[shape](columns / radius, rows / radius)
    return _averaged(inside.astype(np.float32))


def _averaged(fine: np.ndarray) -> np.ndarray:
    """Means of the samples of each pixel; by slices, several times as fast as mean."""
    steps = range(SUPERSAMPLING)
    rows = sum(fine[i::SUPERSAMPLING] for i in steps)
    return sum(rows[:, i::SUPERSAMPLING] for i in steps) / SUPERSAMPLING**2


@functools.lru_cache(maxsize=64)
def _background(background: Background, fine: int, shape: tuple) -> np.ndarray:
    """float32 [y, x, 3] of a shape; fine: samples of a side."""
    light = np.array(GROUNDS[background.ground], np.float32)
    places = [(np.arange(n) + 0.5) / fine / background.period for n in shape]
    down, right = ((x % 1 < 0.5).astype(np.float32) for x in places)
    if background.texture == "striped":
        dark = np.broadcast_to(right, shape)
    elif background.texture == "checked":
        dark = np.abs(right - down[:, None])
    elif background.texture == "dotted":
        down, right = ((x % 1 - 0.5) ** 2 for x in places)
        dark = (right + down[:, None] < 0.3**2).astype(np.float32)
    else:
        dark = np.zeros(shape, np.float32)
    return light - CONTRAST * dark[..., None]


def _paint(canvas: np.ndarray, item: Item, fine: int) -> None:
    # The heart is a little larger than its radius.
    low = [int((c - 1.2 * item.radius) * fine) for c in (item.x, item.y)]
    high = [int((c + 1.2 * item.radius) * fine) + 1 for c in (item.x, item.y)]
    left, top = (max(0, edge) for edge in low)
    columns = (np.arange(left, min(canvas.shape[1], high[0])) + 0.5) / fine
    rows = (np.arange(top, min(canvas.shape[0], high[1])) + 0.5) / fine
    u = (columns - item.x) / item.radius
    v = (rows[:, None] - item.y) / item.radius
    window = canvas[top : top + len(rows), left : left + len(columns)]
    window[SHAPES[item.shape](u, v)] = COLOURS[item.colour]
