"""The compositional world: images of shapes, requests for them, and splits.

Everything is a function of seed, split and index: the set has no end, and a folder
holds its beginning. Some colours of shapes, counts of shapes and relations
of shapes are held out: `train` and `val` never show or state them. Each image of
`unseen` shows a colour or a count that is held out.
"""

import functools
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from cogjax.data.aspects import Shape
from cogjax.data.images import encode_png
from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.worlds.shapes.captions import (
    Phrase,
    SceneRequest,
    pick,
    write_caption,
)
from cogjax.worlds.shapes.scenes import (
    COLOURS,
    GROUNDS,
    LATTICE,
    RADII,
    SHAPES,
    SQUARE,
    TEXTURES,
    Background,
    Item,
    Scene,
    place,
    relations,
    render,
)
from cogjax.worlds.shapes.splits import (
    HELD_COLOURS,
    HELD_COUNTS,
    HELD_RELATIONS,
    MOST,
    held_out,
)
from cogjax.worlds.words import LANGUAGES

Progress = Callable[[int, int, str], None]
SPLITS = ("train", "val", "unseen")
# GenEval's six, then size and negation.
TASKS = ("single", "two", "counting", "colour", "position", "binding")
TASKS += ("size", "negation")
# Those that can state something held out.
UNSEEN_TASKS = ("counting", "colour", "position", "binding")
CAPTIONS = 4  # of each language
_CLEAR = 0.55
_NAMES, _HUES = tuple(SHAPES), tuple(COLOURS)


def satisfied(request: SceneRequest, items: Sequence[Item]) -> bool:
    """All or nothing: the phrases and the relation hold, and nothing else is there."""
    by_shape = {
        p.shape: [i for i in items if i.shape == p.shape] for p in request.phrases
    }
    if len(items) != sum(len(found) for found in by_shape.values()):
        return False
    if not all(_holds(phrase, by_shape[phrase.shape]) for phrase in request.phrases):
        return False
    if request.relation is None:
        return True
    (a,), (b,) = by_shape.values()
    if request.relation == "larger":
        return a.size == "large" and b.size == "small"
    return request.relation in relations(a, b)


def sample_scene(
    rng: np.random.Generator,
    unseen: bool = False,
    easy: bool = False,
    extent: tuple[float, float] = SQUARE,
) -> Scene:
    """One to three kinds of shapes, all of a kind alike, at most MOST in all.

    easy: on plain grounds, and centres on eighths, which codes of 8 px line up with.
    extent: as of `Scene`.
    """
    while True:
        groups = _sample_groups(rng)
        if any(map(_held_group, groups)) != unseen:
            continue
        if scene := _arrange(groups, rng, easy, extent):
            return scene


def sample_scene_for(request: SceneRequest, rng: np.random.Generator) -> Scene:
    """A scene that satisfies a request; attributes that it leaves open are sampled."""
    while True:
        groups = []
        for phrase in request.phrases:
            hues = [hue for hue in _HUES if hue != phrase.not_colour]
            sizes = list(RADII) if phrase.count <= 3 else ["small"]
            colour, size = phrase.colour or pick(hues, rng), phrase.size
            groups.append(
                (phrase.count, phrase.shape, colour, size or pick(sizes, rng))
            )
        scene = _arrange(groups, rng)
        if scene and satisfied(request, scene.items):
            return scene


def request_of(scene: Scene, rng: np.random.Generator) -> SceneRequest:
    """One of the requests that a scene satisfies; it states no held-out relation."""
    kinds = {item.shape: item for item in scene.items}
    counts = Counter(item.shape for item in scene.items)
    colour, size = rng.random() < 0.6, rng.random() < 0.35
    relation, order = _clear_relation(kinds, counts, rng)
    phrases = [
        Phrase(
            counts[shape],
            shape,
            kinds[shape].colour if colour else None,
            kinds[shape].size if size and relation != "larger" else None,
        )
        for shape in order
    ]
    if len(kinds) == 1 and not colour and rng.random() < 0.4:
        (item,) = kinds.values()
        others = [hue for hue in _HUES if hue != item.colour]
        wrong = pick(others, rng)
        phrases = [Phrase(counts[item.shape], item.shape, None, None, wrong)]
    return SceneRequest(tuple(phrases), relation)


def sample_request(
    task: str, rng: np.random.Generator, unseen: bool = False
) -> SceneRequest:
    """A request of one of TASKS; `unseen` ones, of UNSEEN_TASKS, are held out."""
    while True:
        request = _ASKED[task](rng)
        if held_out(request) == unseen:
            return request


def example(
    seed: int,
    split: str,
    index: int,
    size: int = 64,
    easy: bool = False,
    questions: bool = False,
    shapes: tuple[Shape, ...] = (),
) -> Example:
    """Example `index` of a split, with 2 x CAPTIONS captions; easy: as `sample_scene`.

    questions: adds one of each kind and language; they change nothing else. shapes: in
    turn (height, width) of examples, in pixels; () are squares of `size`.
    meta: "scene", as `Scene.from_json` reads it.
    """
    # Questions of this split are about the held-out combinations.
    from cogjax.worlds.shapes.questions import ask_all

    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    extent = SQUARE
    if shapes:
        height, width = shapes[index % len(shapes)]
        extent = width / size, height / size
    scene = sample_scene(rng, split == "unseen", easy, extent)
    captions = tuple(
        (language, write_caption(request_of(scene, rng), language, rng))
        for language in LANGUAGES
        for _ in range(CAPTIONS)
    )
    png = encode_png(render(scene, size))
    meta = {"scene": scene.to_json()}
    asked = ask_all(scene, rng) if questions else ()
    asked = tuple((each.kind, each.text, each.answer) for each in asked)
    return Example(f"{split}-{index}", png, captions, meta, asked)


def build_shapes(
    output: Output,
    *,
    num: int,
    seed: int = 0,
    easy: bool = False,
    questions: bool = False,
    workers: int = 2,
) -> Manifest:
    """Writes `num` images of `train` and a twentieth as many of the other splits.

    Args:
      output: of images of 32 to 256 px. num: 20 or more. easy: as `sample_scene`.
      questions: adds questions about each image, see `questions.py`.

    Raises:
      UserError: a folder that is in the way.
    """
    counts = {"train": num, "val": num // 20, "unseen": num // 20}
    shards = {"train": max(4, num // 25_000), "val": 1, "unseen": 1}
    done, total = 0, sum(counts.values())
    with output.builder("shapes", shards) as builder:
        settings = {"size": output.size, "easy": easy, "questions": questions}
        settings["shapes"] = output.shapes
        make = functools.partial(example, seed, **settings)
        output.progress(0, total, "rendering")
        for split, made in _examples(make, counts, workers):
            builder.write(split, made)
            done += 1
            if done % 256 == 0 or done == total:
                output.progress(done, total, "rendering")
        info = {"seed": seed, "easy": easy, "licence": "made here, Apache-2.0"}
        return builder.finish(info)


def _examples(make, counts, workers) -> Iterator[tuple[str, Example]]:
    # Spawned: the parent may hold threads that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for split, count in counts.items():
            of_split = functools.partial(make, split)
            for made in pool.map(of_split, range(count), chunksize=128):
                yield split, made


def _holds(phrase: Phrase, found: Sequence[Item]) -> bool:
    return len(found) == phrase.count and all(
        phrase.colour in (None, item.colour)
        and phrase.size in (None, item.size)
        and phrase.not_colour != item.colour
        for item in found
    )


def _held_group(group: tuple) -> bool:
    count, shape, colour, _ = group
    return (shape, colour) in HELD_COLOURS or (shape, count) in HELD_COUNTS


def _sample_groups(rng) -> list[tuple[int, str, str, str]]:
    """(count, shape, colour, size) of each kind; colours are mostly different."""
    kinds = 1 + int(rng.choice(3, p=(0.5, 0.42, 0.08)))
    counts = [1] * kinds
    if rng.random() < (0.6, 0.25, 0.0)[kinds - 1]:
        most = MOST // kinds
        counts = [int(n) for n in rng.integers(1, most + 1, kinds)]
    shapes = rng.permutation(_NAMES)[:kinds]
    hues = rng.permutation(_HUES)[:kinds]
    if rng.random() < 0.1:
        hues = [hues[0]] * kinds
    sizes = rng.choice(list(RADII), kinds) if sum(counts) <= 3 else ["small"] * kinds
    named = zip(counts, shapes, hues, sizes, strict=True)
    return [(n, str(shape), str(hue), str(size)) for n, shape, hue, size in named]


def _arrange(
    groups: Sequence[tuple], rng, easy: bool = False, extent=SQUARE
) -> Scene | None:
    """A scene of (count, shape, colour, size) groups; None if they found no room."""
    each = [group[1:] for group in groups for _ in range(group[0])]
    radii = [RADII[size] for _, _, size in each]
    centres = place(radii, rng, LATTICE // 2 if easy else LATTICE, extent)
    if centres is None:
        return None
    items = [
        Item(shape, colour, x, y, RADII[size])
        for (shape, colour, size), (x, y) in zip(each, centres, strict=True)
    ]
    return Scene(tuple(items), _sample_background(rng, easy), extent)


def _sample_background(rng, easy: bool) -> Background:
    if easy:
        return Background(int(rng.integers(len(GROUNDS))))
    texture = TEXTURES[rng.choice(len(TEXTURES), p=(0.4, 0.2, 0.2, 0.2))]
    return Background(
        int(rng.integers(len(GROUNDS))), texture, float(rng.choice([1 / 8, 1 / 4]))
    )


def _clear_relation(kinds, counts, rng) -> tuple[str | None, list[str]]:
    """(a relation of the scene or None, the shapes in its order)."""
    order = list(kinds)
    if sorted(counts.values()) != [1, 1] or rng.random() < 0.4:
        return None, order
    a, b = (kinds[shape] for shape in order)
    found = [
        (name, order) for name in ("left", "above") if name in relations(a, b, _CLEAR)
    ]
    back = [
        (name, order[::-1])
        for name in ("left", "above")
        if name in relations(b, a, _CLEAR)
    ]
    found = [
        (name, way) for name, way in found + back if (name, *way) not in HELD_RELATIONS
    ]
    if a.size != b.size:
        found.append(("larger", order if a.size == "large" else order[::-1]))
    return pick(found, rng) if found else (None, order)


def _two(rng) -> list[str]:
    return [str(shape) for shape in rng.permutation(_NAMES)[:2]]


def _ask_binding(rng) -> SceneRequest:
    hues = [str(hue) for hue in rng.permutation(_HUES)[:2]]
    named = zip(_two(rng), hues, strict=True)
    return SceneRequest(tuple(Phrase(1, shape, hue) for shape, hue in named))


def _ask_size(rng) -> SceneRequest:
    if rng.random() < 0.5:
        return SceneRequest(
            (Phrase(1, pick(_NAMES, rng), None, pick(list(RADII), rng)),)
        )
    return SceneRequest(tuple(Phrase(1, shape) for shape in _two(rng)), "larger")


_ASKED: dict[str, Callable[[np.random.Generator], SceneRequest]] = {
    "single": lambda rng: SceneRequest((Phrase(1, pick(_NAMES, rng)),)),
    "two": lambda rng: SceneRequest(tuple(Phrase(1, shape) for shape in _two(rng))),
    "counting": lambda rng: SceneRequest(
        (Phrase(int(rng.integers(2, MOST + 1)), pick(_NAMES, rng)),)
    ),
    "colour": lambda rng: SceneRequest(
        (Phrase(1, pick(_NAMES, rng), pick(_HUES, rng)),)
    ),
    "position": lambda rng: SceneRequest(
        tuple(Phrase(1, shape) for shape in _two(rng)), pick(("left", "above"), rng)
    ),
    "binding": _ask_binding,
    "size": _ask_size,
    "negation": lambda rng: SceneRequest(
        (Phrase(1, pick(_NAMES, rng), not_colour=pick(_HUES, rng)),)
    ),
}
