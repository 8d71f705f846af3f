"""What suites of labelled images share: prompts, generated images, captions, shares.

Half of the prompts and captions are English, half Chinese, in turn. A hit is 1 where a
judge finds an image right, 0 where wrong, NaN where there was nothing to judge.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cogjax.data.output import Progress
from cogjax.data.records import Example, decode_image, open_split
from cogjax.evaluate.metrics.intervals import ratio_interval, wilson
from cogjax.evaluate.metrics.psnr_ssim import psnr
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.worlds.words import LANGUAGES

NUM_LABELS = 20
SHOWN = 12  # prompts of a split whose images are kept to be looked at
_CHUNK = 8

PickPrompt = Callable[[Example, str, np.random.Generator], str]


class Judges(Protocol):
    """What decides whether images show what they should."""

    def hits(
        self, images: np.ndarray, examples: Sequence[Example]
    ) -> dict[str, np.ndarray]:
        """Hits float [n] of uint8 images [n, y, x, 3] by the name of the figure."""


@dataclass(frozen=True)
class Asking:
    """How images are asked for: candidates a prompt, seed, and the choice of a text."""

    best_of: int
    seed: int
    prompt: PickPrompt


def load(folder: str, splits: Sequence[str]) -> dict[str, list[Example]]:
    """All examples of the splits."""
    sources = {name: open_split(folder, name) for name in splits}
    return {name: [s[i] for i in range(len(s))] for name, s in sources.items()}


def pixels_of(examples: Sequence[Example], size: int | None = None) -> np.ndarray:
    """uint8 [n, size, size, 3]; their own size for None."""
    return np.stack([decode_image(example.image, size) for example in examples])


def pick(examples: Sequence[Example], n: int, rng) -> list[Example]:
    """At most `n` of the examples at random."""
    picks = rng.permutation(len(examples))[:n]
    return [examples[i] for i in picks]


def generation(
    model: TokensPipeline,
    judges: Judges,
    examples: Sequence[Example],
    asking: Asking,
    label: str,
    progress: Progress,
) -> tuple[dict, list[np.ndarray]]:
    """Figures of generated images, and images to show.

    Returns:
      Figures of image 0 of the seed, of the candidate with the lowest caption loss, of
      real images through the tokenizer, and of the chosen one as a share of the latter;
      and of up to 12 prompts uint8 [5, y, x, 3]: real, chosen, images 0 to 2.
    """
    rng = np.random.default_rng(asking.seed)
    languages = alternate(examples)
    pairs = zip(examples, languages, strict=True)
    prompts = [asking.prompt(example, language, rng) for example, language in pairs]
    first, best, shown = _generate(model, prompts, asking, label, progress)
    real = pixels_of(examples, model.image_size)
    found = {
        "best_of_1": judges.hits(first, examples),
        f"best_of_{asking.best_of}": judges.hits(best, examples),
        "real_through_tokenizer": judges.hits(through(model, real), examples),
    }
    metrics = {
        column: {name: by_language(x, languages) for name, x in hits.items()}
        for column, hits in found.items()
    }
    chosen, ceiling = (
        found[f"best_of_{asking.best_of}"],
        found["real_through_tokenizer"],
    )
    metrics["share_of_ceiling"] = {
        name: by_language(np.stack([x, ceiling[name]]), languages, _of_ceiling)
        for name, x in chosen.items()
    }
    rows = zip(real, best, shown, strict=False)
    shown = [np.stack([r, b, *images]) for r, b, images in rows]
    return {"prompts": len(prompts), **metrics}, shown


def _generate(model, prompts, asking: Asking, label: str, progress: Progress):
    """Image 0 and the best one of each prompt, and images 0 to 2 of the first ones."""
    first, best, shown, count = [], [], [], asking.best_of
    for start in range(0, len(prompts), _CHUNK):
        progress(start, len(prompts), label)
        chunk = prompts[start : start + _CHUNK]
        generated = model.generate(chunk, num_images=count, seed=asking.seed)
        texts = [prompt for prompt in chunk for _ in range(count)]
        flat = generated.codes.reshape(-1, *generated.codes.shape[2:])
        scores = model.score_codes(flat, texts).reshape(-1, count)
        pixels = generated.pixels  # [prompt, image, y, x, 3]
        first.append(pixels[:, 0])
        best.append(pixels[np.arange(len(pixels)), scores.argmin(1)])
        shown += [images[:3] for images in pixels[: max(SHOWN - start, 0)]]
    return np.concatenate(first), np.concatenate(best), shown


def through(model: TokensPipeline, images: np.ndarray) -> np.ndarray:
    """Images uint8 [n, y, x, 3] as the model's image tokenizer gives them back."""
    return model.decode(model.encode(images))


def captions(model, examples, labels: Mapping, seed: int, progress: Progress) -> dict:
    """Share of images whose own label has the lowest loss among 20 labels.

    labels: all labels that may compete, by language.
    """
    rng = np.random.default_rng(seed)
    languages = alternate(examples)
    hits = []
    for index, (example, language) in enumerate(zip(examples, languages, strict=True)):
        if index % 8 == 0:
            progress(index, len(examples), "captions")
        own = example.meta[f"label_{language}"]
        others = [label for label in labels[language] if label != own]
        rivals = rng.choice(others, NUM_LABELS - 1, replace=False)
        codes = model.encode(pixels_of([example], model.image_size))
        scores = model.score_codes(np.repeat(codes, NUM_LABELS, 0), [own, *rivals])
        hits.append(scores.argmin() == 0)
    return {"right_of_20": by_language(np.array(hits, float), languages)}


def labels_of(examples: Sequence[Example]) -> dict[str, list[str]]:
    """The labels of the examples by language, each once."""
    return {
        language: sorted({e.meta[f"label_{language}"] for e in examples})
        for language in LANGUAGES
    }


def tokenizer(model, held_out: np.ndarray, train_codes: np.ndarray) -> dict:
    """PSNR on held-out concepts, and the share of codes that images use."""
    codes = model.encode(held_out)
    similarity = psnr(model.decode(codes), held_out)
    used, all_used = np.unique(codes), np.union1d(codes, train_codes)
    return {
        "psnr_held_out_concepts_db": round(float(similarity.mean()), 3),
        "code_use_held_out": len(used) / model.num_codes,
        "code_use_with_train": len(all_used) / model.num_codes,
        "images_held_out": len(held_out),
    }


def alternate(examples: Sequence[Example]) -> list[str]:
    """A language for each example, in turn."""
    return [LANGUAGES[i % 2] for i in range(len(examples))]


def share(hits: np.ndarray) -> float:
    """Share of hits among those that were judged; NaN for none."""
    hits = hits[~np.isnan(hits)]
    return round(float(np.mean(hits)), 4) if len(hits) else math.nan


def by_language(hits: np.ndarray, languages: Sequence[str], entry=None) -> dict:
    """Entries over all and by language: share, 95 % interval and n.

    hits: float [..., n]. entry: makes an entry of hits; None: share and Wilson's.
    """
    languages = np.array(languages)
    groups = {"all": np.ones(len(languages), bool)}
    groups |= {language: languages == language for language in LANGUAGES}
    return {name: (entry or _entry)(hits[..., mask]) for name, mask in groups.items()}


def _entry(hits: np.ndarray) -> dict:
    judged = hits[~np.isnan(hits)]
    interval = wilson(judged.sum(), len(judged))
    return {
        "share": share(hits),
        "interval": [round(x, 4) for x in interval],
        "n": len(judged),
    }


def _of_ceiling(hits: np.ndarray) -> dict:
    """The first row's share of the second's, for hits [2, n]."""
    hits = hits[:, ~np.isnan(hits).any(0)]
    value, interval = ratio_interval(*hits)
    return {
        "share": round(value, 4),
        "interval": [round(x, 4) for x in interval],
        "n": hits.shape[1],
    }
