"""The shipped ERNIE-ViLG: one checkpoint draws, describes and answers.

On scenes of a seed that no training had, judged by the oracle and the grammar.
"""

import io

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax.evaluate.judges.compositional import judge, make_prompts
from cogjax.evaluate.judges.reading import is_true
from cogjax.worlds.shapes import dataset as shapes
from cogjax.worlds.shapes.questions import same_answer
from cogjax.worlds.shapes.scenes import Scene

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model():
    return cogjax.load("shapes-ernie")


@pytest.fixture(scope="module")
def examples():
    form = {"easy": True, "questions": True}
    return [shapes.example(77, "val", i, **form) for i in range(24)]


def picture(example):
    return Image.open(io.BytesIO(example.image))


def test_it_draws(model):
    prompts = [p for p in make_prompts(64) if p.task in ("single", "colour")]
    drawn = model.generate([p.caption for p in prompts], num_images=2, seed=0)
    assert judge(prompts, drawn.pixels).right.mean() > 0.75


def test_it_describes(model, examples):
    scenes = [Scene.from_json(example.meta["scene"]) for example in examples]
    pictures = list(map(picture, examples))
    captions = model.caption(pictures, language="en")
    assert np.mean(list(map(is_true, captions, scenes))) > 0.7
    for language in ("en", "zh"):
        captions = model.caption(pictures, language, beams=8, rerank=True)
        assert np.mean(list(map(is_true, captions, scenes))) > 0.85


def test_it_answers(model, examples):
    asked = [(picture(e), *question[1:]) for e in examples for question in e.questions]
    images, questions, wanted = zip(*asked, strict=True)
    given = model.ask(list(images), list(questions))
    assert len(given) > 150
    assert np.mean(list(map(same_answer, given, wanted))) > 0.85
    # What is known without looking is less.
    elsewhere = model.ask(list(images[7:] + images[:7]), list(questions))
    assert np.mean(list(map(same_answer, elsewhere, wanted))) < 0.6
