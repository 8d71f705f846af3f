"""A model on the emoji styles: right concept, right style, captions, tokenizer.

Each prompt gives `best_of` images in one pass; best-of-1 is image 0 of the seed,
best-of-N the candidate with the lowest caption loss. Prompts are captions of the data
that name the style, half English, half Chinese.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.records import Example, decode_image, open_split, read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges.neighbours import concept_ranks, embed
from cogjax.evaluate.judges.style import StyleJudge, train_judge
from cogjax.evaluate.metrics.intervals import wilson
from cogjax.evaluate.metrics.psnr_ssim import psnr
from cogjax.pipelines.tokens import TokensPipeline

Progress = Callable[[int, int, str], None]
LANGUAGES = ("en", "zh")
SPLITS = ("train", "pairs", "val")
NUM_LABELS = 20
_CHUNK = 8


@dataclass(frozen=True)
class Gallery:
    """Real images of every concept by style: embeddings and concept keys."""

    embeddings: dict[str, np.ndarray]
    concepts: dict[str, list[str]]

    def ranks(self, images: np.ndarray, examples: Sequence[Example]) -> np.ndarray:
        """Rank of the right concept for each image, among its style's, int [n]."""
        ranks = np.zeros(len(images), int)
        queries = embed(images)
        styles = np.array([example.meta["style"] for example in examples])
        for style in sorted(set(styles)):
            (mine,) = np.nonzero(styles == style)
            concepts = [examples[i].meta["concept"] for i in mine]
            ranks[mine] = concept_ranks(
                queries[mine], concepts, self.embeddings[style], self.concepts[style]
            )
        return ranks


def evaluate_emoji(
    model: TokensPipeline,
    data: str,
    *,
    n: int = 200,
    best_of: int = 8,
    seed: int = 0,
    gallery: str | None = None,
    progress: Progress | None = None,
) -> tuple[dict, list[np.ndarray]]:
    """All metrics of a model as one JSON-able dict, and images to show.

    Args:
      data: the emoji set that the model was trained on. n: most prompts of a split.
      gallery: emoji set whose concepts compete for the nearest image; `data` may be a
        part of it. None takes `data`.

    Returns:
      The metrics, and of up to 18 prompts uint8 [5, y, x, 3]: the real image, the best
      of N, and images 0 to 2 of the seed.

    Raises:
      UserError: `data` is not an emoji set.
    """
    progress = progress or (lambda done, total, label: None)
    if read_manifest(data).kind != "emoji":
        raise UserError(f"{data} is no emoji set: build one with `cogjax data emoji`")
    splits = _load(data)
    everything = _load(gallery) if gallery else splits
    progress(0, 2, "real images through the tokenizer")
    pixels = _pixels(everything["train"], model.image_size)
    codes = model.encode(pixels)
    progress(1, 2, "training the style judge")
    styles = [example.meta["style"] for example in everything["train"]]
    style_judge = train_judge(pixels, model.decode(codes), styles)
    judges = _Judges(_gallery(everything), style_judge)
    report = {"n": n, "best_of": best_of, "seed": seed, "data": str(data)}
    report["gallery"] = {k: len(v) for k, v in judges.gallery.concepts.items()}
    report["style_judge_on_real"] = judges.ceiling(model, everything["val"])
    report["tokenizer"] = _tokenizer(model, everything["val"], codes)
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("train", "pairs"):
        examples = _pick(splits[name], n, rng)
        metrics, shown = _generation(
            model, judges, examples, best_of, seed, f"generating {name}", progress
        )
        report[f"generation_{name}"] = metrics
        rows += shown
    for name, examples in splits.items():
        picked = _pick(examples, n, rng)
        report[f"captions_{name}"] = _captions(model, picked, splits, seed, progress)
    return report, rows[:12] + rows[-6:]


@dataclass(frozen=True)
class _Judges:
    gallery: Gallery
    style: StyleJudge

    def ceiling(self, model, examples: Sequence[Example]) -> float:
        return _share(self._right_style(_pixels(examples, model.image_size), examples))

    def shares(self, images: np.ndarray, examples: Sequence[Example], languages):
        """Shares over all and by language, with Wilson intervals."""
        ranks = self.gallery.ranks(images, examples)
        hits = {
            "concept_top5": ranks < 5,
            "concept_top1": ranks < 1,
            "style": self._right_style(images, examples),
        }
        return {name: _by_language(values, languages) for name, values in hits.items()}

    def _right_style(self, images: np.ndarray, examples: Sequence[Example]):
        styles = [example.meta["style"] for example in examples]
        return np.array(self.style(images)) == np.array(styles)


def _load(folder: str) -> dict[str, list[Example]]:
    sources = {name: open_split(folder, name) for name in SPLITS}
    return {name: [s[i] for i in range(len(s))] for name, s in sources.items()}


def _pixels(examples: Sequence[Example], size: int) -> np.ndarray:
    return np.stack([decode_image(example.image, size) for example in examples])


def _gallery(everything: dict[str, list[Example]]) -> Gallery:
    by_style = defaultdict(list)
    for examples in everything.values():
        for example in examples:
            by_style[example.meta["style"]].append(example)
    return Gallery(
        {style: embed(_pixels(items, 64)) for style, items in by_style.items()},
        {
            style: [e.meta["concept"] for e in items]
            for style, items in by_style.items()
        },
    )


def _tokenizer(model, held_out: Sequence[Example], train_codes: np.ndarray) -> dict:
    """PSNR on held-out concepts, and the share of codes that images use."""
    pixels = _pixels(held_out, model.image_size)
    codes = model.encode(pixels)
    similarity = psnr(model.decode(codes), pixels)
    used, all_used = np.unique(codes), np.union1d(codes, train_codes)
    return {
        "psnr_held_out_concepts_db": round(float(similarity.mean()), 3),
        "code_use_held_out": len(used) / model.num_codes,
        "code_use_with_train": len(all_used) / model.num_codes,
        "images_held_out": len(pixels),
    }


def _pick(examples: Sequence[Example], n: int, rng) -> list[Example]:
    picks = rng.permutation(len(examples))[:n]
    return [examples[i] for i in picks]


def _prompt(example: Example, language: str, rng) -> str:
    """A caption in the language that names the style: any but the bare label."""
    texts = [text for lang, text in example.captions if lang == language]
    return texts[1 + rng.integers(len(texts) - 1)]


def _generation(model, judges, examples, best_of, seed, label, progress):
    rng = np.random.default_rng(seed)
    languages = _alternate(examples)
    pairs = zip(examples, languages, strict=True)
    prompts = [_prompt(example, language, rng) for example, language in pairs]
    pixels, scores = [], []
    for start in range(0, len(prompts), _CHUNK):
        progress(start, len(prompts), label)
        chunk = prompts[start : start + _CHUNK]
        generated = model.generate(chunk, num_images=best_of, seed=seed)
        texts = [prompt for prompt in chunk for _ in range(best_of)]
        flat = generated.codes.reshape(-1, *generated.codes.shape[2:])
        scores.append(model.score_codes(flat, texts).reshape(-1, best_of))
        pixels.append(generated.pixels)
    # [prompt, image, y, x, 3] and [prompt, image]
    pixels, scores = np.concatenate(pixels), np.concatenate(scores)
    best = pixels[np.arange(len(pixels)), scores.argmin(1)]
    real = _pixels(examples, model.image_size)
    ceiling = model.decode(model.encode(real))
    metrics = {
        "prompts": len(prompts),
        "best_of_1": judges.shares(pixels[:, 0], examples, languages),
        f"best_of_{best_of}": judges.shares(best, examples, languages),
        "real_through_tokenizer": judges.shares(ceiling, examples, languages),
    }
    return metrics, [
        np.stack([r, b, *p[:3]]) for r, b, p in zip(real, best, pixels, strict=True)
    ]


def _captions(model, examples, splits, seed, progress) -> dict:
    """Share of images whose own label has the lowest loss among 20 labels."""
    rng = np.random.default_rng(seed)
    labels = {
        language: sorted({e.meta[f"label_{language}"] for e in splits["train"]})
        for language in LANGUAGES
    }
    languages = _alternate(examples)
    hits = []
    for index, (example, language) in enumerate(zip(examples, languages, strict=True)):
        if index % 8 == 0:
            progress(index, len(examples), "captions")
        own = example.meta[f"label_{language}"]
        others = [label for label in labels[language] if label != own]
        rivals = rng.choice(others, NUM_LABELS - 1, replace=False)
        codes = model.encode(_pixels([example], model.image_size))
        scores = model.score_codes(np.repeat(codes, NUM_LABELS, 0), [own, *rivals])
        hits.append(scores.argmin() == 0)
    return {"right_of_20": _by_language(np.array(hits, bool), languages)}


def _alternate(examples: Sequence[Example]) -> list[str]:
    """A language for each example, in turn."""
    return [LANGUAGES[i % 2] for i in range(len(examples))]


def _by_language(hits: np.ndarray, languages: Sequence[str]) -> dict:
    languages = np.array(languages)
    groups = {"all": np.ones(len(hits), bool)}
    groups |= {language: languages == language for language in LANGUAGES}
    return {
        name: {
            "share": _share(hits[mask]),
            "interval": [round(x, 4) for x in wilson(hits[mask].sum(), mask.sum())],
            "n": int(mask.sum()),
        }
        for name, mask in groups.items()
    }


def _share(hits) -> float:
    return round(float(np.mean(hits)), 4) if len(hits) else math.nan
