"""Captions of IconPark's drawings: thing, colour and theme, English and Chinese."""

from cogjax.worlds.emoji.captions import Concept
from cogjax.worlds.icons.palette import CHINESE
from cogjax.worlds.words import article

THEME_WORDS = {
    "icon-outline": ("outline icon", "线性图标"),
    "icon-filled": ("filled icon", "实心图标"),
    "icon-two-tone": ("two-tone icon", "双色图标"),
    "icon-multi-color": ("multi-color icon", "多色图标"),
}
# The last ones name no colour: a user may leave it open.
_EN = ("a {color} {label}, {theme}", "{color} {label}, {theme}")
_EN += ("{theme} of a {color} {label}", "{thing}, {color} {theme}", "{thing}, {theme}")
_ZH = ("{color}的{label}，{theme}", "{color}{label}，{theme}")
_ZH += ("{color}的{label}的{theme}", "{label}，{color}{theme}", "{label}，{theme}")
_TAGGED = "{label}，{tag}，{color}{theme}"
_NUM_TAGS = 2


def captions(concept: Concept, theme: str, color: str) -> tuple[tuple[str, str], ...]:
    """(language, text) pairs; the first of each language is the bare label."""
    en = {"label": concept.label_en, "color": color, "theme": THEME_WORDS[theme][0]}
    en["thing"] = f"{article(concept.label_en)} {concept.label_en}"
    zh = {"label": concept.label_zh, "theme": THEME_WORDS[theme][1]}
    zh["color"] = CHINESE[color]
    texts_en = [concept.label_en, *(_correct(t.format(**en)) for t in _EN)]
    texts_zh = [concept.label_zh, *(t.format(**zh) for t in _ZH)]
    tags = [tag for tag in concept.tags_zh if tag != concept.label_zh][:_NUM_TAGS]
    texts_zh += [_TAGGED.format(tag=tag, **zh) for tag in tags]
    return tuple(("en", t) for t in texts_en) + tuple(("zh", t) for t in texts_zh)


def _correct(text: str) -> str:
    """ "an orange cat", not "a orange cat"."""
    return text.replace("a orange", "an orange", 1)
