"""`cogjax generate`: pictures, a grid and one JSON record from prompts.

Nothing is overwritten: pictures take the next free number behind the words of their
prompt, and a second run in the same folder writes `grid-2.png` and `generation-2.json`.
"""

import argparse
import json
import unicodedata
from dataclasses import asdict
from pathlib import Path

from cogjax.commands import arguments
from cogjax.commands.arguments import SEED, add_command, check_text, number, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_folder, write_new

_SETTINGS = (
    "num_images",
    "seed",
    "rerank",
    "temperature",
    "top_k",
    "top_p",
    "guidance",
    "speculate",
    "decode",
)
_MAX_SLUG_BYTES = 120
_SPECULATE = "draft N codes a step (16 is good): fewer steps, same distribution"
_DECODE = "pictures from codes, or from hidden states if the model was trained to"
_RERANK = "draw N candidates, keep the --num-images that the model captions best"


def add_parser(commands) -> None:
    """Adds `generate`."""
    summary = "Make pictures from prompts in Chinese or English."
    parser = add_command(commands, "generate", _generate, summary)
    parser.set_defaults(words="prompts")
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="what a picture shows")
    add("--prompts-file", metavar="FILE", help="more prompts, UTF-8, one a line")
    add("--out", required=True, metavar="DIR", help="folder for the pictures")
    add("--model", default="emoji", help="shipped name or folder (%(default)s)")
    arguments.add_weights(parser)
    add("--num-images", type=whole(1, 1000), default=4, metavar="N", help="default: 4")
    add("--seed", type=SEED, default=0, metavar="N", help="same seed, same pictures")
    _add_sampling(parser)
    group = parser.add_argument_group("continuing a picture")
    add = group.add_argument
    add("--image-prompt", metavar="IMAGE", help="picture to start from")
    add(
        "--rows", type=whole(1), metavar="N", help="rows of codes to keep, from the top"
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    sampling = parser.add_argument_group("sampling (defaults: the model's own)")
    add = sampling.add_argument
    add("--temperature", type=number(0, 100), metavar="T", help="0: likeliest code")
    add("--top-k", type=whole(0), metavar="K", help="0 keeps all codes")
    add("--top-p", type=number(0, 1, open_low=True), metavar="P", help="1 keeps all")
    add("--guidance", type=number(0, 100), metavar="W", help="above 1 heeds the text")
    add("--speculate", type=whole(0), default=0, metavar="N", help=_SPECULATE)
    add("--decode", choices=("codes", "hidden"), help=_DECODE)
    add("--rerank", type=whole(0, 1000), default=0, metavar="N", help=_RERANK)


def _generate(args: argparse.Namespace) -> None:
    prompts = _prompts(args)
    if bool(args.image_prompt) != bool(args.rows):
        raise UserError("--image-prompt IMAGE and --rows N go together: give both")
    if 0 < args.rerank < args.num_images:
        raise UserError(
            f"--rerank {args.rerank} draws fewer than --num-images {args.num_images}"
        )
    out = check_folder(args.out)
    settings = _given(args)
    if args.image_prompt:
        # Read before JAX is imported, so that a bad file is named at once.
        settings["image_prompt"] = arguments.read_image(args.image_prompt)
        settings["rows"] = args.rows
    import cogjax

    model = cogjax.load(args.model, weights=args.weights)
    with Progress() as progress:
        result = model.generate(prompts, progress=progress, **settings)
    _write(out, prompts, result, _record(args, model))


def _given(args: argparse.Namespace) -> dict[str, float]:
    """What the command line sets; the model's own defaults fill the rest."""
    return {k: getattr(args, k) for k in _SETTINGS if getattr(args, k) is not None}


def _prompts(args: argparse.Namespace) -> list[str]:
    prompts = list(args.prompts)
    if args.prompts_file:
        prompts += arguments.read_lines(args.prompts_file, "prompts file")
    if not prompts:
        raise UserError('there is no prompt: cogjax generate "a red apple" --out DIR')
    if len(prompts) > arguments.MAX_PROMPTS:
        raise UserError(f"{len(prompts)} prompts, at most {arguments.MAX_PROMPTS}")
    return [check_text(text, f"prompt {i}") for i, text in enumerate(prompts, 1)]


def _record(args: argparse.Namespace, model) -> dict:
    """What the JSON file says besides the pictures; settings as they took effect."""
    from cogjax import __version__

    settings = asdict(model.model.sampler) | _given(args)
    settings |= {"image_prompt": args.image_prompt, "rows": args.rows}
    settings["decode"] = model.decoding(args.decode)
    return {
        "cogjax": __version__,
        "model": {"name": args.model, "weights": args.weights, "card": model.card},
        "seed": settings.pop("seed"),
        "settings": settings,
    }


def _write(out: Path, prompts: list[str], result, record: dict) -> None:
    """Writes the pictures, the grid, and last the record that names them."""
    import numpy as np

    from cogjax.data.contact_sheet import grid
    from cogjax.data.images import encode_png

    num_images = record["settings"]["num_images"]
    images = []
    for prompt, index in np.ndindex(*result.pixels.shape[:2]):
        picture = encode_png(result.pixels[prompt, index])
        path = write_numbered(out, slug(prompts[prompt]), ".png", picture, first=1)
        score = None if result.scores is None else float(result.scores[prompt, index])
        images.append(
            {
                "file": path.name,
                "prompt": prompts[prompt],
                "index": index,
                "score": score,
                "codes": result.codes[prompt, index].tolist(),
            }
        )
    flat = result.pixels.reshape(-1, *result.pixels.shape[2:])
    picture = encode_png(np.asarray(grid(flat, num_images)))
    grid_path = write_numbered(out, "grid", ".png", picture)
    record |= {"prompts": prompts, "grid": grid_path.name, "images": images}
    text = json.dumps(record, ensure_ascii=False) + "\n"
    record_path = write_numbered(out, "generation", ".json", text)
    print(f"{len(images)} pictures, {grid_path.name} and {record_path.name} in {out}")


def slug(prompt: str) -> str:
    """Returns a file name of the prompt's letters, marks and digits in any script.

    Everything else becomes one "-"; at most 120 bytes of UTF-8; never empty.
    """
    text = unicodedata.normalize("NFKC", prompt).lower()
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in text)
    name = "-".join(kept.split()).encode()[:_MAX_SLUG_BYTES]
    return name.decode("utf-8", "ignore").strip("-") or "image"


def write_numbered(
    folder: Path, stem: str, suffix: str, data: bytes | str, first: int = 0
) -> Path:
    """Writes to the first of stem, stem-2, ... (first=1: stem-1, ...) not taken.

    Processes that write into one folder at once never take the same.
    """
    path = folder / (f"{stem}-{first}{suffix}" if first else f"{stem}{suffix}")
    index = max(first, 1)
    while not write_new(path, data):
        index += 1
        path = folder / f"{stem}-{index}{suffix}"
    return path
