"""What raters said, as tables: in a terminal and as a page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cogjax.evaluate.report.columns import columns
from cogjax.evaluate.report.html import note, page, section, table

_POINTS = ("question", "model", "mean", "95 %")
_PAIRED = ("question", "models", "answers for", "none", "against", "majority of 5")
_PAIRED += ("win rate", "p")
_PLAIN = ("question", "models", "difference", "95 %", "p")
_RATERS = ("rater", "file", "answers", "checks right", "median s", "kept")
_AGREEMENT = ("question", "alpha")


def human_text(report: Mapping[str, Any]) -> str:
    """The tables for a terminal."""
    parts = [f"{title}\n{columns([head, *rows])}" for title, head, rows in _all(report)]
    return "\n\n".join([*parts, *_remarks(report)])


def human_page(report: Mapping[str, Any]) -> str:
    """The tables as one HTML file."""
    parts = [section(title, table(head, rows)) for title, head, rows in _all(report)]
    title = f"{', '.join(report['models'])}, judged by people"
    return page(title, *parts, section("Notes", *map(note, _remarks(report))))


def _all(report: Mapping[str, Any]):
    """(title, head, rows) of each table that has rows."""
    head, row = _compared(report["comparisons"])
    tables = [
        ("Points", _POINTS, [r for q in report["points"] for r in _points(q)]),
        ("Pairs", head, [row(entry) for entry in report["comparisons"]]),
    ]
    if "by_category" in report:
        rows = [
            [entry["category"] or "(none)", *row(entry)]
            for entry in sorted(report["by_category"], key=lambda e: e["category"])
        ]
        tables.append(("By category", ("category", *head), rows))
    alphas = [[name, _number(alpha)] for name, alpha in report["agreement"].items()]
    tables.append(("Agreement, Krippendorff's alpha", _AGREEMENT, alphas))
    tables.append(("Raters", _RATERS, [_rater(each) for each in report["raters"]]))
    return [entry for entry in tables if entry[2]]


def _compared(
    entries: Sequence[Mapping[str, Any]],
) -> tuple[tuple[str, ...], Callable[[Mapping[str, Any]], list[str]]]:
    """The head, and a function from a comparison to its row."""
    if any(entry["shares"] for entry in entries):
        return _PAIRED, _paired
    return _PLAIN, _plain


def _points(entry: Mapping[str, Any]) -> list[list[str]]:
    return [
        [entry["question"], m["model"], f"{m['mean']:.3f}", _between(m["interval"])]
        for m in entry["models"]
    ]


def _paired(entry: Mapping[str, Any]) -> list[str]:
    first, none, second = (f"{100 * share:.1f} %" for share in entry["shares"])
    rate, low, high = (100 * value for value in entry["win_rate"])
    majority = ", ".join(map(str, entry["majority"]))
    return [
        entry["question"],
        " : ".join(entry["models"]),
        first,
        none,
        second,
        majority,
        f"{rate:.1f} % [{low:.0f}, {high:.0f}]",
        _p(entry["corrected"]),
    ]


def _plain(entry: Mapping[str, Any]) -> list[str]:
    return [
        entry["question"],
        " - ".join(entry["models"]),
        f"{entry['difference']:+.3f}",
        _between(entry["interval"], "+"),
        _p(entry["corrected"]),
    ]


def _rater(entry: Mapping[str, Any]) -> list[str]:
    return [
        entry["rater"],
        entry["file"],
        str(entry["answers"]),
        f"{entry['right']} of {entry['checks']}",
        f"{entry['median_seconds']:.1f}",
        "yes" if entry["kept"] else "no",
    ]


def _remarks(report: Mapping[str, Any]) -> list[str]:
    kept = sum(each["kept"] for each in report["raters"])
    dropped = len(report["raters"]) - kept
    lines = [
        f"{kept} raters, {report['prompts']} prompts; {dropped} dropped, who had less "
        f"than {100 * report['keep']:.0f} % of the attention checks right."
    ]
    for question, found in report["first_shown"].items():
        share, low, high = (100 * x for x in (found["share"], *found["interval"]))
        lines.append(
            f"{question}: the image on the left was chosen in {share:.1f} % "
            f"[{low:.0f}, {high:.0f}] of {found['n']} choices; chance is "
            f"{100 * found['chance']:.0f} %."
        )
    if left := report["left_out"]:
        lines.append(f"{len(left)} files left out:")
        lines += [f"{name}: {reason}" for name, reason in left]
    lines.append(
        "p is corrected for all pairs and questions of its table (Holm). Intervals are "
        "of other raters and prompts like these."
    )
    return lines


def _between(interval: Sequence[float] | None, sign: str = "") -> str:
    if interval is None:
        return "-"
    low, high = interval
    return f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
