"""The page of the reading suite: tables of captions, answers and round trips."""

from collections.abc import Mapping, Sequence

import numpy as np

from cogjax.evaluate.judges.reading import Asked, right_answer
from cogjax.evaluate.report.html import (
    GalleryImage,
    Markup,
    gallery,
    note,
    section,
    share,
    table,
)

_TITLES = {"val": "Held-out images", "unseen": "Held-out combinations"}


def reading_page(
    report: Mapping, shown: Sequence[tuple[np.ndarray, Asked, str]]
) -> list[Markup]:
    """Parts of the page. shown: (pixels, question, answer) of some questions."""
    parts = []
    for split, title in _TITLES.items():
        found = report.get(split, {})
        if "captions" in found:
            text = f"{found['images']} images"
            rows = _captions(found["captions"])
            parts.append(section(f"{title}: captions", table(_HEAD, rows, text)))
        if "questions" in found:
            parts.append(section(f"{title}: questions", _answers(found["questions"])))
    if "text_round_trip" in report:
        parts.append(_text_trip(report["text_round_trip"]))
    if "image_round_trip" in report:
        parts.append(_image_trip(report["image_round_trip"]))
    images = []
    for pixels, asked, answer in shown:
        right = right_answer(answer, asked.answer)
        images.append(
            GalleryImage(pixels, asked.question, answer or "(nothing)", right)
        )
    if images:
        parts.append(section("Some questions and answers", gallery(images)))
    return parts


_WORDS = ("bleu_4", "rouge_l", "meteor_exact", "cider_d")
_HEAD = ["language, choice", "true [95 %]", "graph of a reference", "details"]
_HEAD += ["BLEU-4", "ROUGE-L", "METEOR (exact)", "CIDEr-D"]


def _captions(found: Mapping) -> list[list]:
    rows = []
    for language, choices in found.items():
        for name, metrics in choices.items():
            judged = ["", "", ""]
            if "true" in metrics:
                details = f"{metrics['details']:.2f}"
                judged = [share(metrics["true"]), share(metrics["graph"]), details]
            words = [metrics[key] for key in _WORDS]
            rows.append(
                [
                    f"{language or 'any'}, {name}",
                    *judged,
                    *(f"{value:.3f}" for value in words),
                ]
            )
    return rows


def _answers(found: Mapping) -> Markup:
    right, other = found["right"], found["another image"]
    rows = [["all", right["overall"]["count"], *map(share, _pair(right, other))]]
    for group in ("kinds", "languages", "both"):
        for name, entry in right[group].items():
            beside = share(entry), share(other[group][name])
            rows.append([name or "unknown", entry["count"], *beside])
    head = ["questions", "number", "right [95 %]", "asked of another image"]
    return table(head, rows)


def _pair(right: Mapping, other: Mapping) -> tuple[Mapping, Mapping]:
    return right["overall"], other["overall"]


def _text_trip(found: Mapping) -> Markup:
    line = (
        f"Mean agreement of prompt and description {found['score']:.3f}; all that "
        f"both say agrees: {share(found['consistent'])} of images, of right ones "
        f"{share(found['when right'])}, of others {share(found['when wrong'])}."
    )
    rows = [[name, share(entry)] for name, entry in found["chosen"].items()]
    head = ["image chosen by", "right by the oracle [95 %]"]
    return section("text -> image -> text", note(line), table(head, rows))


def _image_trip(found: Mapping) -> Markup:
    parts = []
    for language, metrics in found.items():
        checks = [
            [name, share(entry)] for name, entry in metrics.items() if name != "chosen"
        ]
        rows = [[f"caption by: {k}", share(v)] for k, v in metrics["chosen"].items()]
        parts.append(table([language, "share [95 %]"], checks + rows))
    return section("image -> text -> image", *parts)
