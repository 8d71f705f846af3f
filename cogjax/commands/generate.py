"""`cogjax generate`: images, a grid and one JSON record from prompts."""

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cogjax.commands import arguments
from cogjax.commands.arguments import SEED, add_command, number, whole
from cogjax.commands.interrupts import Interrupts
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_folder
from cogjax.pipelines import checks

_SETTINGS = (
    "num_images",
    "seed",
    "rerank",
    "temperature",
    "top_k",
    "top_p",
    "guidance",
    "speculate",
    "steps",
    "choice_temperature",
    "method",
    "gamma",
    "percentile",
    "augmentation",
    "decode",
    "negative",
    "aspect",
)
# How an image is drawn anew, but for --rows and --keep, which need the model.
_EDITING = ("extend", "vary", "strength", "fillings")
_SPECULATE = "draft N codes a step (16 is good): fewer steps, same distribution"
_STEPS = "of a masked model, whose surer codes stay (8), or of a cascade; A,B: a stage"
_GUIDANCE = "above 1 heeds text; A,B: one a stage of a cascade, base first"
_METHOD = "of a cascade: how noise becomes an image"
_AUGMENTATION = "of a cascade: noise on the images that a stage enlarges"
_PERCENTILE = (
    "of a cascade: dynamic threshold, 99.5 in the paper, 0 clips; A,B: a stage"
)
_CHOICE = "of a masked model: 0 keeps the surest codes first, above that chance (4.5)"
_DECODE = "images from codes, or from hidden states if the model was trained to"
_RERANK = "generate N, keep the --num-images that fit the prompt best"
_RERANK_BY = "judge of --rerank: the model's own loss (default) or a CLIP"
_KEEP = "instead of --rows: an image whose white parts are kept"
_MASK = "draw the white parts of MASK anew, an image of the same size"
_EXTEND = "draw so many pixels more at sides of the image: left=16,top=8"
_VARY = "of models of codes: sample this share of the image's codes anew"
_PASTE = "of --mask and --extend: show the model's own pixels outside too"
_FILLINGS = "code by code: choose among N fillings of a hole (8, --rows and --keep 1)"
_NEGATIVE = "what guidance leads away from, instead of from no prompt"
_STYLE = "of a model of pairs: make the image the same in this style; may be repeated"
_ENLARGE = "draw images anew at twice their size by this model; may be repeated"
_ASPECT = "width:height, such as 3:2, of a model trained on several shapes"
_STRENGTH = "of a cascade: start from the image with noise, 1 is nearly noise alone"


def add_parser(commands) -> None:
    """Adds `generate`."""
    summary = "Generate images from prompts in Chinese or English."
    parser = add_command(commands, "generate", _generate, summary)
    parser.set_defaults(words="prompts")
    add = parser.add_argument
    add("prompts", nargs="*", metavar="PROMPT", help="what an image shows")
    add("--prompts-file", metavar="FILE", help="more prompts, UTF-8, one a line")
    add("--out", required=True, metavar="DIR", help="folder for the images")
    add("--model", default="emoji", help="shipped name or folder (%(default)s)")
    arguments.add_weights(parser)
    arguments.add_adapters(parser)
    images, text = whole(1, checks.MAX_IMAGES), "of each prompt (%(default)s)"
    add("--num-images", type=images, default=checks.NUM_IMAGES, metavar="N", help=text)
    add("--seed", type=SEED, default=0, metavar="N", help="same seed, same images")
    add("--enlarge", action="append", default=[], metavar="MODEL", help=_ENLARGE)
    add("--aspect", metavar="W:H", help=_ASPECT)
    _add_sampling(parser)
    group = parser.add_argument_group("starting from an image")
    add = group.add_argument
    add("--image-prompt", "--image", metavar="IMAGE", help="image to start from")
    add("--as", dest="style", action="append", metavar="STYLE", help=_STYLE)
    add(
        "--rows", type=whole(1), metavar="N", help="rows of codes to keep, from the top"
    )
    add("--keep", metavar="MASK", help=_KEEP)
    add("--mask", metavar="MASK", help=_MASK)
    add("--extend", type=_sides, metavar="SIDES", help=_EXTEND)
    add("--vary", type=number(0, 1, open_low=True), metavar="SHARE", help=_VARY)
    add("--no-paste", action="store_true", help=_PASTE)
    fillings = whole(1, checks.MAX_FILLINGS)
    add("--fillings", type=fillings, metavar="N", help=_FILLINGS)
    strength = number(checks.MIN_STRENGTH, 1)
    add("--strength", type=strength, metavar="T", help=_STRENGTH)


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    sampling = parser.add_argument_group("sampling (defaults: the model's own)")
    add = sampling.add_argument
    temperature, guidance = checks.MAX_TEMPERATURE, checks.MAX_GUIDANCE
    top_k, top_p = whole(0), number(0, 1, open_low=True)
    add("--temperature", type=number(0, temperature), metavar="T", help="0: likeliest")
    add("--top-k", type=top_k, metavar="K", help="0 keeps all codes")
    add("--top-p", type=top_p, metavar="P", help="1 keeps all")
    own = arguments.per_stage(number(0, guidance))
    add("--guidance", type=own, metavar="W", help=_GUIDANCE)
    add("--negative", metavar="TEXT", help=_NEGATIVE)
    add("--speculate", type=whole(0), default=0, metavar="N", help=_SPECULATE)
    steps = arguments.per_stage(whole(1, checks.MAX_STEPS))
    add("--steps", type=steps, metavar="N", help=_STEPS)
    choice = number(0, temperature)
    add("--choice-temperature", type=choice, metavar="T", help=_CHOICE)
    add("--method", choices=checks.METHODS, help=_METHOD)
    share = number(0, 1)
    add("--gamma", type=share, metavar="G", help="of method ddpm: 1 adds most noise")
    percentile = arguments.per_stage(number(0, 100))
    add("--percentile", type=percentile, metavar="P", help=_PERCENTILE)
    add("--augmentation", type=share, metavar="T", help=_AUGMENTATION)
    add("--decode", choices=("codes", "hidden"), help=_DECODE)
    rerank = whole(0, checks.MAX_IMAGES)
    add("--rerank", type=rerank, default=0, metavar="N", help=_RERANK)
    arguments.add_judge(add, "--rerank-by", _RERANK_BY)


def _generate(args: argparse.Namespace) -> None:
    _check(args)
    # Read before JAX is imported, so that a bad file is named at once.
    image, kept = (
        path and arguments.read_image(path) for path in (args.image_prompt, args.keep)
    )
    request = _request(args, image)
    out = check_folder(args.out)
    settings = {"weights": args.weights, "adapters": dict(args.adapters)}
    model = arguments.load_as("Generator", args.model, **settings)
    enlargers = _enlargers(args, model)
    judge = {}
    if args.clip:
        judge["rerank_by"] = arguments.load_as("Embedder", args.clip).score
    if args.rows or args.keep:
        from cogjax.data.images import as_image, upright_size

        size = upright_size(as_image(image))[::-1]
        keep = _keep(args.rows, kept, model.shape_for(args.aspect, size))
        given = {"image": image, "keep": keep, "strength": args.strength}
        given["fillings"] = args.fillings
        request = dataclasses.replace(request, **given)
    from cogjax.pipelines.saving import Saving

    record = _record(args, request, model)
    made = Saving(out, request.prompts, request.num_images, record)
    with Interrupts() as interrupts:
        try:
            with Progress(out) as progress:
                for part in _parts(model, enlargers, request, progress, judge):
                    with interrupts.held():
                        made.add(*part)
        except BaseException:
            # What is done stays, with its record: an interrupt may come after hours.
            if made.count:
                with interrupts.held():
                    print(_in_words(made.close(), out), file=sys.stderr)
            raise
        arguments.say_unseen(made.unseen)
        print(_in_words(made.close(), out))


def _parts(model, enlargers: list, request, progress, judge: dict) -> Iterator:
    """The images as they are made: `Part`s, of a model that makes all at once one."""
    from cogjax.pipelines.contracts import Part, PartByPart

    if isinstance(model, PartByPart):
        parts = model.generate_parts(request, progress=progress, **judge)
    else:
        result = model.generate(request, progress=progress, **judge)
        every = range(len(request.prompts)), range(request.num_images)
        parts = [Part(*every, result)]
    for part in parts:
        result, drawn_by = part.result, model
        for enlarger in enlargers:
            own = {"seed": request.seed, "first": request.first + part.images[0]}
            own["progress"] = progress
            result = enlarger.enlarge_generated(result, drawn_by, **own)
            drawn_by = enlarger
        yield part._replace(result=result)


def _enlargers(args: argparse.Namespace, model) -> list:
    """The models of --enlarge; UserError for one that does not go on from the last."""
    if not args.enlarge:
        return []
    rows, columns = model.shape_for(args.aspect)
    if rows != columns:
        raise UserError(
            f"--enlarge draws squares, and these images have {rows} x {columns} codes: "
            "leave --aspect out, or choose a model of squares"
        )
    if args.adapters:
        # An adapter is of one model's weights, and these are others.
        print(
            f"--adapter changes {args.model} alone; to enlarge with one too, give "
            "--enlarge what cogjax export MODEL --adapter DIR --out MERGED has written",
            file=sys.stderr,
        )
    found, size = [], getattr(model, "image_size", 0)
    for name in args.enlarge:
        found.append(arguments.load_as("Enlarging", name, weights=args.weights))
        found[-1].check_size(size)
        size *= 2
    return found


def _check(args: argparse.Namespace) -> None:
    """UserError for flags that do not go together."""
    holes = (args.rows, args.keep, args.mask, args.extend, args.vary)
    holes = sum(given is not None for given in holes)
    ways = bool(holes) + (args.strength is not None), bool(args.style)
    if bool(args.image_prompt) != any(ways) or holes > 1:
        raise UserError(
            "--image-prompt IMAGE and --rows N go together, or --keep MASK, or "
            "--mask MASK, --extend SIDES, --vary SHARE, --as STYLE, or --strength T: "
            "give both"
        )
    if args.enlarge and (args.mask or args.extend):
        raise UserError(
            "--enlarge draws the whole image anew from its codes, and --mask and "
            "--extend keep pixels: leave one out"
        )
    if args.no_paste and not (args.mask or args.extend):
        raise UserError("--no-paste goes with --mask MASK or --extend SIDES: give both")
    if args.fillings and not holes:
        raise UserError("--fillings N is of a hole: add --image IMAGE --mask MASK")
    if all(ways):
        raise UserError("--as makes the whole image anew: leave out what is kept of it")
    arguments.check_judge("--rerank-by", args.rerank_by, args.clip)
    if args.rerank_by and not args.rerank:
        raise UserError("--rerank-by chooses among candidates: add --rerank N, say 8")


def _request(args: argparse.Namespace, image):
    """The checked request; an image to continue is not yet in it."""
    from cogjax.pipelines.request import Request

    prompts = tuple(args.prompts)
    if args.prompts_file:
        prompts += tuple(arguments.read_lines(args.prompts_file, "prompts file"))
    settings = {name: getattr(args, name) for name in _SETTINGS}
    if args.style:
        return Request(prompts, image=image, style=tuple(args.style), **settings)
    if not prompts:
        raise UserError('there is no prompt: cogjax generate "a red apple" --out DIR')
    if not (args.rows or args.keep):
        settings |= {"image": image, "paste": not args.no_paste}
        settings |= {name: getattr(args, name) for name in _EDITING}
        settings["mask"] = None if args.mask is None else _read_mask(args.mask)
    return Request(prompts, **settings)


def _read_mask(path: str):
    """As `arguments.read_image`; UserError too for one with transparency."""
    from cogjax.data.images import ALPHA
    from cogjax.pipelines.editing import TRANSPARENT

    notes = Counter()
    mask = arguments.read_image(path, notes)
    if notes[ALPHA]:
        raise UserError(f"image {path}: {TRANSPARENT}")
    return mask


def _sides(text: str) -> dict[str, int]:
    """Type of pixels by side, such as left=16,top=8; a `Request` knows the sides."""
    found = {}
    for part in text.split(","):
        side, _, pixels = part.strip().partition("=")
        if side in found:
            raise argparse.ArgumentTypeError(f"has {side} twice, in '{text}'")
        try:
            found[side] = int(pixels)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"expects pixels by side such as left=16,top=8, got '{text}'"
            ) from None
    return found


def _keep(rows: int | None, mask, shape: tuple[int, int]):
    """Codes to keep, bool of a shape: of some rows, or else where a mask is white."""
    import numpy as np

    from cogjax.data.images import as_image, fitted

    if mask is not None:
        return fitted(as_image(mask), shape).mean(-1) > 127
    if rows > shape[0]:
        raise UserError(f"rows is {rows}, expected 1 to {shape[0]}")
    return np.broadcast_to(np.arange(shape[0])[:, None] < rows, shape)


def _record(args: argparse.Namespace, request, model) -> dict:
    """The fields of the JSON file besides the images; settings as they took effect."""
    from cogjax import __version__
    from cogjax.pipelines.recipe import recipe

    settings = {"image_prompt": args.image_prompt, "rows": args.rows}
    for name in ("keep", "mask", "strength", "style"):
        settings |= {name: getattr(args, name)} if getattr(args, name) else {}
    settings |= {"enlarge": args.enlarge} if args.enlarge else {}
    if request.rerank:
        settings |= {"rerank_by": _judge(args, model), "clip": args.clip}
    loaded = {"name": args.model, "weights": args.weights}
    if args.adapters:
        loaded["adapters"] = dict(args.adapters)
    record = recipe(__version__, loaded, model, request)
    record["settings"] |= settings
    return record


def _judge(args: argparse.Namespace, model) -> str:
    """What chose: a CLIP, or the model's own loss of captions, or of images."""
    from cogjax.pipelines.contracts import Reader

    if args.clip:
        return "clip"
    return "captions" if isinstance(model, Reader) else "images"


def _in_words(saved, out: Path) -> str:
    count = len(saved.images)
    count = f"{count} of {saved.asked}" if count < saved.asked else count
    grids = ", ".join(saved.grids)
    return f"{count} images, {grids} and {saved.record} in {out}"
