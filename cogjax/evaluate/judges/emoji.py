"""A model on the emoji styles: right concept, right style, captions, tokenizer.

Each prompt gives `best_of` images in one pass; best-of-1 is image 0 of the seed,
best-of-N the candidate with the lowest caption loss. Prompts are captions of the data
that name the style, half English, half Chinese.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.output import Progress
from cogjax.data.records import Example, read_manifest
from cogjax.errors import UserError
from cogjax.evaluate.judges import labelled
from cogjax.evaluate.judges.neighbours import concept_ranks, embed
from cogjax.evaluate.judges.style import StyleJudge, train_judge
from cogjax.pipelines.tokens import TokensPipeline

SPLITS = ("train", "pairs", "val")


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
    splits = labelled.load(data, SPLITS)
    everything = labelled.load(gallery, SPLITS) if gallery else splits
    progress(0, 2, "real images through the tokenizer")
    pixels = labelled.pixels_of(everything["train"], model.image_size)
    codes = model.encode(pixels)
    progress(1, 2, "training the style judge")
    styles = [example.meta["style"] for example in everything["train"]]
    style_judge = train_judge(pixels, model.decode(codes), styles)
    judges = _Judges(_gallery(everything), style_judge)
    report = {"n": n, "best_of": best_of, "seed": seed, "data": str(data)}
    report["gallery"] = {k: len(v) for k, v in judges.gallery.concepts.items()}
    held_out = labelled.pixels_of(everything["val"], model.image_size)
    right = judges.right_style(held_out, everything["val"])
    report["style_judge_on_real"] = labelled.share(right)
    report["tokenizer"] = labelled.tokenizer(model, held_out, codes)
    rng = np.random.default_rng(seed)
    rows = []
    asking = labelled.Asking(best_of, seed, _prompt)
    for name in ("train", "pairs"):
        examples = labelled.pick(splits[name], n, rng)
        metrics, shown = labelled.generation(
            model, judges, examples, asking, f"generating {name}", progress
        )
        report[f"generation_{name}"] = metrics
        rows.append(shown)
    labels = labelled.labels_of(splits["train"])
    for name, examples in splits.items():
        picked = labelled.pick(examples, n, rng)
        found = labelled.captions(model, picked, labels, seed, progress)
        report[f"captions_{name}"] = found
    return report, rows[0] + rows[1][:6]


@dataclass(frozen=True)
class _Judges:
    gallery: Gallery
    style: StyleJudge

    def hits(self, images: np.ndarray, examples: Sequence[Example]):
        """As `labelled.Judges`."""
        ranks = self.gallery.ranks(images, examples)
        return {
            "concept_top5": (ranks < 5).astype(float),
            "concept_top1": (ranks < 1).astype(float),
            "style": self.right_style(images, examples),
        }

    def right_style(self, images: np.ndarray, examples: Sequence[Example]):
        """Hits of the style, float [n]."""
        styles = [example.meta["style"] for example in examples]
        return (np.array(self.style(images)) == np.array(styles)).astype(float)


def _gallery(everything: dict[str, list[Example]]) -> Gallery:
    by_style = defaultdict(list)
    for examples in everything.values():
        for example in examples:
            by_style[example.meta["style"]].append(example)
    return Gallery(
        {
            style: embed(labelled.pixels_of(items, 64))
            for style, items in by_style.items()
        },
        {
            style: [e.meta["concept"] for e in items]
            for style, items in by_style.items()
        },
    )


def _prompt(example: Example, language: str, rng) -> str:
    """A caption in the language that names the style: any but the bare label."""
    texts = [text for lang, text in example.captions if lang == language]
    return texts[1 + rng.integers(len(texts) - 1)]
