"""What long commands say: at once what is done and where to, then how long."""

import time

import pytest

from cogjax.commands.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_first_line_comes_at_once_and_the_rest_in_turn(clock, capsys):
    with Progress("data/codes") as progress:
        progress(0, 100, "encoding")
        assert capsys.readouterr().err == "encoding: 0 of 100, into data/codes\n"
        clock[0] += 4
        progress(1, 100, "encoding")
        assert capsys.readouterr().err == ""
        clock[0] += 6
        progress(2, 100, "encoding")
        assert capsys.readouterr().err == "encoding: 2 of 100, 8 min left\n"
        progress(100, 100, "encoding")
        assert capsys.readouterr().err == "encoding: 100 of 100\n"


def test_the_time_left_is_of_what_is_done_now(clock, capsys):
    """Not of the work before, nor of what was there already."""
    with Progress() as progress:
        progress(0, 10, "reading")
        clock[0] += 1000
        progress(10, 10, "reading")
        progress(50, 100, "encoding")
        clock[0] += 60
        progress(60, 100, "encoding")
        clock[0] += 1
        progress(99, 100, "encoding")
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "reading: 0 of 10"
    assert last == "encoding: 60 of 100, 4 min left"
