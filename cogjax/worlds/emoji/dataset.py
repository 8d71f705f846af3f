"""The bilingual emoji styles: real images with captions, from packages alone.

Tier "pip" renders OpenMoji (colour, line, fill) and Twemoji from PyPI packages; tier
"npm" adds labels and tags of emojibase and the Noto and Fluent styles from npm
archives. Archives are read in memory, never unpacked.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cogjax.data.output import Output
from cogjax.data.records import Example, Manifest
from cogjax.errors import UserError
from cogjax.worlds.drawings import forget_rendered, render
from cogjax.worlds.emoji import sources as emoji_sources
from cogjax.worlds.emoji.captions import Concept, captions
from cogjax.worlds.words import share

LICENSES = {
    "noto": "Noto Emoji, Google, Apache-2.0",
    "noto-v1": "Noto Emoji of 2013 to 2017, Google, Apache-2.0",
    "twemoji": "Twemoji, Twitter and contributors, CC BY 4.0",
    "emojione": "EmojiOne 2, EmojiOne, CC BY 4.0",
    "fxemoji": "FxEmoji, Mozilla, Apache-2.0",
    "fluent-color": "Fluent Emoji, Microsoft, MIT",
    "fluent-3d": "Fluent Emoji, Microsoft, MIT",
    "fluent-flat": "Fluent Emoji, Microsoft, MIT",
    "fluent-mono": "Fluent Emoji, Microsoft, MIT",
    "openmoji": "OpenMoji, CC BY-SA 4.0",
    "openmoji-line": "OpenMoji, CC BY-SA 4.0",
    "openmoji-flat": "OpenMoji, CC BY-SA 4.0",
}
# Chosen so that the examples of the README, a cat and a red apple, are in `train`.
_SALT = "cogjax-emoji-16"
_HELD_OUT = 0.04


@dataclass(frozen=True)
class EmojiReport:
    """A built set: counts by split and by style, and the images that failed."""

    manifest: Manifest
    styles: dict[str, int]
    failed: list[str]


def build_emoji(
    output: Output,
    *,
    tier: str = "auto",
    styles: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    npm_dir: str | os.PathLike | None = None,
    flags: bool = True,
    workers: int = 2,
) -> EmojiReport:
    """Renders the styles and writes splits train, val and pairs.

    val: concepts held out whole. pairs: (concept, style) pairs held out whose concept
    is in train in two or more other styles. Both are decided by hashes: choosing fewer
    styles moves no image, except a held-out pair without two others back to train.

    Args:
      tier: "pip", "npm", or "auto" (npm if it is installed).
      styles, groups: None takes all; groups are Unicode's, such as "food-drink".
      npm_dir: folder of npm archives (.tgz) to use instead of calling npm.

    Raises:
      UserError: a missing package, an unknown name, or a folder that is in the way.
    """
    shards = {"train": 4, "val": 1, "pairs": 1}
    builder = output.builder("emoji", shards)
    tier = emoji_sources.resolve_tier(tier, npm_dir)
    _check_names(tier, styles, groups)
    concepts, images = emoji_sources.collect(tier, styles, npm_dir)
    wanted = {
        key: concept
        for key, concept in concepts.items()
        if (flags or concept.group != "flags")
        and (groups is None or concept.group in groups)
    }
    jobs = [p for p in images if p.key in wanted]
    if not jobs:
        raise UserError("no image is left: choose other styles or groups")
    found, failed = render(
        {f"{job.style}/{job.key}": job.data for job in jobs}, output, workers
    )
    rendered = [(*name.split("/"), png) for name, png in found.items()]
    with builder:
        manifest = _write(builder, rendered, wanted, tier, failed)
    forget_rendered(output)
    counts = Counter(style for style, _, _ in rendered)
    return EmojiReport(manifest, dict(sorted(counts.items())), failed)


def split_of(key: str, style: str, styles: Iterable[str]) -> str:
    """Split of an image, given all the styles that its concept has."""
    if _share(key) < _HELD_OUT:
        return "val"
    held = {s for s in styles if _share(f"{key}|{s}") < _HELD_OUT}
    left = [s for s in styles if s not in held]
    return "pairs" if style in held and len(left) >= 2 else "train"


def _share(text: str) -> float:
    return share(_SALT, text)


def _check_names(tier, styles, groups) -> None:
    known = emoji_sources.STYLES_OF_TIER[tier]
    for style in styles or ():
        if style not in known:
            raise UserError(
                f"unknown style '{style}': tier {tier} has {', '.join(known)}"
            )
    for group in groups or ():
        if group not in emoji_sources.GROUPS:
            raise UserError(
                f"unknown group '{group}': known are {', '.join(emoji_sources.GROUPS)}"
            )


def _write(builder, rendered, concepts, tier, failed) -> Manifest:
    styles_of = defaultdict(list)
    for style, key, _ in rendered:
        styles_of[key].append(style)
    for style, key, png in sorted(rendered):
        split = split_of(key, style, sorted(styles_of[key]))
        builder.write(split, _example(concepts[key], style, png))
    licenses = {s: LICENSES[s] for s in sorted({s for s, _, _ in rendered})}
    labels = "Unicode CLDR, Unicode-3.0"
    lines = [
        f"- {name}: {text}" for name, text in (licenses | {"labels": labels}).items()
    ]
    builder.write_text(
        "LICENSES.md", "# Where the images come from\n\n" + "\n".join(lines) + "\n"
    )
    return builder.finish(
        {"tier": tier, "licenses": licenses, "labels": labels, "failed": failed[:100]}
    )


def _example(concept: Concept, style: str, png: bytes) -> Example:
    meta = {
        "concept": concept.key,
        "style": style,
        "label_en": concept.label_en,
        "label_zh": concept.label_zh,
        "group": concept.group,
    }
    name = re.sub(r"[^0-9a-z-]", "", f"{style}-{concept.key}")
    return Example(name, png, captions(concept, style), meta)
