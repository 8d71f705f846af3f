"""The page of a run whose files say what no run has said."""

import json

import pytest

from cogjax.errors import UserError
from cogjax.evaluate.report.training import write_training_report

CONFIG = {"task": {"name": "lm"}, "train": {"steps": 10}}


@pytest.fixture
def run(tmp_path):
    """Makes a run of a config and of the lines of its metrics."""

    def make(*lines, config=CONFIG):
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return tmp_path

    return make


def page(workdir):
    return write_training_report(workdir).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "odd",
    [
        '"step": 2, "time": NaN',
        '"step": 2, "time": 1e300',
        '"step": 2, "time": -1',
        '"step": -2, "time": 2',
        f'"step": 1{"0" * 400}, "time": 2',
        f'"step": 2, "time": 2, "loss": 1{"0" * 400}',
    ],
)
def test_lines_that_no_run_writes_are_broken(run, odd):
    good = '{"step": 1, "time": 1, "loss": 1.0}'
    text = page(run(good, f"{{{odd}}}"))
    assert "1 lines of metrics.jsonl are broken" in text
    assert "1 of 10" in text


@pytest.mark.parametrize(
    "values",
    [
        (1e308, -1e308),
        (5e-324, 0.0),
        (5e-324, 1e300),
        (1e-310, 1e-323),
        (1.0, 1.0000000000000002),
    ],
)
def test_values_of_any_size_are_drawn_or_counted(run, values):
    lines = [
        f'{{"step": {i}, "time": {i}, "x": {x}, "examples_per_second": {x}, '
        f'"seconds/step": {x}, "spike": {x}}}'
        for i, x in enumerate(values)
    ]
    text = page(run(*lines))
    drawn = "".join(text.split("<svg")[1:])
    assert ("<path" in drawn) == (values[0] != 1e308)
    assert "nan" not in drawn.split("</svg>")[0] and "inf" not in text.split("Time")[1]
    assert ("2, from step 0" in text) == (values[0] == 1e308)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "'train' is None, expected keys"),
        ({"steps": "x"}, "'train.steps' is 'x', expected 1 to"),
        ({"steps": 10**400}, "'train.steps' is 10"),
        ({"steps": 1, "batch_size": 0}, "'train.batch_size' is 0, expected 1 to"),
    ],
)
def test_a_length_that_is_no_number_is_named(run, train, message):
    with pytest.raises(UserError, match=message):
        page(run(config=CONFIG | {"train": train}))


@pytest.mark.parametrize("sample", [None, 3, {"prompts": 3}, {"prompts": ["\ud800"]}])
def test_texts_of_samples_may_be_anything(run, sample):
    workdir = run(config=CONFIG | {"sample": sample})
    (workdir / "samples").mkdir()
    (workdir / "samples" / "0000001-generated.png").write_bytes(b"half")
    assert "Images: generated" in page(workdir)


def test_a_session_of_no_time_is_left_out(run):
    workdir = run()
    good = {"step": 1, "time": 5, "config": {}, "machine": {}}
    lines = [good, good | {"time": 1e300}, good | {"time": float("nan")}]
    text = "\n".join(map(json.dumps, lines))
    (workdir / "sessions.jsonl").write_text(text)
    assert "1 in all; the last on" in page(workdir)


def test_a_folder_in_the_place_of_a_file(run):
    workdir = run()
    (workdir / "report.html").mkdir()
    with pytest.raises(UserError, match=r"report.html is no report of cogjax"):
        page(workdir)
    (workdir / "metrics.jsonl").unlink()
    (workdir / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*metrics.jsonl: Is a dir"):
        page(workdir)
