"""The page of a training run, made of files as runs and accidents leave them."""

import json
import math
import time

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.report import training
from cogjax.evaluate.report.curves import MOST, Curve, chart
from cogjax.evaluate.report.training import write_training_report
from cogjax.train.metrics import save_png
from tests.evaluate.report.test_html import Reader

CONFIG = {"task": {"name": "lm"}, "train": {"steps": 100, "batch_size": 4}}


def row(step, **values):
    return json.dumps({"step": step, "time": 1e9 + step, **values})


@pytest.fixture
def run(tmp_path):
    """Makes a run of a config and of lines in its files."""

    def make(lines=(), sessions=(), config=CONFIG):
        (tmp_path / "config.json").write_text(json.dumps(config))
        if lines:
            (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        if sessions:
            text = "\n".join(map(json.dumps, sessions))
            (tmp_path / "sessions.jsonl").write_text(text)
        return tmp_path

    return make


def read(workdir):
    text = write_training_report(workdir).read_text(encoding="utf-8")
    assert "http:" not in text and "https:" not in text and "url(" not in text
    page = Reader(text)
    (policy,) = [a["content"] for _, a in page.seen if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert page.count("script") == 0
    return page


def charts(page):
    return [a["aria-label"] for tag, a in page.seen if tag == "svg"]


def test_a_run_that_has_just_begun(run):
    page = read(run())
    assert "no metric has changed yet" in page.texts
    assert "0 of 100" in page.texts


def test_curves_of_training_and_held_out_share_a_chart(run):
    lines = [
        row(s, loss=1 / s, lr=s, constant=3, examples_per_second=8) for s in (1, 2)
    ]
    lines += [
        row(2, **{"eval/loss": 0.7, "eval/psnr": 1}),
        row(4, **{"eval/loss": 0.6}),
    ]
    page = read(run(lines))
    assert charts(page) == ["loss by step", "lr by step"]
    assert page.texts.count("held out") == 1
    # 96 steps are left, two a second.
    assert {"4 of 100", "2 steps/s, 8 examples/s", "48 s"} <= set(page.texts)
    assert {"held-out loss", "0.7", "0.6"} <= set(page.texts)


def test_broken_lines_are_counted_and_left_out(run):
    broken = [
        "{",
        "[]",
        "7",
        '{"loss": 1}',
        '{"step": 3, "time": 1, "loss": "x"}',
        "\0",
    ]
    broken += ["[" * 100_000]
    lines = [row(1, loss=2.0), *broken, row(2, loss=1.0), '{"step": 9, "ti']
    page = read(run(lines))
    assert "8 lines of metrics.jsonl are broken and left out" in page.texts
    assert "2 of 100" in page.texts


def test_numbers_that_are_not_finite_are_named(run):
    lines = [row(1, loss=2.0), row(3, loss=math.nan), row(5, loss=math.inf)]
    page = read(run([*lines, row(7, loss=1.0)]))
    assert "2, from step 3" in page.texts
    assert charts(page) == ["loss by step"]


def test_time_adds_up_over_sessions(run):
    lines = [row(s, **{"seconds/step": 30.0, "seconds/eval": 10.0}) for s in (1, 2)]
    page = read(run(lines))
    assert {"60 s", "75.0%", "20 s", "25.0%", "80 s in all"} <= set(page.texts)


def test_what_changed_on_resume_is_said(run):
    machine = {"devices": "1 x cpu", "jax": "0.10"}
    first = {"step": 0, "time": 5, "config": {"optim.lr": "0.1"}, "machine": machine}
    other = {"optim.lr": "0.2", "seed": "1"}
    second = first | {"step": 40, "config": other, "machine": machine | {"jax": "0.11"}}
    third = second | {"step": 60}
    page = read(run(sessions=[first, {"step": 1}, second, third]))
    said = "jax: 0.10 → 0.11; optim.lr: 0.1 → 0.2; seed: not set → 1"
    at = page.texts.index("the first")
    assert [t for t in page.texts[at:] if t in ("nothing", said)] == [said, "nothing"]
    assert {"step 0", "step 40", "step 60"} <= set(page.texts)


def test_many_sessions_show_the_last(run):
    session = {"step": 0, "time": 5, "config": {}, "machine": {}}
    page = read(run(sessions=[session | {"step": i} for i in range(90)]))
    steps = [t for t in page.texts if t.startswith("step ")]
    assert steps == [f"step {i}" for i in range(70, 90)]


def test_events_are_listed(run):
    lines = [row(5, spike=4.0, loss_at_spike=9.0), row(3, rolled_back_from=5.0)]
    page = read(run(lines))
    assert "the loss was 4 times the running median" in page.texts
    assert "gone back here from step 5" in page.texts
    assert not charts(page)


def test_images_with_their_texts(run):
    workdir = run()
    pixels = np.zeros((4, 4, 3), np.uint8)
    for step in range(20):
        path = workdir / "samples" / f"{step:07d}-generated.png"
        save_png(path, pixels, ["a <cat>", "猫"])
    (workdir / "samples" / "0000019-other.png").write_bytes(b"half a fi")
    page = read(workdir)
    alts = [a["alt"] for tag, a in page.seen if tag == "img"]
    assert alts[0] == "generated at step 19"
    assert alts[-1] == "generated at step 0"
    assert len(alts) == 8
    assert "In their order: a <cat> | 猫" in page.texts


def test_large_images_are_shrunk(run):
    workdir = run()
    noise = np.random.default_rng(0).integers(0, 256, (100, 2400, 3), np.uint8)
    save_png(workdir / "samples" / "0000001-generated.png", noise, [])
    read(workdir)
    assert (workdir / "report.html").stat().st_size < 200_000
    sources = [a["src"] for tag, a in read(workdir).seen if tag == "img"]
    assert all(src.startswith("data:image/jpeg") for src in sources)


def test_a_long_run_is_thinned(run):
    lines = [row(s, loss=2 + math.sin(s), lr=s) for s in range(1, 30_001)]
    workdir = run(lines)
    start = time.process_time()
    page = read(workdir)
    assert time.process_time() - start < 5
    assert (workdir / "report.html").stat().st_size < 200_000
    assert charts(page) == ["loss by step", "lr by step"]
    assert "30000 of 100" in page.texts


def test_a_file_of_that_name_stays(run):
    workdir = run()
    (workdir / "report.html").write_text("mine")
    with pytest.raises(UserError, match=r"report.html is no report of cogjax"):
        write_training_report(workdir)
    assert (workdir / "report.html").read_text() == "mine"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json"),
        ({"family": "x"}, "names no task"),
    ],
)
def test_other_folders_are_refused(config, message, tmp_path):
    if config:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        write_training_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UserError, match="there is no folder"):
        write_training_report(tmp_path / "none")


def test_a_thinned_curve_keeps_mean_ends_and_order():
    curve, values = Curve(), np.random.default_rng(0).normal(size=5000).tolist()
    for step, value in enumerate(values):
        curve.add(step, value)
    assert MOST <= len(curve.points) <= 2 * MOST
    counts = [p.count for p in curve.points]
    assert sum(counts) == 5000
    assert sum(p.count * p.mean for p in curve.points) == pytest.approx(sum(values))
    assert min(p.low for p in curve.points) == min(values) == curve.lowest
    assert max(p.high for p in curve.points) == max(values)
    assert curve.lowest_step == values.index(min(values))
    assert (curve.first, curve.last, curve.last_step) == (values[0], values[-1], 4999)
    steps = [p.step for p in curve.points]
    assert steps == sorted(steps)


def test_an_axis_is_logarithmic_where_values_span_much():
    curve = Curve()
    for step, value in ((0, 100.0), (1, 10.0), (2, 1.0)):
        curve.add(step, value)
    page = Reader(chart({"x": curve}, "x"))
    dots = [float(a["cy"]) for tag, a in page.seen if tag == "circle"]
    assert dots[1] == pytest.approx((dots[0] + dots[2]) / 2)
    for step, value in ((3, 90.0), (4, 0.0)):
        curve.add(step, value)
    assert "1e+03" not in Reader(chart({"x": curve}, "x")).texts


def test_times_in_words():
    found = [training._span(s) for s in (8, 119, 600, 7500, 200_000)]
    assert found == ["8 s", "119 s", "10 min", "2 h 5 min", "2 d 8 h"]
