"""`cogjax export`: a run as a model folder, and a model for others."""

import argparse
from pathlib import Path

from cogjax.commands.arguments import add_adapters, add_command
from cogjax.errors import UserError

_WEIGHTS = ("safetensors", "torch")


def add_parser(commands) -> None:
    """Adds `export`."""
    summary = "Write a run as a model folder, or a model in the format of others."
    epilog = "docs/importing.md says what is in a folder, and how others load it."
    parser = add_command(commands, "export", _export, summary, epilog=epilog)
    add = parser.add_argument
    source = "folder of a run; with --format a model too, by folder or shipped name"
    add("source", metavar="SOURCE", help=source)
    add("--out", required=True, metavar="DIR", help="folder to write")
    kinds = (
        "safetensors: names of the public code; torch: for its modules; stablehlo: "
        "programs that need JAX alone; onnx: for ONNX Runtime; adapter: of a run with "
        "LoRA what it has learnt (default: a model folder)"
    )
    formats = (*_WEIGHTS, "stablehlo", "onnx", "adapter")
    add("--format", choices=formats, help=kinds)
    add_adapters(parser)
    text = "replace the model in --out; files that are not its own stay"
    add("--overwrite", action="store_true", help=text)
    add("--dtype", choices=("float16", "float32"), help="of the weights on disk")


def _folder(args: argparse.Namespace) -> Path:
    """Writes a model folder or an adapter; returns where it is."""
    if args.adapters:
        import cogjax

        model = cogjax.load(args.source, adapters=dict(args.adapters))
        return model.save(args.out, args.dtype, args.overwrite)
    from cogjax.stages import run as launch

    if args.format is None:
        return launch.export(args.source, args.out, args.dtype, args.overwrite)
    if args.dtype:
        raise UserError("--dtype is of models: leave it out of --format adapter")
    return launch.export_adapter(args.source, args.out, args.overwrite)


def _export(args: argparse.Namespace) -> None:
    if args.adapters and args.format:
        raise UserError(
            "--adapter makes a model folder: leave --format out, and export that folder"
        )
    if args.format in (None, "adapter"):
        print(f"exported to {_folder(args)}")
        return
    out, source = Path(args.out), args.source
    if args.format in _WEIGHTS:
        from cogjax.exporting.public import export_weights

        torch, dtype = args.format == "torch", args.dtype or "float32"
        done = export_weights(source, out, torch, dtype, args.overwrite)
    elif args.dtype:
        raise UserError(f"--dtype is of weights alone: leave it out of {args.format}")
    elif args.format == "stablehlo":
        from cogjax.exporting.stablehlo import export_programs

        done = export_programs(source, out, args.overwrite)
    else:
        from cogjax.exporting.onnx import export_onnx

        done = export_onnx(source, out, args.overwrite)
    for name, about in done.components.items():
        print(f"{out}: {name} ({about})")
    for note in done.notes:
        print(f"note: {note}")
