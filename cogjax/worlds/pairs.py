"""`cogjax data pairs`: two drawings of one concept in different styles, as codes.

A pair holds the codes of a source and then those of a target, and captions that say
what the source is to be made into:

    the same, as a line drawing      the same, as a blue outline icon

A model that learns them draws an image anew in another style (DALL-E section 3.3 only
prompts for that).
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cogjax.data.codes import CodedExample
from cogjax.data.output import Progress
from cogjax.data.records import (
    CODES,
    DatasetBuilder,
    Manifest,
    open_split,
    read_manifest,
)
from cogjax.errors import UserError
from cogjax.files import check_apart
from cogjax.worlds.emoji.captions import STYLE_WORDS
from cogjax.worlds.icons.captions import THEME_WORDS
from cogjax.worlds.icons.palette import CHINESE
from cogjax.worlds.words import article

# The nouns of each style: English, Chinese.
NOUNS = {style: (en[1], zh[1]) for style, (en, zh) in STYLE_WORDS.items()} | THEME_WORDS
# Reasons why an image is in no pair.
UNNAMED, ALONE = "of no concept or of a style without words", "without another style"
_SHARD = 50_000  # pairs
_MOST = 10**7  # pairs of a split, all in memory
# The examples of each split, and (source, target) places among them, int [n, 2].
Splits = dict[str, tuple[list[CodedExample], np.ndarray]]


@dataclass(frozen=True)
class PairsReport:
    """alone: images that are in no pair, by reason."""

    manifest: Manifest
    alone: dict[str, int]


def caption(style: str) -> str:
    """The caption that asks for a style, in the language of its words."""
    if style.isascii():
        return f"the same, as {article(style)} {style}"
    return f"同样的，画成{style}"


def styles_of(source: CodedExample, target: CodedExample) -> tuple[str, ...]:
    """Words that name the target's style, English first: without its colour and with.

    Without a colour the source's is kept. A source that has none leaves it open.
    """
    own, color = source.meta.get("color", ""), target.meta.get("color", "")
    nouns = NOUNS[target.meta["style"]]
    plain = nouns if not color or own in ("", color) else ()
    if not color:
        return plain
    return *plain, f"{color} {nouns[0]}", CHINESE[color] + nouns[1]


def build_pairs(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    num: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress,
) -> PairsReport:
    """Writes pairs of the examples of each split, both of one split, in random order.

    Args:
      source: a data set of `cogjax encode` with concepts and styles, as of `cogjax data
        emoji` and `icons`.
      num: most pairs of a split, drawn at random; None takes all.

    Raises:
      UserError: a source that is none, or has no pairs to train on, or a folder in the
        way. Nothing is written then.
    """
    check_apart(out, source)
    manifest = read_manifest(source)
    if manifest.kind != CODES or "images" in manifest.info:
        raise UserError(
            f"{source} holds no codes of single images: give a folder of `cogjax "
            "encode`"
        )
    if len(manifest.shapes) > 1:
        raise UserError(
            f"{source} has images of several shapes, and a pair is of one: build the "
            "data with one --aspect"
        )
    rng, alone = np.random.default_rng(seed), Counter({UNNAMED: 0, ALONE: 0})
    splits = {}
    for split in manifest.counts:
        examples = open_split(source, split, CodedExample)
        examples = [examples[i] for i in range(len(examples))]
        splits[split] = examples, _choose(_pairs(examples, alone), num, rng)
    if not len(splits.get("train", ((), ()))[1]):
        raise UserError(
            f"split 'train' of {source} has no two styles of a concept: give the codes "
            "of `data emoji` or `data icons`"
        )
    builder = _builder(out, manifest, splits, overwrite)
    return PairsReport(_write(builder, manifest, splits, progress), alone)


def _pairs(examples: Sequence[CodedExample], alone: Counter) -> np.ndarray:
    """(source, target) places of all pairs, int [n, 2]; counts the images in none."""
    groups = defaultdict(list)
    for place, example in enumerate(examples):
        names = [example.meta.get(key, "") for key in ("concept", "style", "color")]
        concept, style, color = names
        # Records of others may hold anything.
        named = concept != "" and all(isinstance(name, str) for name in names)
        named = named and style in NOUNS and color in ("", *CHINESE)
        if named:
            groups[concept].append(place)
        alone[UNNAMED] += not named
    if sum(len(group) ** 2 for group in groups.values()) > _MOST:
        raise UserError(
            f"the concepts have more than {_MOST} pairs: give a data set with fewer "
            "images of a concept"
        )
    pairs = [pair for group in groups.values() for pair in _of_group(examples, group)]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    alone[ALONE] += sum(map(len, groups.values())) - len(np.unique(found[:, 0]))
    return found


def _of_group(
    examples: Sequence[CodedExample], group: Sequence[int]
) -> Iterator[tuple[int, int]]:
    styles = [examples[place].meta["style"] for place in group]
    for i, j in np.ndindex(len(group), len(group)):
        if styles[i] != styles[j]:
            yield group[i], group[j]


def _choose(pairs: np.ndarray, num: int | None, rng: np.random.Generator) -> np.ndarray:
    return pairs[rng.permutation(len(pairs))[:num]]


def _builder(out, manifest: Manifest, splits: Splits, overwrite) -> DatasetBuilder:
    """Builder of the splits that have pairs."""
    shards = {name: -(-len(pairs) // _SHARD) for name, (_, pairs) in splits.items()}
    shards = {name: count for name, count in shards.items() if count}
    return DatasetBuilder(out, CODES, manifest.image_size, shards, overwrite)


def _write(
    builder: DatasetBuilder, manifest: Manifest, splits: Splits, progress: Progress
) -> Manifest:
    total, done = sum(len(pairs) for _, pairs in splits.values()), 0
    styles = set()
    with builder:
        for split, (examples, pairs) in splits.items():
            for one, other in pairs:
                if done % 1000 == 0:
                    progress(done, total, "pairing")
                builder.write(split, _pair(examples[one], examples[other]))
                if split == "train":
                    styles.update(styles_of(examples[one], examples[other]))
                done += 1
        progress(total, total, "pairing")
        info = {"images": 2, "styles": _sorted(styles)}
        return builder.finish(manifest.info | info)


def _pair(source: CodedExample, target: CodedExample) -> CodedExample:
    """Meta: the target's, and the source's id, style and colour as `source_...`."""
    texts = [
        ("en" if style.isascii() else "zh", caption(style))
        for style in styles_of(source, target)
    ]
    own = {f"source_{name}": source.meta.get(name, "") for name in ("style", "color")}
    own["source_id"] = source.id
    codes = np.concatenate([source.codes, target.codes])
    name = f"{source.id}--{target.id}"
    return CodedExample(name, codes, tuple(texts), target.meta | own)


def _sorted(styles: set[str]) -> list[str]:
    """Those without a colour first, English before Chinese."""
    nouns = [noun for both in zip(*NOUNS.values(), strict=True) for noun in both]
    return sorted(styles, key=lambda s: (s not in nouns, not s.isascii(), s))
