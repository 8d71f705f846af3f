"""Accuracy of the oracle, measured on renders of known scenes."""

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from cogjax.evaluate.judges.checker import check
from cogjax.evaluate.judges.compositional import judge, make_prompts, shuffled
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import LANGUAGES, read, write
from cogjax.worlds.shapes.oracle import UNKNOWN, items_of, look, same_scene
from cogjax.worlds.shapes.scenes import Item, Scene, render

Progress = Callable[[int, int, str], None]
SIDE = 64
SIDES = (32, 48, 128)


def evaluate_oracle(
    n: int = 2000, seed: int = 0, progress: Progress | None = None
) -> dict:
    """All metrics of the oracle as one JSON-able dict.

    "scene_exact": share of n clean renders in which the oracle finds every shape,
    colour, size and place, and nothing else. "caption_exact": share of captions that
    read back as the request they were written from, by language too. "shuffled": first
    images against captions of others, beside chance. "checker_agrees": share of renders
    that the second judge reads alike. "damaged": scene_exact under noise, blur, JPEG
    and low resolution. Shares come with n and their Wilson 95 % interval.

    Args:
      n: renders of each metric, 1 or more.
    """
    progress = progress or (lambda done, total, label: None)
    rngs = [np.random.default_rng([seed, index]) for index in range(n)]
    # As many scenes with held-out combinations as an eighth: the judge knows no split.
    scenes = [shapes.sample_scene(rng, i % 8 == 0) for i, rng in enumerate(rngs)]
    images = [render(scene, SIDE) for scene in scenes]
    total, damaged = 4 + len(DAMAGES) + len(SIDES), {}
    progress(0, total, "clean renders")
    found = [look(image) for image in images]
    exact = [same_scene(*pair) for pair in zip(scenes, found, strict=True)]
    progress(1, total, "captions")
    captions = _captions(scenes, rngs)
    progress(2, total, "second judge")
    seen = [items_of(pieces) for pieces in found]
    agrees = _agreement(seen, check(np.stack(images)))
    progress(3, total, "shuffled captions")
    mixed = _shuffled(min(n, 800), seed)
    for name, damage in DAMAGES.items():
        progress(4 + len(damaged), total, name)
        damaged[name] = _exact(
            scenes, [damage(p, rng) for p, rng in zip(images, rngs, strict=True)]
        )
    for side in SIDES:
        progress(4 + len(damaged), total, f"{side} px")
        damaged[f"{side} px"] = _exact(scenes, [render(s, side) for s in scenes])
    progress(total, total, "done")
    return {
        "n": n,
        "seed": seed,
        "scene_exact": float(np.mean(exact)),
        "scene_exact_interval": list(wilson(sum(exact), n)),
        "caption_exact": captions.pop("all"),
        "caption_exact_by_language": captions,
        "shuffled": mixed,
        "checker_agrees": agrees,
        "damaged": damaged,
    }


def _captions(scenes: Sequence[Scene], rngs) -> dict[str, float]:
    """Shares of captions that are read back exactly, by language.

    Each scene has a caption of its own and one of a task's request.
    """
    right: dict[str, list[bool]] = {language: [] for language in LANGUAGES}
    for index, (scene, rng) in enumerate(zip(scenes, rngs, strict=True)):
        asked = shapes.ask(shapes.TASKS[index % len(shapes.TASKS)], rng)
        for language in LANGUAGES:
            for request in (shapes.describe(scene, rng), asked):
                right[language].append(read(write(request, language, rng)) == request)
    shares = {language: float(np.mean(each)) for language, each in right.items()}
    return shares | {"all": float(np.mean(sum(right.values(), [])))}


def _agreement(
    first: Sequence[Sequence[Item]], second: Sequence[Sequence[Item]]
) -> dict:
    """Whether two judges name the same shapes, colours and sizes, as often."""
    same = [_named(a) == _named(b) for a, b in zip(first, second, strict=True)]
    return {
        "share": float(np.mean(same)),
        "interval": list(wilson(sum(same), len(same))),
    }


def _named(items: Sequence[Item]) -> list[tuple[str, str, str]]:
    return sorted((item.shape, item.colour, item.size) for item in items)


def _shuffled(n: int, seed: int) -> dict:
    prompts, rng = make_prompts(n, seed), np.random.default_rng(seed)
    scenes = [shapes.sample_scene_for(prompt.request, rng) for prompt in prompts]
    images = np.stack([render(scene, SIDE) for scene in scenes])
    return shuffled(judge(prompts, images[:, None]), seed)


def _exact(scenes: Sequence[Scene], images: Sequence[np.ndarray]) -> dict:
    """Shares of scenes that are read exactly, and of those with an unknown piece."""
    found = [look(image) for image in images]
    exact = np.array([same_scene(*pair) for pair in zip(scenes, found, strict=True)])
    unsure = np.array(
        [any(piece.item.shape == UNKNOWN for piece in pieces) for pieces in found]
    )
    count = len(exact)
    return {
        "scene_exact": float(exact.mean()),
        "interval": list(wilson(int(exact.sum()), count)),
        "abstained": float(unsure.mean()),
    }


def _noise(sigma: float):
    def damage(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noisy = image + rng.normal(0, sigma, image.shape)
        return np.clip(np.round(noisy), 0, 255).astype(np.uint8)

    return damage


def _blur(sigma: float):
    def damage(image: np.ndarray, rng) -> np.ndarray:
        soft = ndimage.gaussian_filter(image.astype(float), (sigma, sigma, 0))
        return np.round(soft).astype(np.uint8)

    return damage


def _jpeg(quality: int):
    def damage(image: np.ndarray, rng) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=quality)
        return np.asarray(Image.open(buffer))

    return damage


def _half(image: np.ndarray, rng) -> np.ndarray:
    """To half the side and back, bicubic."""
    small = Image.fromarray(image).resize((SIDE // 2,) * 2, Image.Resampling.BICUBIC)
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


DAMAGES = {
    "noise 12": _noise(12),
    "noise 25": _noise(25),
    "blur 0.7": _blur(0.7),
    "blur 1": _blur(1.0),
    "blur 1.5": _blur(1.5),
    "JPEG 75": _jpeg(75),
    "JPEG 40": _jpeg(40),
    "64 to 32 to 64 px": _half,
}
