"""`cogjax report`: the page of a training run."""

import argparse
from pathlib import Path

from cogjax.commands.arguments import add_command


def add_parser(commands) -> None:
    """Adds `report`."""
    summary = (
        "Make RUN/report.html anew: curves, images, codebook and time of a training "
        "run, on one page without outside requests."
    )
    epilog = "`cogjax train` writes it by itself while it runs."
    parser = add_command(commands, "report", _report, summary, epilog=epilog)
    text = "--workdir of `cogjax train`, of a run that has ended or goes on"
    parser.add_argument("run", metavar="RUN", help=text)
    text = (
        "also count and draw the codes of a tokenizer's last checkpoint; needs the "
        "data of the run (a run does this with its images)"
    )
    parser.add_argument("--codebook", action="store_true", help=text)


def _report(args: argparse.Namespace) -> None:
    from cogjax.evaluate.report.run_files import read_run
    from cogjax.evaluate.report.training import write_training_report

    workdir = Path(args.run)
    read_run(workdir)
    if args.codebook:
        from cogjax.stages.run import write_codebook

        write_codebook(workdir)
    print(f"wrote {write_training_report(workdir)}")
