"""Scores of the tasks: right renders score 1, captions of others score chance."""

from dataclasses import replace

import numpy as np
import pytest

from cogjax.evaluate.judges import compositional
from cogjax.evaluate.judges.compositional import Prompt, judge, make_prompts, summary
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.captions import Phrase, Request, read
from cogjax.worlds.shapes.scenes import Item, Scene, render


@pytest.fixture(scope="module")
def judged():
    prompts = make_prompts(80, seed=1)
    rng = np.random.default_rng(0)
    pictures = [render(shapes.sample_scene_for(p.request, rng), 64) for p in prompts]
    wrong = render(Scene(()), 64)
    return judge(prompts, np.stack([np.stack([p, wrong]) for p in pictures]))


def test_prompts():
    prompts = make_prompts(80, seed=1)
    assert prompts == make_prompts(80, seed=1) != make_prompts(80, seed=2)
    assert [sum(p.task == t for p in prompts) for t in shapes.TASKS] == [10] * 8
    assert sum(p.language == "zh" for p in prompts) == 40
    assert all(read(p.caption) == p.request for p in prompts)
    unseen = make_prompts(40, unseen=True)
    assert {p.task for p in unseen} == set(shapes.UNSEEN_TASKS)
    assert all(shapes.held_out(p.request) for p in unseen)
    assert not any(shapes.held_out(p.request) for p in prompts)


def test_right_and_wrong_pictures(judged):
    assert judged.right[:, 0].all() and not judged.right[:, 1].any()
    half = summary(judged)
    assert half["overall"] == 0.5 and half["images"] == 160
    assert all(entry["any"] == 1 for entry in half["tasks"].values())
    best, worst = (
        replace(judged, right=x, abstained=x & False)
        for x in np.split(judged.right, 2, axis=1)
    )
    assert summary(best)["overall"] == 1 and summary(worst)["overall"] == 0
    assert summary(best)["languages"]["zh"]["share"] == 1


def test_captions_of_others_are_chance(judged):
    found = compositional.shuffled(judged)
    low, high = found["interval"]
    assert found["chance"] < 0.1 and low <= found["chance"] <= high


def test_the_mean_is_over_tasks_not_pictures():
    red = Item("circle", "red", 0.5, 0.5, 0.17)
    good, bad = render(Scene((red,)), 64), render(Scene(()), 64)
    single = Prompt("single", Request((Phrase(1, "circle"),)), "a circle", "en")
    colour = Prompt("colour", Request((Phrase(1, "circle", "red"),)), "...", "zh")
    pictures = np.stack([good, bad, bad, good])[:, None]
    report = summary(judge([single, single, single, colour], pictures))
    assert report["overall"] == pytest.approx((1 / 3 + 1) / 2)


def test_confusion_and_abstention():
    star = Item("star", "blue", 0.5, 0.5, 0.17)
    bar = render(Scene(()), 64).copy()
    bar[30:33, 5:60] = (30, 150, 50)
    prompt = Prompt("colour", Request((Phrase(1, "circle", "red"),)), "", "en")
    judged = judge([prompt], np.stack([render(Scene((star,)), 64), bar])[None])
    tables = compositional.confusion(judged)
    assert tables["shape"]["circle"] == {"star": 1, "unknown": 1}
    assert tables["colour"]["red"] == {"blue": 1, "green": 1}
    assert judged.abstained.tolist() == [[False, True]]
    assert summary(judged)["abstained"] == 0.5
