"""`cogjax plan`: would training, or sampling, fit a pod, and how long would it take."""

import argparse
import dataclasses
import json
from typing import Any

from cogjax.commands.arguments import CONFIG, add_command, add_file, whole
from cogjax.files import check_file, write_file

_TOPOLOGY = "such as v5p:4x4x8, v5e:16x16 or h100:64 (chip and their arrangement)"
_ESTIMATE = "from shapes alone, in seconds; otherwise the step is compiled"
_SEARCH = "estimate many meshes, remat policies and parts of a batch; compile the best"
_SAMPLING = "plan generating so many images at once instead, on the mesh that suits it"
_ENCODING = "plan encoding so many texts at once instead, by the T5 of the config"


def add_parser(commands) -> None:
    """Adds `plan`."""
    summary = (
        "Compile training or sampling for a TPU pod that is not there: memory, time."
    )
    parser = add_command(commands, "plan", _plan, summary)
    parser.set_defaults(overrides=[])
    add = parser.add_argument
    add("--config", required=True, metavar="CONFIG", help=CONFIG)
    add("--topology", required=True, metavar="CHIP:SIZES", help=_TOPOLOGY)
    add("--config.KEY", dest="_", metavar="VALUE", help="such as --config.mesh.fsdp=64")
    add("--estimate", action="store_true", help=_ESTIMATE)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--search", action="store_true", help=_SEARCH)
    what.add_argument("--sampling", type=whole(1), metavar="N", help=_SAMPLING)
    what.add_argument("--encoding", type=whole(1), metavar="N", help=_ENCODING)
    add_file(parser, "--json", help="also write the metrics as JSON")


def _plan(args: argparse.Namespace) -> None:
    if args.json:
        check_file(args.json, args.overwrite)
    import os

    # Nothing runs here: a device of this machine would only be reserved.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from cogjax import config as configs
    from cogjax.plan import encoding, sampling, training

    config = configs.load(args.config, args.overrides)
    if args.sampling:
        report = sampling.plan_sampling(
            config, args.topology, args.sampling, estimate=args.estimate
        )
        rows = _of_sampling(report)
    elif args.encoding:
        report = encoding.plan_encoding(
            config, args.topology, args.encoding, estimate=args.estimate
        )
        rows = _of_encoding(report)
    else:
        if args.search:
            found = training.search(config, args.topology)
            print("the fastest that fit, estimated:")
            for each in found:
                print(f"  {_line(each)}")
            config = _chosen(config, found[0])
        report = training.plan(config, args.topology, estimate=args.estimate)
        rows = _of_training(report)
    for name, text in rows.items():
        print(f"{name}: {text}")
    if args.json:
        values = dataclasses.asdict(report)
        write_file(args.json, json.dumps(values, indent=2) + "\n", args.overwrite)


def _chosen(config: dict[str, Any], report: Any) -> dict[str, Any]:
    """The config with the mesh, remat policy and accumulation of a report."""
    train = {**config["train"], "accumulate": report.accumulate}
    model = dict(config["model"])
    if "remat" in model:
        model["remat"] = report.remat
    return {**config, "mesh": report.mesh, "train": train, "model": model}


def _line(report: Any) -> str:
    mesh = " x ".join(str(size) for size in report.mesh.values())
    return (
        f"mesh {mesh}, {report.remat}, accumulate {report.accumulate}: "
        f"{report.hbm_bytes / 1e9:.1f} GB, {report.step_seconds:.2f} to "
        f"{report.step_seconds_serial:.2f} s, MFU {report.mfu:.0%}"
    )


def _of_training(report: Any) -> dict[str, str]:
    moments = f"{report.optimizer_bytes / 1e9:.1f} of it moments"
    state = f"state {report.state_bytes / 1e9:.1f} ({moments})"
    estimated = report.how == "estimated"
    return {
        "step": _made(report),
        "mesh": _mesh(report),
        "batch": f"{report.batch_size} in {report.accumulate} parts, "
        f"remat {report.remat}",
        "parameters": f"{report.parameters:,}",
        "memory a chip": _memory(report, state),
        "model FLOPs": f"{report.flops:.4g} ({_counted(report)}), executed "
        f"{report.executed_flops:.4g}",
        **_visited(report),
        "HBM traffic": f"{report.memory_bytes / 1e9:.0f} GB a chip"
        + (", compiled steps move 5 to 6 times as much" if estimated else ""),
        "sent": _sent(report, 1e9, "GB"),
        **_summed(report),
        "at full rate": _rates(report, 1, "s"),
        "time of a step": f"{report.step_seconds:.2f} s if all overlap, "
        f"{report.step_seconds_serial:.2f} s if nothing does",
        "MFU": f"at most {report.mfu:.1%}, if all overlap at full rate",
        **_a_day(report),
        "whole run": f"{report.days:.1f} days",
    }


def _visited(report: Any) -> dict[str, str]:
    """What the kernel of a TPU skips of attention."""
    if not report.attention_visited:
        return {}
    return {"blocks of attention": f"{report.attention_visited:.0%} of all computed"}


def _counted(report: Any) -> str:
    if not report.tokens_per_day:
        return "of the trace"
    share = report.counted_flops / report.flops
    return f"6ND and attention; {share:.3f} of it in the trace"


def _a_day(report: Any) -> dict[str, str]:
    if report.tokens_per_day:
        return {"tokens a day": f"{report.tokens_per_day:.3g}"}
    images = report.batch_size / report.step_seconds * 86400
    return {"images a day": f"{images:.3g}"}


def _of_sampling(report: Any) -> dict[str, str]:
    held = (
        f"weights {report.weight_bytes / 1e9:.1f}, "
        f"caches {report.cache_bytes / 1e9:.1f}"
    )
    slower = report.token_seconds / report.token_seconds_serial
    return {
        "token of all images": _made(report),
        "mesh": _mesh(report),
        "batch": f"{report.images} images of {report.tokens} tokens",
        "parameters": f"{report.parameters:,}, bfloat16",
        "memory a chip": _memory(report, held),
        "FLOPs": f"{report.flops:.4g} a token of all images",
        "HBM traffic": f"{report.memory_bytes / 1e9:.2f} GB a chip and token",
        "sent": _sent(report, 1e6, "MB"),
        "at full rate": _rates(report, 1e3, "ms"),
        "time of a token": f"{report.token_seconds * 1e3:.2f} ms if all overlap, "
        f"{report.token_seconds_serial * 1e3:.2f} ms if nothing does",
        "time of the images": f"{report.token_seconds * report.tokens:.2f} to "
        f"{report.token_seconds_serial * report.tokens:.2f} s",
        "images a second": f"{report.images_per_second * slower:.3g} to "
        f"{report.images_per_second:.3g}",
    }


def _of_encoding(report: Any) -> dict[str, str]:
    each = report.texts / report.seconds_serial, report.texts / report.seconds
    return {
        "encoding": _made(report),
        "batch": f"{report.texts} texts of {report.text_len} ids",
        "parameters": f"{report.parameters:,}, float32",
        "memory a chip": _memory(report, f"weights {report.weight_bytes / 1e9:.1f}"),
        "FLOPs": f"{report.flops:.4g}",
        "HBM traffic": f"{report.memory_bytes / 1e9:.0f} GB a chip",
        "at full rate": f"compute {report.seconds_compute:.3f} s, memory "
        f"{report.seconds_memory:.3f} s",
        "MFU": f"at most {report.mfu:.1%}, if all overlap at full rate",
        "texts a second": f"{each[0]:.3g} to {each[1]:.3g}",
        "stored": f"at most {report.stored_bytes / 1e6:.2f} MB a text, bfloat16",
    }


def _made(report: Any) -> str:
    seconds = report.compile_seconds
    after = f", in {seconds:.0f} s" if seconds else ""
    return f"{report.how} for {report.topology}, {report.chips} chips{after}"


def _mesh(report: Any) -> str:
    return ", ".join(f"{name} {size}" for name, size in report.mesh.items())


def _memory(report: Any, held: str) -> str:
    verdict = "fits" if report.fits else "DOES NOT FIT"
    if not report.fits and report.hbm_bytes <= report.hbm_limit:
        verdict = "MAY NOT FIT, the estimate can be a fifth too low: compile the step"
    return (
        f"{report.hbm_bytes / 1e9:.1f} GB of {report.hbm_limit / 1e9:.1f}, {held}: "
        f"{verdict}"
    )


def _sent(report: Any, unit: float, name: str) -> str:
    each = (f"{kind} {size / unit:.1f}" for kind, size in report.network_bytes.items())
    return f"{', '.join(each) or 'nothing'} ({name} a chip)"


def _summed(report: Any) -> dict[str, str]:
    """What compressed gradients save and take; nothing without compression."""
    if report.summed_bytes == report.exact_bytes:
        return {}
    text = (
        f"{report.summed_bytes / 1e9:.3f} GB a worker, "
        f"{report.summed_bytes / report.exact_bytes:.1%} of exact "
        f"{report.exact_bytes / 1e9:.3f}; errors {report.error_bytes / 1e9:.3f} GB"
    )
    return {"summed gradients": text}


def _rates(report: Any, unit: float, name: str) -> str:
    each = ("compute", "memory", "network")
    return ", ".join(
        f"{kind} {getattr(report, f'seconds_{kind}') * unit:.2f} {name}"
        for kind in each
    )
