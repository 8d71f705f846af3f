"""The race of the papers: what a stop and another start do to its figures."""

import argparse
import time

import pytest

from tests.scripts import load_script


class Stopped(Exception):
    pass


@pytest.fixture
def race():
    return load_script("race/shapes.py")


@pytest.fixture
def trained(race, monkeypatch):
    """What was trained to, where training takes 10 core-seconds an image."""
    now, asked = [0.0], []

    def train(config, workdir):
        asked.append(config["train"]["steps"])
        now[0] += 10.0 * (40 if len(asked) == 1 else 60)
        if len(asked) == 1:
            raise SystemExit(17)
        return workdir

    right = {split: {"prompts": [{"right": [True, False]}]} for split in race.SPLITS}

    def judge(*args, **settings):
        if len(asked) == 2:
            raise Stopped
        return right

    monkeypatch.setattr(time, "process_time", lambda: now[0])
    monkeypatch.setattr(race.launch, "train", train)
    monkeypatch.setattr(race.cogjax, "load", lambda folder: folder)
    monkeypatch.setattr(race, "run", judge)
    config = {"train": {"batch_size": 10}}
    monkeypatch.setattr(race, "settings", lambda *args: config)
    return asked


def test_a_part_that_was_stopped_costs_all_of_its_starts(race, trained, tmp_path):
    """In training after 40 of 100 images, then while the oracle judges."""
    args = argparse.Namespace(out=tmp_path, images=200, points=2, n=1, num_images=2)
    for stop in (SystemExit, Stopped):
        with pytest.raises(stop):
            race.train("CogView", 0, args)
    points = race.train("CogView", 0, args)
    assert trained == [10, 10, 10, 20]
    assert [each["images"] for each in points] == [100, 200]
    # The third start repeats 60 images here, where the real one has nothing to train.
    assert [each["core_seconds"] for each in points] == [16.0, 6.0]
    assert race.core_hours(points) * 3600 == pytest.approx([1600, 2200])
    assert points[0]["right"] == {"seen": [0.5], "unseen": [0.5]}
    assert race.train("CogView", 0, args) == points and len(trained) == 4


def test_a_folder_has_one_race(race, monkeypatch, tmp_path, capsys):
    """With other points a run that is there would be judged at the wrong ones."""

    def stop(*args):
        raise Stopped

    monkeypatch.setattr(race, "train", stop)
    monkeypatch.setattr(race.jax.config, "update", lambda *args: None)
    args = ["--data", "easy", "--out", str(tmp_path)]
    for more in ([], ["--seeds", "4"]):
        with pytest.raises(Stopped):
            race.main([*args, *more])
    with pytest.raises(SystemExit):
        race.main([*args, "--points", "3"])
    assert "has a race of {'data': 'easy', 'images'" in capsys.readouterr().err
