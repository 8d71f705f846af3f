"""Captions of the emoji styles: labels, tags and style words, English and Chinese."""

from collections.abc import Sequence
from dataclasses import dataclass

from cogjax.worlds.words import article

# How a style is named: (adjective, noun) in English and in Chinese. Every style has its
# own words: they are the whole condition that tells two images of a concept apart.
STYLE_WORDS = {
    "noto": (("Noto style", "Noto emoji"), ("Noto风格", "Noto表情")),
    "noto-v1": (("blob style", "blob emoji"), ("果冻风格", "果冻表情")),
    "emojione": (("EmojiOne style", "EmojiOne"), ("EmojiOne风格", "EmojiOne图")),
    "fxemoji": (("Firefox style", "Firefox emoji"), ("火狐风格", "火狐表情")),
    "fluent-color": (("glossy", "glossy illustration"), ("渐变", "渐变插画")),
    "twemoji": (("Twitter style", "Twemoji"), ("推特风格", "推特表情")),
    "fluent-3d": (("3D", "3D render"), ("3D", "立体图")),
    "fluent-flat": (("flat", "flat illustration"), ("扁平", "扁平插画")),
    "fluent-mono": (("black and white", "line drawing"), ("黑白", "线稿")),
    "openmoji": (("OpenMoji style", "OpenMoji"), ("彩色描边", "OpenMoji图")),
    "openmoji-line": (("outline", "thin line drawing"), ("轮廓", "细线稿")),
    "openmoji-flat": (("no outline", "OpenMoji fill"), ("无描边", "填色图")),
}
_EN = ("{thing}, {adjective}", "{thing}, {noun}", "{noun} of {thing}")
_EN += ("a {noun} of {thing}", "{adjective} {label}")
_ZH = ("{thing}，{adjective}", "{adjective}的{label}", "{thing}的{noun}")
_ZH += ("{label}的{noun}", "{label}，{noun}")


@dataclass(frozen=True)
class Concept:
    """A concept that emoji show. key: lower-case code points joined by hyphens."""

    key: str
    label_en: str
    label_zh: str
    tags_en: tuple[str, ...]
    tags_zh: tuple[str, ...]
    group: str
    subgroup: str = ""


def captions(concept: Concept, style: str) -> tuple[tuple[str, str], ...]:
    """(language, text) pairs; all but the bare label of a language name the style."""
    words_en, words_zh = STYLE_WORDS[style]
    thing_en = f"{article(concept.label_en)} {concept.label_en}"
    thing_zh = f"一{_measure_word(concept)}{concept.label_zh}"
    en = _fill(_EN, concept.label_en, thing_en, words_en)
    en += _tagged("{label}, {tag}, {noun}", concept.label_en, concept.tags_en, words_en)
    zh = _fill(_ZH, concept.label_zh, thing_zh, words_zh)
    zh += _tagged("{label}，{tag}，{noun}", concept.label_zh, concept.tags_zh, words_zh)
    return tuple(("en", text) for text in en) + tuple(("zh", text) for text in zh)


def _fill(templates, label: str, thing: str, words: Sequence[str]) -> list[str]:
    adjective, noun = words
    filled = [
        template.format(label=label, thing=thing, adjective=adjective, noun=noun)
        for template in templates
    ]
    return [label, *filled]


def _tagged(template, label: str, tags: Sequence[str], words) -> list[str]:
    tags = [tag for tag in tags if tag != label][:2]
    return [template.format(label=label, tag=tag, noun=words[1]) for tag in tags]


def _measure_word(concept: Concept) -> str:
    if concept.subgroup.startswith("animal"):
        return "只"
    if concept.subgroup.startswith("plant"):
        return "株"
    return "个"
