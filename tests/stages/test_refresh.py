"""How often the report of a run is written, and that it never ends one."""

import json

import pytest

from cogjax.stages import refresh
from cogjax.stages.refresh import Refresh
from cogjax.train.loop import TrainConfig


@pytest.fixture
def clock(monkeypatch):
    """A clock that writing moves on by two seconds; how often that was, and when."""
    now, written = [100.0], []

    def write(workdir):
        written.append(now[0])
        now[0] += 2.0

    monkeypatch.setattr(refresh.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(refresh, "write_training_report", write)
    return now, written


def test_writing_takes_two_hundredths_of_the_time(clock, tmp_path):
    now, written = clock
    config = TrainConfig(eval_every=10, sample_every=20)
    (every, hook), (other, same) = Refresh(tmp_path).hooks(config)
    assert (every, other) == (10, 20)
    hook(20, None, None)
    same(20, None, None)  # The step is the same: nothing is new.
    for now[0] in (150.0, 201.9, 202.1, 250.0):
        hook(30, None, None)
    assert written == [100.0, 202.1]


def test_the_last_one_is_always_written(clock, tmp_path):
    _, written = clock
    report = Refresh(tmp_path)
    report.write()
    report.write()
    assert len(written) == 2


def test_what_hinders_it_is_said_once(tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"task": {"name": "lm"}}))
    (tmp_path / "report.html").write_text("mine")
    report = Refresh(tmp_path)
    report.write()
    report.write()
    said = capsys.readouterr().out
    assert said.count("report.html is no report of cogjax") == 1
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_fault_of_ours_ends_no_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(refresh, "write_training_report", lambda workdir: 1 / 0)
    Refresh(tmp_path).write()
    assert "ZeroDivisionError division by zero" in capsys.readouterr().out
