"""`cogjax evaluate`: metrics of a model by outside judges, as JSON and as a page.

The retrieval suite is of a CLIP, the others are of models that generate.

`cogjax evaluate oracle` measures the judge of the shapes suite itself; people are asked
by `cogjax evaluate human` (`evaluate_human.py`).
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from cogjax.commands.arguments import (
    SEED,
    add_adapters,
    add_command,
    add_file,
    add_weights,
    number,
    whole,
)
from cogjax.commands.progress import Progress
from cogjax.commands.table import flattened, print_facts
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

# What each suite takes besides --n, --seed, --weights and --json, with its default.
_SHAPES = {"out": None, "num_images": 4, "best_of": 0, "batch_size": 16}
_SHAPES |= {"guidance": (), "temperature": (), "sweep_prompts": 96}
_SHAPES |= {"rerank_model": ""}
_COCO = {"data": None, "out": None, "best_of": 0, "batch_size": 16, "distractors": 9}
_COCO |= {"guidance": (), "temperature": (), "blur_mode": "both", "blur_rule": "pil"}
_COCO |= {"extractor": None, "weights_file": None}
_COCO |= {"clip": None, "clip_weights": None, "clip_merges": None}
_READING = {"data": None, "out": None, "best_of": 8, "beams": 8, "batch_size": 16}
_EMOJI = {"data": None, "out": None, "best_of": 8, "gallery": None, "sheet": None}
_ICONS = {"data": None, "out": None, "best_of": 8, "sheet": None}
_OPTIONS = {
    "shapes": {"n": 500, **_SHAPES},
    "emoji": {"n": 200, **_EMOJI, "batch_size": 16},
    "icons": {"n": 200, "batch_size": 16, **_ICONS},
    "coco": {"n": 500, **_COCO},
    "reading": {"n": 200, **_READING},
    "retrieval": {"n": 1000, "data": None, "out": None, "batch_size": 64},
    "oracle": {"n": 2000},
}
SUITES = ("shapes", "emoji", "icons", "coco", "reading", "retrieval")

_MODEL = "shipped name, model folder or training run; or oracle, the judge of shapes"
_OUT = "for report.json, report.html and a cache; shapes, coco and reading need it"
_N = "prompts (500; 200 in emoji, icons), images to read (200) or to compare (1000)"
_BEST = "candidates a prompt, of which one is chosen (shapes and coco off, else 8)"
_BATCH = "most images in one call of the network (16; 64 in retrieval)"
_VALUES = "one value, or several with commas for a sweep of the score (shapes)"


def add_parser(commands) -> None:
    """Adds `evaluate`."""
    summary = (
        "Measure a model: shapes by an exact judge, emoji, icons, COCO, reading; CLIPs."
    )
    parser = add_command(commands, "evaluate", _evaluate, summary)
    add = parser.add_argument
    add("model", metavar="MODEL", help=_MODEL)
    add("--suite", choices=SUITES, default="emoji", help="default: %(default)s")
    add("--out", metavar="DIR", help=_OUT)
    add(
        "--data",
        metavar="DIR",
        help="emoji set, icons, COCO's files, or a set to read or compare",
    )
    add("--n", type=whole(1, 100_000), help=_N)
    add("--seed", type=SEED, default=0, metavar="N", help="default: %(default)s")
    add("--best-of", type=whole(0, 1000), metavar="N", help=_BEST)
    add("--guidance", type=_numbers(0, 100), metavar="W", help=_VALUES)
    add("--temperature", type=_numbers(0, 100), metavar="T", help=_VALUES)
    add("--batch-size", type=whole(1, 65536), metavar="N", help=_BATCH)
    add_weights(parser)
    add_adapters(parser)
    add_file(parser, "--json", help="also write the metrics as JSON")
    _add_suites(parser)


def _add_suites(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("shapes").add_argument
    add("--num-images", type=whole(1, 64), metavar="N", help="images a prompt (4)")
    text = "prompts for the score against guidance and temperature (96)"
    add("--sweep-prompts", type=whole(8, 100_000), metavar="N", help=text)
    text = "a CLIP that chooses among --best-of; default: the model's caption loss"
    add("--rerank-model", metavar="CLIP", help=text)
    add = parser.add_argument_group("emoji, icons").add_argument
    text = "emoji set whose concepts compete (--data); not for icons"
    add("--gallery", metavar="DIR", help=text)
    add("--sheet", metavar="FILE", help="also write images beside the real ones, PNG")
    add = parser.add_argument_group("reading").add_argument
    add("--beams", type=whole(2, 64), metavar="N", help="of beam search (8)")
    add = parser.add_argument_group("coco").add_argument
    text = "captions set against each image's own, 0 is off (9)"
    add("--distractors", type=whole(0, 1000), metavar="N", help=text)
    text = "feature network of FID-k, KID, precision and recall, Inception Score"
    add("--extractor", metavar="NAME", help=text)
    add("--weights-file", metavar="FILE", help="its weights, if no package has them")
    text = "what FID-k blurs (both, as DALL-E; reference, as CogView's Table 1)"
    add("--blur-mode", choices=("both", "reference"), help=text)
    text = "what a radius of FID-k is (pil); see docs/metrics.md"
    add("--blur-rule", choices=("pil", "gaussian", "lafite"), help=text)
    text = "CLIP network of CMMD, CLIP scores and R-precision, as clip-vit-b-32"
    add("--clip", metavar="NAME", help=text)
    add("--clip-weights", metavar="FILE", help="its weights")
    add("--clip-merges", metavar="FILE", help="its bpe_simple_vocab_16e6.txt.gz")


def _numbers(low: float, high: float) -> Callable[[str], tuple[float, ...]]:
    """Type of numbers in [low, high] with commas between, each once."""
    parse = number(low, high)
    return lambda text: tuple(dict.fromkeys(parse(part) for part in text.split(",")))


def _evaluate(args: argparse.Namespace) -> None:
    suite = "oracle" if args.model == "oracle" else args.suite
    _take_options(args, suite)
    for path in filter(None, (args.json, args.sheet)):
        check_file(path, args.overwrite)
    if suite == "oracle":
        if args.adapters:
            raise UserError("--adapter is of a model, and the oracle has none")
        report = _oracle(args)
    else:
        report = _model(args, suite)
    if args.json:
        text = json.dumps(report, indent=2, ensure_ascii=False)
        write_file(args.json, text + "\n", args.overwrite)
    if args.out:
        print(f"{Path(args.out) / 'report.html'} and report.json")
    else:
        print_facts(dict(flattened(report)))


def _take_options(args: argparse.Namespace, suite: str) -> None:
    """Fills in the suite's defaults; UserError for an option of another suite."""
    known = _OPTIONS[suite]
    for name in dict.fromkeys(name for each in _OPTIONS.values() for name in each):
        flag = f"--{name.replace('_', '-')}"
        if getattr(args, name) is None:
            setattr(args, name, known.get(name))
        elif name not in known:
            raise UserError(f"{flag} does not go with the {suite} suite: leave it out")
    if "data" in known and args.data is None:
        raise UserError(f"the {suite} suite needs --data DIR")
    if suite in ("shapes", "coco", "reading") and not args.out:
        raise UserError(f"the {suite} suite needs --out DIR for its report")
    if suite in ("emoji", "icons") and args.best_of > 64:
        raise UserError(f"--best-of {args.best_of}: at most 64 in the {suite} suite")
    if suite in ("emoji", "icons") and args.best_of < 1:
        raise UserError(f"--best-of 0: the {suite} suite needs 1 or more")
    if suite == "coco" and max(len(args.guidance), len(args.temperature)) > 1:
        raise UserError("the coco suite takes one --guidance and one --temperature")
    if args.weights_file and not args.extractor:
        raise UserError("--weights-file FILE is for a network: add --extractor NAME")
    clip = (args.clip, args.clip_weights, args.clip_merges)
    if any(clip) and not all(clip):
        raise UserError(
            "--clip NAME, --clip-weights FILE and --clip-merges FILE go together: "
            "give all three"
        )


def _oracle(args: argparse.Namespace) -> dict:
    from cogjax.evaluate.suites.oracle import evaluate_oracle

    with Progress() as progress:
        return evaluate_oracle(args.n, args.seed, progress)


def _model(args: argparse.Namespace, suite: str) -> dict:
    """The report of a model."""
    from cogjax.evaluate.suites.cache import (
        adapters_digest,
        check_free,
        model_digest,
    )

    if args.out:
        check_free(args.out)
    # Everything that may be a mistake is read before the model.
    chosen = _SUITES[suite](args)
    import cogjax
    from cogjax import model_folder
    from cogjax.evaluate.suites.run import run
    from cogjax.pipelines.contracts import Codec, Embedder, Generator, Reader, expect

    adapters = dict(args.adapters)
    model = cogjax.load(args.model, weights=args.weights, adapters=adapters)
    kinds = {"retrieval": (Embedder,), "shapes": (Generator,)}
    kinds = kinds.get(suite, (Generator, Reader, Codec))
    for kind in kinds:
        expect(model, kind)
    model.batch_size = args.batch_size
    digest = model_digest(model_folder.find(args.model)) if args.out else None
    identity = {"model_digest": digest} if digest else {}
    identity |= {"weights": args.weights} | adapters_digest(adapters)
    about = {"model": args.model, "cogjax": cogjax.__version__}
    with Progress(args.out) as progress:
        return run(
            chosen,
            model,
            out=args.out,
            identity=identity,
            about=about | ({"adapter_folders": list(adapters)} if adapters else {}),
            progress=progress,
        )


def _shapes_suite(args: argparse.Namespace):
    from cogjax.evaluate.suites.shapes import ShapesSuite

    names = ("n", "num_images", "best_of", "seed", "guidance", "temperature")
    fields = {name: getattr(args, name) for name in names}
    own = {"sweep_prompts": args.sweep_prompts, "rerank_by": args.rerank_model}
    return ShapesSuite(**fields, **own)


def _emoji_suite(args: argparse.Namespace):
    from cogjax.evaluate.suites.emoji import EmojiSuite

    names = ("data", "n", "best_of", "seed", "gallery", "sheet")
    return EmojiSuite(**{name: getattr(args, name) for name in names})


def _icons_suite(args: argparse.Namespace):
    from cogjax.evaluate.suites.icons import IconsSuite

    names = ("data", "n", "best_of", "seed", "sheet")
    return IconsSuite(**{name: getattr(args, name) for name in names})


def _coco_suite(args: argparse.Namespace):
    from cogjax.worlds.coco import sample_captions

    file, captions = sample_captions(args.data, args.n, args.seed)
    from cogjax.evaluate.suites.coco import CocoSuite
    from cogjax.evaluate.suites.feature_metrics import read_extractor

    extractor = clip = None
    if args.extractor:
        extractor = read_extractor(args.extractor, args.weights_file)
    if args.clip:
        clip = read_extractor(args.clip, args.clip_weights, args.clip_merges)
    return CocoSuite(
        captions,
        file,
        args.seed,
        args.best_of,
        next(iter(args.guidance), None),
        next(iter(args.temperature), None),
        args.distractors,
        (args.blur_mode, args.blur_rule),
        extractor,
        clip,
        Path(args.model).name or "model",
    )


def _reading_suite(args: argparse.Namespace):
    from cogjax.evaluate.suites.reading import ReadingSuite

    names = ("data", "n", "seed", "beams", "best_of")
    return ReadingSuite(**{name: getattr(args, name) for name in names})


def _retrieval_suite(args: argparse.Namespace):
    from cogjax.evaluate.suites.retrieval import RetrievalSuite

    return RetrievalSuite(args.data, args.n, args.seed)


_SUITES = {"shapes": _shapes_suite, "emoji": _emoji_suite, "coco": _coco_suite}
_SUITES |= {"reading": _reading_suite, "retrieval": _retrieval_suite}
_SUITES["icons"] = _icons_suite
