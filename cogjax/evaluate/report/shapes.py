"""The page of the shapes suite: tables, curves, confusion tables, images."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from cogjax.evaluate.judges.compositional import Judged
from cogjax.evaluate.report.html import (
    GalleryImage,
    Markup,
    confusion_table,
    gallery,
    note,
    section,
    share_cell,
    table,
)
from cogjax.evaluate.report.plots import line_plot
from cogjax.worlds.shapes.oracle import Found

_NAMES = {"seen": "Seen combinations", "unseen": "Held-out combinations"}
_SHOWN = 24  # images of a gallery


def shapes_page(
    report: Mapping, images: Mapping[str, Mapping[str, Sequence[GalleryImage]]]
) -> list[Markup]:
    """Parts of the page, from the metrics and the chosen images of each split."""
    parts = []
    for split, title in _NAMES.items():
        found = report[split]
        parts.append(section(title, _scores(found), *_checks(found)))
        if "rerank" in found:
            parts.append(section(f"{title}: best of k", *_rerank(found["rerank"])))
    parts += [_sweep(name, entries) for name, entries in report["sweeps"].items()]
    for split, title in _NAMES.items():
        for kind, chosen in images[split].items():
            parts.append(section(f"{title}: {kind} images", gallery(chosen)))
        tables = report[split]["confusion"].items()
        shown = [confusion_table(counts, name) for name, counts in tables if counts]
        parts.append(section(f"{title}: asked and generated", *shown))
    return parts


def choose_images(
    judged: Judged, pixels: Callable[[int, int], np.ndarray], seed: int
) -> dict[str, list[GalleryImage]]:
    """Best, worst and random images, at most one of a prompt.

    The best are right and the oracle is surest of all their pieces; the worst are wrong
    and it is least sure. Both have equally many of each task.
    pixels: of a prompt and image by index.
    """
    sure = np.array(
        [
            [min((piece.agreement for piece in pieces), default=0.0) for pieces in row]
            for row in judged.found
        ]
    )
    tasks = [prompt.task for prompt in judged.prompts]
    picked = {
        "best": _spread(np.where(judged.right, -sure, np.inf), tasks),
        "worst": _spread(np.where(judged.right, np.inf, sure), tasks),
    }
    rng = np.random.default_rng(seed)
    some = sorted(rng.permutation(len(tasks))[:_SHOWN].tolist())
    columns = rng.integers(judged.right.shape[1], size=len(some)).tolist()
    picked["random"] = list(zip(some, columns, strict=True))
    return {
        kind: [_image(judged, p, i, pixels(p, i)) for p, i in places]
        for kind, places in picked.items()
    }


def in_words(pieces: Sequence[Found]) -> str:
    """The oracle's reading, such as "2 small red circle, 1 unknown"."""
    if not pieces:
        return "nothing"
    items = [piece.item for piece in pieces]
    counts = Counter(
        "unknown" if i.shape == "unknown" else f"{i.size} {i.colour} {i.shape}"
        for i in items
    )
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _spread(keys: np.ndarray, tasks: Sequence[str]) -> list[tuple[int, int]]:
    """Places of the lowest finite keys [p, g]: one a prompt, tasks in turn."""
    by_task: dict[str, list[tuple[float, int, int]]] = {}
    for p, task in enumerate(tasks):
        i = int(keys[p].argmin())
        if np.isfinite(keys[p, i]):
            by_task.setdefault(task, []).append((float(keys[p, i]), p, i))
    each = max(_SHOWN // max(len(by_task), 1), 1)
    return [(p, i) for task in by_task.values() for _, p, i in sorted(task)[:each]]


def _image(judged: Judged, p: int, i: int, pixels: np.ndarray) -> GalleryImage:
    right = bool(judged.right[p, i])
    verdict = "right" if right else f"wrong: {in_words(judged.found[p][i])}"
    return GalleryImage(pixels, judged.prompts[p].caption, verdict, right)


def _scores(found: Mapping) -> Markup:
    """A row a task; best of 1 and of N if they are there, and the ceilings beside."""
    score, curve = found["score"], found.get("rerank", [])
    columns = {"score [95 %]": score}
    if len(curve) > 1:
        most = curve[-1]["best_of"]
        columns[f"best of 1, mean of {most}"] = curve[0]
        columns[f"best of {most}"] = curve[-1]
    columns["real, through the tokenizer"] = found["tokenizer"]
    columns["real renders"] = found["renders"]
    head = ["task", *columns, f"any of {score['images'] // score['prompts']}"]
    entries = list(columns.values())
    rows = [["overall", *map(share_cell, entries), f"{score['any']:.3f}"]]
    for kind in ("tasks", "languages"):
        rows += [
            [name, *(share_cell(e[kind][name]) for e in entries), f"{entry['any']:.3f}"]
            for name, entry in score[kind].items()
        ]
    abstained = [f"{entry['abstained']:.3f}" for entry in entries]
    rows.append(["abstained (counted as wrong)", *abstained, ""])
    images = f"{score['prompts']} prompts, {score['images']} images"
    return table(head, rows, f"{images}; all or nothing an image, mean over tasks")


def _checks(found: Mapping) -> list[Markup]:
    """Lines on the baseline, and on the second judge if there is one."""
    shuffled = found["shuffled"]
    low, high = shuffled["interval"]
    lines = [
        f"Images against captions of other prompts: {shuffled['share']:.3f} "
        f"[{low:.3f}, {high:.3f}], chance is {shuffled['chance']:.3f}."
    ]
    if second := found.get("second_judge"):
        lines.append(
            f"The same images by the second judge, a network trained on renders: "
            f"{share_cell(second)}; it agrees on {second['agrees']:.3f} of them."
        )
    return [note(line) for line in lines]


def _rerank(curve: Sequence[Mapping]) -> list[Markup]:
    rows = [
        [entry["best_of"], entry["groups"], share_cell(entry), f"{entry['any']:.3f}"]
        for entry in curve
    ]
    head = ["k", "groups a prompt", "chosen of k", "any of k"]
    series = {
        "chosen of k": [(e["best_of"], *_point(e)) for e in curve],
        "any of k": [(e["best_of"], *[e["any"]] * 3) for e in curve],
    }
    most = curve[-1]["best_of"]
    return [
        line_plot(series, "candidates k", "score", log_x=True),
        table(head, rows, f"from the same {most} candidates a prompt"),
    ]


def _sweep(name: str, entries: Sequence[Mapping]) -> Markup:
    points = [(entry["value"], *_point(entry["score"])) for entry in entries]
    anys = [(entry["value"], *[entry["score"]["any"]] * 3) for entry in entries]
    tasks = list(entries[0]["score"]["tasks"])
    rows = [
        [
            f"{entry['value']:g}",
            share_cell(entry["score"]),
            *(f"{entry['score']['tasks'][task]['share']:.3f}" for task in tasks),
        ]
        for entry in entries
    ]
    count = entries[0]["score"]["prompts"]
    return section(
        f"Score against {name}",
        line_plot({"score": points, "any image of a prompt": anys}, name, "score"),
        table([name, "overall", *tasks], rows, f"{count} seen prompts"),
    )


def _point(entry: Mapping) -> tuple[float, float, float]:
    return entry["overall"], *entry["interval"]
