"""`cogjax plan`: would a training run fit a pod, and how long would it take."""

import argparse
import dataclasses
import json
from typing import Any

from cogjax.commands.arguments import add_command
from cogjax.files import check_folder_for, write_atomic

_TOPOLOGY = "such as v5p:4x4x8, v5e:16x16 or h100:64 (chip and their arrangement)"
_ESTIMATE = "from shapes alone, in seconds; otherwise the step is compiled"
_SEARCH = "estimate many meshes, remat policies and parts of a batch; compile the best"


def add_parser(commands) -> None:
    """Adds `plan`."""
    summary = "Compile a training step for a TPU pod that is not there: memory, time."
    parser = add_command(commands, "plan", _plan, summary)
    parser.set_defaults(overrides=[])
    add = parser.add_argument
    add("--config", required=True, metavar="FILE.py[:ARG]", help="or a run's .json")
    add("--topology", required=True, metavar="CHIP:SIZES", help=_TOPOLOGY)
    add("--config.KEY", dest="_", metavar="VALUE", help="such as --config.mesh.fsdp=64")
    add("--estimate", action="store_true", help=_ESTIMATE)
    add("--search", action="store_true", help=_SEARCH)
    add("--json", metavar="FILE", help="also write the figures as JSON")


def _plan(args: argparse.Namespace) -> None:
    if args.json:
        check_folder_for(args.json)
    import os

    # Nothing runs here: a device of this machine would only be in the way.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from cogjax import config as configs
    from cogjax import plan as planning

    config = configs.load(args.config, args.overrides)
    if args.search:
        found = planning.search(config, args.topology)
        print("the fastest that fit, estimated:")
        for report in found:
            print(f"  {_line(report)}")
        best = found[0]
        config = _chosen(config, best)
    report = planning.plan(config, args.topology, estimate=args.estimate)
    _show(report)
    if args.json:
        values = dataclasses.asdict(report)
        write_atomic(args.json, json.dumps(values, indent=2) + "\n")


def _chosen(config: dict[str, Any], report: Any) -> dict[str, Any]:
    """The config with the mesh, remat policy and accumulation of a report."""
    train = {**config["train"], "accumulate": report.accumulate}
    model = {**config["model"], "remat": report.remat}
    return {**config, "mesh": report.mesh, "train": train, "model": model}


def _line(report: Any) -> str:
    mesh = " x ".join(str(size) for size in report.mesh.values())
    return (
        f"mesh {mesh}, {report.remat}, accumulate {report.accumulate}: "
        f"{report.hbm_bytes / 1e9:.1f} GB, {report.step_seconds:.2f} to "
        f"{report.step_seconds_serial:.2f} s, MFU {report.mfu:.0%}"
    )


def _show(report: Any) -> None:
    giga = 1e9
    verdict = "fits" if report.fits else "DOES NOT FIT"
    sent = ", ".join(f"{k} {v / giga:.1f}" for k, v in report.network_bytes.items())
    rows = {
        "step": f"{report.how} for {report.topology}, {report.chips} chips"
        + (f", in {report.compile_seconds:.0f} s" if report.compile_seconds else ""),
        "mesh": ", ".join(f"{k} {v}" for k, v in report.mesh.items()),
        "batch": f"{report.batch_size} in {report.accumulate} parts, "
        f"remat {report.remat}",
        "parameters": f"{report.parameters:,}",
        "memory a chip": f"{report.hbm_bytes / giga:.1f} GB of "
        f"{report.hbm_limit / giga:.1f}, state {report.state_bytes / giga:.1f}: "
        f"{verdict}",
        "model FLOPs": f"{report.flops:.4g} (6ND and attention; "
        f"{report.counted_flops / report.flops:.3f} of it in the trace), executed "
        f"{report.executed_flops:.4g}",
        "HBM traffic": f"{report.memory_bytes / giga:.0f} GB a chip",
        "sent": f"{sent or 'nothing'} (GB a chip)",
        "at full rate": f"compute {report.seconds_compute:.2f} s, memory "
        f"{report.seconds_memory:.2f} s, network {report.seconds_network:.2f} s",
        "time of a step": f"{report.step_seconds:.2f} s if all overlap, "
        f"{report.step_seconds_serial:.2f} s if nothing does",
        "MFU": f"{report.mfu:.1%} if all overlap",
        "tokens a day": f"{report.tokens_per_day:.3g}",
        "whole run": f"{report.days:.1f} days",
    }
    for name, text in rows.items():
        print(f"{name}: {text}")
