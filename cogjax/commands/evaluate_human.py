"""`cogjax evaluate human`: a page for raters, and what their answers say."""

import argparse
import json
import sys
from pathlib import Path

from cogjax.commands import arguments
from cogjax.commands.arguments import SEED, add_command, number, whole
from cogjax.commands.progress import Progress
from cogjax.errors import UserError
from cogjax.files import check_folder, write_file

_FORM = (
    "scores: clarity, texture and relevance of all models, and the best (CogView); "
    "votes: two models, realism and match (DALL-E); categories: two models, alignment "
    "and fidelity by category (DrawBench)"
)
_MODELS = "shipped names, model folders, or folders that `cogjax generate` made"
_ANALYSE = "the folder of a page, and what raters sent back: files or their folder"
_OUT = "folder of the page; with --analyse, for report.json and report.html"
_PROMPTS = "UTF-8, a line `prompt`, or `category`, a tab, `prompt`; default: our list"
_IMAGES = "of each prompt and model, shown as a set (1, of categories 8)"
_CHECKS = "screens with a known answer (one in ten prompts, at least 5; 0 is off)"
_RATER = "prompts that one rater is shown, by the number that you give them (0, all)"
_KEEP = "drop raters with a smaller share of the checks right (0.8)"
_MAKES = ("prompts_file", "n", "num_images", "checks", "per_rater", "language", "seed")
_MAKES += ("batch_size", "weights")


def add_parser(commands) -> None:
    """Adds `evaluate human`, which `cli` takes as one word."""
    summary = "Ask people: a page of images to judge blind, and what the answers say."
    parser = add_command(commands, "evaluate human", _human, summary)
    add = parser.add_argument
    add("--form", choices=("scores", "votes", "categories"), help=_FORM)
    add("--models", nargs="+", default=[], metavar="MODEL", help=_MODELS)
    add("--analyse", nargs="+", default=[], metavar="PATH", help=_ANALYSE)
    add("--out", metavar="DIR", help=_OUT)
    add = parser.add_argument_group("the page").add_argument
    add("--prompts-file", metavar="FILE", help=_PROMPTS)
    add("--language", choices=("en", "zh"), help="of the prompts (en)")
    add("--n", type=whole(1, 10_000), help="so many prompts, by --seed (all)")
    add("--num-images", type=whole(1, 64), metavar="N", help=_IMAGES)
    add("--checks", type=whole(0, 10_000), metavar="N", help=_CHECKS)
    add("--per-rater", type=whole(0, 10_000), metavar="N", help=_RATER)
    add("--seed", type=SEED, metavar="N", help="of all images (0)")
    text = "most images in one call of a network (16)"
    add("--batch-size", type=whole(1, 65536), metavar="N", help=text)
    formats = ("float32", "bfloat16", "int8")
    add("--weights", choices=formats, help="how they are kept in memory (float32)")
    add = parser.add_argument_group("the answers").add_argument
    add("--keep", type=number(0, 1), metavar="SHARE", help=_KEEP)
    text = "replace the files of an earlier report"
    add("--overwrite", action="store_true", help=text)


def _human(args: argparse.Namespace) -> None:
    if bool(args.analyse) == bool(args.models):
        raise UserError(
            "give --form FORM --models A B ... --out PAGE for a page, or --analyse "
            "PAGE ANSWERS... for what raters sent back"
        )
    if args.analyse:
        _analyse(args)
    else:
        _make(args)


def _make(args: argparse.Namespace) -> None:
    if not args.form or not args.out:
        raise UserError("a page needs --form FORM, --models A B ... and --out PAGE")
    if args.keep is not None:
        raise UserError("--keep is for --analyse: leave it out")
    if len(args.models) < 2:
        raise UserError("--models expects two or more, which are compared")
    check_folder(args.out)
    from cogjax.evaluate.human.make import Design, make

    names = ("num_images", "checks", "language", "per_rater", "seed")
    given = {name: getattr(args, name) for name in names}
    chosen = {name: value for name, value in given.items() if value is not None}
    design = Design(args.form, **chosen)
    contenders = _contenders(args)
    prompts = _prompts(args, design, contenders)
    with Progress(args.out) as progress:
        study = make(args.out, contenders, prompts, design, progress)
    out, each = Path(args.out), len(study.items)
    print(
        f"{out / 'page.html'}: {each} screens of {len(prompts)} prompts; give this "
        "file to raters, each with a number of their own"
    )
    print(f"{out / 'key.json'}: who drew what; raters must not get it")
    print(f"then: cogjax evaluate human --analyse {out} ANSWERS...")


def _contenders(args: argparse.Namespace) -> dict:
    """Models and folders by their last names."""
    import cogjax
    from cogjax import model_folder
    from cogjax.evaluate.human.candidates import open_images
    from cogjax.evaluate.human.make import Drawing
    from cogjax.evaluate.suites.cache import model_digest
    from cogjax.pipelines.contracts import Generator, expect

    found: dict = {}
    weights = args.weights or "float32"
    for name in args.models:
        short = Path(name).name or name
        if short in found:
            raise UserError(f"two models are called {short!r}: rename a folder")
        if Path(name).is_dir() and not model_folder.is_model(model_folder.find(name)):
            found[short] = open_images(Path(name))
            continue
        print(f"loading {name}", file=sys.stderr, flush=True)
        model = expect(cogjax.load(name, weights=weights), Generator)
        model.batch_size = args.batch_size or 16
        digest = model_digest(model_folder.find(name))
        found[short] = Drawing(model, f"{digest}-{weights}")
    return found


def _prompts(args: argparse.Namespace, design, contenders: dict) -> list:
    """Prompts of the file, or those that all folders have, or those of our list."""
    from cogjax.evaluate.human.candidates import Folder
    from cogjax.evaluate.human.prompts import chosen, own_prompts, parse_prompts
    from cogjax.evaluate.human.study import Prompt

    folders = [each for each in contenders.values() if isinstance(each, Folder)]
    if args.prompts_file:
        lines = arguments.read_lines(args.prompts_file, "prompts file")
        found = parse_prompts(lines, args.prompts_file)
    elif folders:
        first, *rest = (each.images for each in folders)
        found = [Prompt(text) for text in first if all(text in own for own in rest)]
        if not found:
            paths = ", ".join(str(each.path) for each in folders)
            raise UserError(
                f"{paths} have no prompt in common: generate the same prompts"
            )
    else:
        found = own_prompts(design.language)
    return chosen(found, args.n, design.seed)


def _analyse(args: argparse.Namespace) -> None:
    given = [name for name in ("form", *_MAKES) if getattr(args, name) is not None]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UserError(f"{flag} is for making a page: leave it out with --analyse")
    page, *answers = map(Path, args.analyse)
    if not answers:
        raise UserError("--analyse PAGE needs the answers too: files or their folder")
    names = ("report.json", "report.html") if args.out else ()
    if args.out:
        from cogjax.files import check_file

        out = check_folder(args.out)
        for name in names:
            check_file(out / name, args.overwrite)
    from cogjax.evaluate.human.analysis import KEEP, analyse
    from cogjax.evaluate.human.answers import collect
    from cogjax.evaluate.human.study import read_key
    from cogjax.evaluate.report.human import human_page, human_text

    study = read_key(page / "key.json")
    keep = KEEP if args.keep is None else args.keep
    report = analyse(study, collect(answers, study), keep)
    if args.out:
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_file(out / names[0], text, args.overwrite)
        write_file(out / names[1], human_page(report), args.overwrite)
    print(human_text(report))
