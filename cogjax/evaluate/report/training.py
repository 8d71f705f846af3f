"""The page of a training run: RUN/report.html, made of the files of its folder alone.

A run that goes on, has ended, was broken off, or is of an earlier version, has one.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cogjax.errors import UserError
from cogjax.evaluate.report.curves import Curve, chart
from cogjax.evaluate.report.html import (
    Markup,
    image,
    markup,
    note,
    page,
    section,
    table,
)
from cogjax.evaluate.report.plots import HUES
from cogjax.evaluate.report.run_files import (
    RunFiles,
    Sheet,
    read_board,
    read_run,
    read_sheets,
)
from cogjax.files import write_atomic

NAME = "report.html"
_EVAL = "eval/"
_FIRST = ("loss", "lr", "grad_norm", "examples_per_second")
_LONGEST = 3.2e10  # seconds
_MOST_CHARTS = 40
_MOST_CHANGES = 12  # of a session
_MARK = "cogjax training report"


def write_training_report(workdir: Path) -> Path:
    """Makes RUN/report.html anew, whole or not at all; returns its path.

    UserError for a folder that is no run's, or if a file of that name is not ours.
    """
    path = workdir / NAME
    run = read_run(workdir)
    if path.exists() and not _is_ours(path):
        raise UserError(f"{path} is no report of cogjax: move it away")
    # Texts of JSON may hold what UTF-8 has no bytes for.
    return write_atomic(path, _page(run).encode(errors="replace"))


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(errors="replace")[:2000]
    except OSError:  # A folder, or a file that may not be read.
        return False


def _page(run: RunFiles) -> str:
    task = run.config["task"]
    name = task.get("name", "?") if isinstance(task, Mapping) else "?"
    title = f"{run.workdir.resolve().name}: {_MARK}"
    parts = [_state(run, name), _curves(run.curves), _figures(run.curves)]
    for kind, sheets in read_sheets(run.workdir).items():
        parts.append(_samples(kind, sheets, run.config.get("sample", {})))
    if board := read_board(run.workdir):
        parts.append(_codebook(*board))
    parts += [_time(run), _events(run), _sessions(run)]
    return page(title, *(part for part in parts if part))


def _state(run: RunFiles, task: str) -> Markup:
    train = run.config["train"]
    steps = train.get("steps")
    rows = [["task", task], ["step", f"{run.step} of {steps}"]]
    curve = run.curves.get("examples_per_second")
    if curve and curve.points and curve.last > 0 and steps:
        rate = curve.last / train.get("batch_size", 1)
        rows.append(["speed", f"{rate:.3g} steps/s, {curve.last:.4g} examples/s"])
        if run.step < steps:
            rows.append(["left at that speed", _span((steps - run.step) / rate)])
    if run.time:
        rows.append(["last line of metrics", _clock(run.time)])
    rows.append(["this page", _clock(time.time())])
    broken = (
        [note(f"{run.broken} lines of metrics.jsonl are broken and left out")]
        if run.broken
        else []
    )
    return section("Run", table(["", ""], rows), *broken)


def _curves(curves: Mapping[str, Curve]) -> Markup:
    """A chart a metric, training and held-out values in one."""
    names = [name for name in curves if curves[name].points]
    bases = list(dict.fromkeys(name.removeprefix(_EVAL) for name in names))
    order = [name for name in _FIRST if name in bases]
    order += [name for name in bases if name not in order]
    charts = []
    for base in order:
        pair = {"training": curves.get(base), "held out": curves.get(_EVAL + base)}
        pair = {key: curve for key, curve in pair.items() if curve and curve.points}
        flat = {p for curve in pair.values() for x in curve.points for p in _ends(x)}
        if len(flat) > 1:
            charts.append(chart(pair, base))
    if not charts:
        return section("Curves", note("no metric has changed yet"))
    more = len(charts) - _MOST_CHARTS
    rest = [note(f"{more} more in metrics.jsonl and tb/")] if more > 0 else []
    shown = "\n".join(charts[:_MOST_CHARTS])
    text = (
        "Held-out values are of the averaged weights. A band goes from the lowest to "
        "the highest of the values that one point stands for."
    )
    return section(
        "Curves", Markup(f'<div class="plots">\n{shown}\n</div>'), note(text), *rest
    )


def _ends(point: Any) -> tuple[float, float]:
    return point.low, point.high


def _figures(curves: Mapping[str, Curve]) -> Markup:
    rows = [
        [
            name.replace(_EVAL, "held-out "),
            *(f"{x:.5g}" for x in (curve.first, curve.last, curve.lowest)),
            curve.lowest_step,
            f"{curve.lost}, from step {curve.lost_at}" if curve.lost else "",
        ]
        for name, curve in curves.items()
        if curve.points or curve.lost
    ]
    head = ["", "first", "last", "lowest", "at step", "not finite"]
    return section("Figures", table(head, rows) if rows else note("none yet"))


def _samples(kind: str, sheets: Sequence[Sheet], sample: Any) -> Markup:
    """Sheets of one name over time; runs of old have texts in their config alone."""
    shown = []
    for sheet in sheets:
        picture = image(sheet.data, f"{kind} at step {sheet.step}")
        shown.append(
            f"<figure>{picture}<figcaption>step {sheet.step}</figcaption></figure>"
        )
    texts = sheets[0].texts if sheets else []
    if kind == "generated" and not texts and isinstance(sample, Mapping):
        prompts = sample.get("prompts")
        texts = [str(x) for x in prompts] if isinstance(prompts, list) else []
    words = [note(f"In their order: {' | '.join(texts)}")] if texts else []
    return section(
        f"Images: {kind}", *words, Markup(f'<div class="wholes">{"".join(shown)}</div>')
    )


def _codebook(data: bytes, found: Mapping[str, Any]) -> Markup:
    rows = [[name, str(value)] for name, value in found.items()]
    text = (
        "Each code by what the decoder makes of an even grid of it, in order of use, "
        "the most used first. Codes that no image uses stand behind the gap."
    )
    board = image(data, "what each code of the codebook looks like", "sheet")
    return section("Codebook", table(["", ""], rows), board, note(text))


def _time(run: RunFiles) -> Markup:
    whole = sum(run.seconds.values())
    if whole <= 0:
        return section("Time", note("not known yet: it is noted with each checkpoint"))
    kinds = [(kind, value) for kind, value in run.seconds.items() if value > 0]
    bar = "".join(
        f'<span style="width: {100 * value / whole:.2f}%; '
        f'background: {HUES[i % len(HUES)]}"></span>'
        for i, (kind, value) in enumerate(kinds)
    )
    rows = [
        [_key(kind, i), _span(value), f"{value / whole:.1%}"]
        for i, (kind, value) in enumerate(kinds)
    ]
    text = (
        "step is what a run is for. data: waiting for a batch. eval: evaluations, "
        "images and this page. lost: steps that were done again after a crash or a "
        "roll-back. All sessions count, as noted with their checkpoints."
    )
    return section(
        "Time",
        Markup(f'<div class="shares" aria-hidden="true">{bar}</div>'),
        table(["", "", "share"], rows, f"{_span(whole)} in all"),
        note(text),
    )


def _key(kind: str, index: int) -> Markup:
    hue = HUES[index % len(HUES)]
    return Markup(
        f'<span style="color: {hue}" aria-hidden="true">■</span> {markup(kind)}'
    )


def _events(run: RunFiles) -> Markup | None:
    if not run.events:
        return None
    return section("Events", table(["step", "what"], run.events))


def _sessions(run: RunFiles) -> Markup:
    """When the run was started and resumed, and what was another then."""
    if not run.sessions:
        return section("Sessions", note("this run has noted none"))
    rows = [
        [f"step {now['step']}", _clock(now["time"]), _changes(before, now)]
        for before, now in zip([None, *run.sessions], run.sessions, strict=False)
    ]
    rows = rows if run.num_sessions == len(rows) else rows[1:]
    machine = ", ".join(
        f"{name} {value}" for name, value in run.sessions[-1]["machine"].items()
    )
    caption = f"{run.num_sessions} in all; the last on {machine}"
    head = ["from", "at", "what was another than in the session before"]
    return section("Sessions", table(head, rows, caption))


def _changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    if before is None:
        return "the first"
    found = []
    for part in ("machine", "config"):
        old, new = before[part], now[part]
        found += [
            f"{key}: {old.get(key, 'not set')} → {new.get(key, 'not set')}"
            for key in {**old, **new}
            if old.get(key) != new.get(key)
        ]
    more = len(found) - _MOST_CHANGES
    return "; ".join(found[:_MOST_CHANGES]) + (
        f"; and {more} more" if more > 0 else "" if found else "nothing"
    )


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _span(seconds: float) -> str:
    """ "2 d 3 h", "3 h 12 min", "12 min", "8 s"."""
    if seconds > _LONGEST:
        return "over 1000 years"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if seconds < 120:
        return f"{seconds:.3g} s"
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{hours // 24} d {hours % 24} h"
