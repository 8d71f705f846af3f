"""Metrics with all that they depend on, as rows of a table."""

from collections.abc import Mapping
from typing import Any

from cogjax.evaluate.report.columns import columns

HEAD = ("metric", "value", "spread", "images", "reference", "network", "resize", "blur")
HEAD += ("note",)


def metric_row(metric: Mapping[str, Any], of: str = "") -> list[str]:
    """Cells under `HEAD` of a metric as of `MetricValue.as_dict`; of: whose it is."""
    spread, reference = metric["spread"], metric["reference"]
    return [
        f"{metric['name']} of {of}" if of else metric["name"],
        f"{metric['value']:.5g}",
        "" if spread is None else f"{spread:.4g}",
        str(metric["n"]),
        "" if reference is None else str(reference),
        metric["extractor"],
        metric["resize"],
        metric["blur"],
        metric["note"],
    ]


def metrics_text(report: Mapping[str, Any]) -> str:
    """The table of `cogjax metrics`, and what is not in it."""
    rows = [metric_row(metric) for metric in report["metrics"]]
    name = report["reference"]
    rows += [metric_row(metric, name) for metric in report["metrics_of_reference"]]
    lines = [columns([HEAD, *rows])] if rows else []
    lines += [f"not computed: {n}: {why}" for n, why in report["not_computed"].items()]
    return "\n".join(lines)
