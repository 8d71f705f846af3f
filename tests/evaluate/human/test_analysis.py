"""Raters of `simulated.py` are read back: order, sizes, agreement, who was careless."""

import itertools

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.human.analysis import analyse
from cogjax.evaluate.human.answers import collect
from cogjax.evaluate.report.human import human_page, human_text
from tests.evaluate.human.simulated import Crowd, answer_files, equal, true_values

CROWD = Crowd((1.2, 0.0, 0.6))
ORDER = [0, 2, 1]  # best first


@pytest.fixture
def report_of(study_of, tmp_path):
    def made(form, crowd=CROWD, raters=12, seed=0, keep=0.8, **settings):
        study = study_of(form, len(crowd.quality))
        for name, data in answer_files(study, crowd, raters, seed, **settings).items():
            (tmp_path / name).write_bytes(data)
        return analyse(study, collect([tmp_path], study), keep)

    return made


@pytest.mark.parametrize("form", ["votes", "categories"])
def test_pairs_are_recovered_in_order_and_size(report_of, form):
    report = report_of(form)
    truth = {q: true_values(CROWD, form, q) for q in report["first_shown"]}
    inside = []
    for entry in report["comparisons"]:
        pair = tuple(int(name.removeprefix("model ")) for name in entry["models"])
        low, high = entry["interval"]
        wanted = truth[entry["question"]][pair]
        inside.append(low <= wanted <= high)
        assert np.sign(entry["difference"]) == np.sign(wanted)
        assert entry["answers"] <= 12 * 30 and entry["prompts"] == 30
        assert sum(entry["shares"]) == pytest.approx(1)
        assert sum(entry["majority"]) == 30
        assert entry["corrected"] >= entry["p"]
    # Six intervals of 95 %.
    assert len(inside) == 6 and sum(inside) >= 5
    best = next(
        e for e in report["comparisons"] if e["models"] == ("model 0", "model 1")
    )
    assert best["corrected"] < 0.01 and best["win_rate"][0] > 0.75


def test_points_are_recovered_in_order_and_size(report_of):
    report = report_of("scores")
    hits = []
    for entry in report["points"]:
        truth = true_values(CROWD, "scores", entry["question"])
        found = {row["model"]: row for row in entry["models"]}
        assert list(found) == [f"model {i}" for i in ORDER]
        for model, wanted in enumerate(truth):
            low, high = found[f"model {model}"]["interval"]
            hits.append(low <= wanted <= high)
        for comparison in report["comparisons"]:
            if comparison["question"] == entry["question"]:
                a, b = (int(name[-1]) for name in comparison["models"])
                low, high = comparison["interval"]
                hits.append(low <= truth[a] - truth[b] <= high)
    # Offsets of raters blur the points, and fall out of their differences.
    assert len(hits) == 24 and sum(hits) >= 21
    widths = [np.subtract(*row["interval"]) for row in report["points"][0]["models"]]
    pairs = [e for e in report["comparisons"] if e["question"] == "clarity"]
    assert abs(np.mean(widths)) > np.mean([np.ptp(e["interval"]) for e in pairs])


def test_the_careless_are_dropped_and_would_blur_the_rest(report_of):
    crowd = Crowd((1.2, 0.0, 0.6), careless=0.4)
    report = report_of("votes", crowd, raters=20)
    dropped = [r for r in report["raters"] if not r["kept"]]
    assert 3 <= len(dropped) <= 13
    assert all(r["median_seconds"] == 1 for r in dropped)
    assert all(r["median_seconds"] > 1 for r in report["raters"] if r["kept"])
    everyone = report_of("votes", crowd, raters=20, keep=0)
    first = [e["comparisons"][0] for e in (report, everyone)]
    assert first[0]["difference"] > first[1]["difference"] + 0.1
    alphas = [e["agreement"]["realism"] for e in (report, everyone)]
    assert alphas[0] > alphas[1] + 0.05
    report["raters"].sort(key=lambda r: int(r["rater"]))
    assert "dropped, who had less than 80 % of the attention checks" in human_text(
        report
    )


def test_the_left_is_found_to_be_chosen_more_often(report_of):
    shown = report_of("votes", Crowd((0.5, 0.0, 0.2), left=0.6))["first_shown"]
    assert shown["realism"]["interval"][0] > 0.55
    shown = report_of("votes", Crowd((0.5, 0.0, 0.2), left=0.0))["first_shown"]
    assert abs(shown["realism"]["share"] - 0.5) < 0.06


def test_equal_models_are_rarely_found_to_differ(study_of, tmp_path):
    study, wrong = study_of("votes", 2, 20, 5), 0
    for seed in range(40):
        files = answer_files(study, equal(Crowd((0, 0))), 6, seed)
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        report = analyse(study, collect([tmp_path], study))
        wrong += any(e["corrected"] < 0.05 for e in report["comparisons"])
    assert wrong <= 6


def test_every_rater_judges_a_part(report_of):
    """Five raters a pair: who judges what goes round, as on the page."""

    def asked(rater, item):
        return item.is_check or (item.prompt + rater) % 2 == 0

    report = report_of("votes", raters=10, asked=asked)
    kept = sum(r["kept"] for r in report["raters"])
    counts = {e["answers"] for e in report["comparisons"]}
    assert counts == {15 * kept}
    assert report["comparisons"][0]["difference"] > 0.2


def test_categories_stand_apart(report_of):
    report = report_of("categories")
    found = {(e["category"], e["question"], e["models"]) for e in report["by_category"]}
    assert len(found) == len(report["by_category"]) == 2 * 2 * 3
    whole = report["comparisons"][0]
    halves = [
        e
        for e in report["by_category"]
        if (e["question"], e["models"]) == (whole["question"], whole["models"])
    ]
    mean = sum(e["difference"] * e["answers"] for e in halves) / whole["answers"]
    assert mean == pytest.approx(whole["difference"])
    text, html = human_text(report), human_page(report)
    for words in ("By category", "Krippendorff", "model 0 : model 2", "Holm"):
        assert words in text and words in html


def test_nobody_is_left(report_of):
    with pytest.raises(UserError, match="all 3 raters failed the attention checks"):
        report_of("votes", Crowd((1.0, 0.0), careless=1.0), raters=3)


@pytest.mark.parametrize("form", ["votes", "scores"])
def test_nobody_judged_a_model(report_of, form):
    crowd = Crowd((1.0, 0.0), careless=0)
    with pytest.raises(UserError, match="all raters who are kept answered attention"):
        report_of(form, crowd, 2, keep=0, asked=lambda rater, item: item.is_check)


def test_answers_by_hand(study_of, tmp_path):
    """Two raters, two prompts: shares, majority and points counted by hand."""
    study = study_of("votes", 2, 2, 0)
    files = answer_files(study, Crowd((9.0, 0.0), careless=0), 2, 0)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    report = analyse(study, collect([tmp_path], study))
    for entry in report["comparisons"]:
        assert entry["shares"] == (1, 0, 0) and entry["difference"] == 1
        assert entry["majority"] == (2, 0, 0) and entry["p"] == 0.5
        assert entry["win_rate"][0] == 1 and entry["corrected"] == 1
    assert report["agreement"] == {"realism": None, "match": None}
    assert len(list(itertools.chain(*(r["models"] for r in report["points"])))) == 0
