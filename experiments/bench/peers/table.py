"""What was measured as figures and as a table: medians, spread, ratios."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

HEAD = (
    "| row | program | rate | of (least to greatest) | ratio | in turn | "
    "used by others | matmul GFLOP/s | parameters |"
)


def foreign_share(busy: float, own: float, seconds: float, cores: int) -> float:
    """Share of the cores that others used, from 0 to 1.

    busy: seconds that these cores worked in all. own: processor time of the program.
    """
    if not seconds:
        return 0.0
    return min(max((busy - own) / (seconds * cores), 0.0), 1.0)


def summary(runs: Sequence[Mapping[str, float]], count: int) -> dict[str, float]:
    """Medians, least and greatest of runs with seconds, cpu, foreign and gflops.

    count: units of a run; the rates are of them.
    """
    rates = [count / run["seconds"] for run in runs]
    return {
        "rate": statistics.median(rates),
        "least": min(rates),
        "greatest": max(rates),
        "rate_of_processor_time": statistics.median(count / r["cpu"] for r in runs),
        "foreign": statistics.median(run["foreign"] for run in runs),
        "matmul_gflops": statistics.median(run["gflops"] for run in runs),
    }


def compared(programs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ours, which is the first, over the fastest of the others.

    programs: label, count, runs and the `summary` of each. "in_turn" is the least and
    the greatest ratio of a turn.
    """
    ours, *peers = programs
    best = max(peers, key=lambda peer: peer["rate"])
    turns = [
        (ours["count"] / own["seconds"]) / (best["count"] / other["seconds"])
        for own, other in zip(ours["runs"], best["runs"], strict=True)
    ]
    by_processor = "rate_of_processor_time"
    return {
        "peer": best["label"],
        "ratio": ours["rate"] / best["rate"],
        "in_turn": [min(turns), max(turns)],
        "ratio_of_processor_time": ours[by_processor] / best[by_processor],
    }


def of_matmul(program: Mapping[str, Any]) -> float | None:
    """Share of the matmul rate that a program reached, None if its work is unknown."""
    if not program.get("gflop"):
        return None
    seconds = program["count"] / program["rate"]
    return program["gflop"] / seconds / program["matmul_gflops"]


def _lines(name: str, row: Mapping[str, Any]) -> list[str]:
    if "error" in row:
        return [f"| {name} | failed: {row['error']} |" + " |" * 7]
    lines = []
    for place, one in enumerate(row["programs"]):
        ratio = in_turn = ""
        if not place:
            low, high = row["in_turn"]
            ratio = f"{row['ratio']:.2f}, {row['ratio_of_processor_time']:.2f}"
            in_turn = f"{low:.2f} to {high:.2f}"
        rate = f"{one['rate']:.4g} {row['unit']}/s"
        share = of_matmul(one)
        if share:
            rate += f", {share:.0%} of matmul"
        lines.append(
            f"| {'' if place else name} | {one['label']} | {rate} | "
            f"{one['least']:.4g} to {one['greatest']:.4g} | {ratio} | {in_turn} | "
            f"{one['foreign']:.2f} | {one['matmul_gflops']:.0f} | "
            f"{one['parameters']:,} |"
        )
    return lines


def markdown(report: Mapping[str, Any]) -> str:
    """The table, and below it what each row compares."""
    settings = report["settings"]
    versions = ", ".join(
        f"{name} {version}" for name, version in report["versions"].items()
    )
    head = [
        "# Beside other libraries",
        "",
        f"Medians of {settings['runs']} runs in turn after one that is not counted, "
        f"{settings['threads']} threads, float32, GLIBC_TUNABLES="
        f"{settings['hugepages'] or 'unset'} for all. {versions}.",
        "The ratio is ours to the fastest peer of the row: by the clock, then of "
        "processor time.",
    ]
    if settings["nano"]:
        head += ["", "**Tiny sizes: the figures say nothing.**"]
    rows = [line for name, row in report["rows"].items() for line in _lines(name, row)]
    notes = [f"- {name}: {row['note']}" for name, row in report["rows"].items()]
    rule = "| --- " * HEAD.count(" | ") + "| --- |"
    return "\n".join([*head, "", HEAD, rule, *rows, "", *notes]) + "\n"
