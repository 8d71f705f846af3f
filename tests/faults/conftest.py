"""Undisturbed runs to compare with; prints the table of faults in the end."""

import pytest

from tests.faults.launcher import TABLE, finish


def pytest_terminal_summary(terminalreporter):
    if TABLE.lines:
        terminalreporter.section("faults")
        terminalreporter.line(f"{'row':4} {'fault':52} tried survived   lost steps")
        for line in TABLE.lines:
            terminalreporter.line(line)


@pytest.fixture(scope="module")
def whole(request, tmp_path_factory):
    """Digest of the module's RUN that nothing befell."""
    return finish(tmp_path_factory.mktemp("whole") / "run", request.module.RUN)[0]


@pytest.fixture(scope="module")
def whole_pair(request, tmp_path_factory):
    """Digest of the module's PAIR of processes that nothing befell."""
    return finish(tmp_path_factory.mktemp("pair") / "run", request.module.PAIR, 2)[0]
