"""Prints the table of faults after a run of the harness."""

from tests.faults.launcher import TABLE


def pytest_terminal_summary(terminalreporter):
    if TABLE.lines:
        terminalreporter.section("faults")
        terminalreporter.line(f"{'row':4} {'fault':52} tried survived   lost steps")
        for line in TABLE.lines:
            terminalreporter.line(line)
