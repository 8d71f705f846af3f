"""Every `--help` has examples, which are commands that can be typed."""

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from cogjax import cli, config
from cogjax.commands.examples import EXAMPLES


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


PARSERS = {each.prog: each for each in parsers(cli._build_parser())}


def words(example: str) -> list[str]:
    program, *found = shlex.split(example.replace("\\\n", " "))
    assert program == "cogjax"
    return found


@pytest.mark.parametrize("name", list(PARSERS))
def test_every_help_ends_with_examples(name):
    *_, text = PARSERS[name].format_help().partition("\nexamples:\n")
    lines = re.sub(r"\\\n *", "", text).splitlines()
    assert 2 <= len(lines) <= 4 and all(line.startswith("  cogjax") for line in lines)
    assert all(len(line) <= 88 for line in text.splitlines())


def test_no_example_is_of_a_command_that_is_gone():
    assert {f"cogjax {name}".strip() for name in EXAMPLES} == set(PARSERS)


CASES = [(name, each) for name, found in EXAMPLES.items() for each in found]


@pytest.mark.parametrize(("name", "example"), CASES, ids=[each for _, each in CASES])
def test_an_example_parses(name, example):
    args = cli._parse(words(example))
    if spec := getattr(args, "config", None):
        assert config.load(spec, args.overrides)["task"]["name"]


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != ""])
def test_examples_are_of_their_command(name):
    own = [
        each
        for each in EXAMPLES[name]
        if words(each)[: len(name.split())] == name.split()
    ]
    assert len(own) >= 2
