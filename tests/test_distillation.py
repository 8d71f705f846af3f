"""Distillation end to end: a stage of a cascade, a student of it, images."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax import model_folder
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.families.imagen.presets import STAGES
from cogjax.families.imagen.stage import DISTILLED
from cogjax.model import Component, Model
from cogjax.models.registry import shapes_of
from cogjax.models.t5 import T5Config
from cogjax.pipelines import cascade_stage
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.request import Request
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig
from tests.test_imagen import configured, train

TEXT = T5Config(width=16, depth=1, heads=2, head_dim=8, mlp_dim=32, text_len=16)


def component(config):
    """With random weights."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.float32(0.1 * rng.normal(size=leaf.shape)),
        shapes_of(config)[0],
    )
    return Component(config, params)


@pytest.fixture(scope="module")
def cascade(nano_folder, tmp_path_factory):
    """{"text", "base"}: folders of models that learnt nothing."""
    root = tmp_path_factory.mktemp("teacher")
    text = load_text(nano_folder / "text.model")
    parts = {"text_encoder": component(TEXT)}
    parts["base"] = component(STAGES["nano"][0])
    sampler = CascadeSampler()
    cascade = Model("imagen", parts, Cascade(("v",), ("cosine",)), text, sampler)
    only = Model("", {"text_encoder": parts["text_encoder"]}, text=text)
    saved = {"text": only, "base": cascade}
    return {name: model_folder.save(x, root / name) for name, x in saved.items()}


def student(cascade, nano_data, **values):
    """Values of a student's config."""
    given = {"data.path": nano_data, "data.text": cascade["text"], "data.vectors": ""}
    given |= {"data.weights": cascade["base"], "task.steps": 2, "task.substeps": 2}
    return given | values


def distilled(model, steps):
    """The same model, as if its stages had been distilled."""
    layout = dataclasses.replace(model.layout, distilled=steps)
    return dataclasses.replace(model, layout=layout)


def test_a_student_has_its_own_steps(cascade, monkeypatch):
    pipeline = CascadePipeline(distilled(model_folder.load(cascade["base"]), (4,)))
    asked = []

    def draw(stage, params, keys, inputs):
        asked.append(stage)
        return np.zeros((len(keys), *stage.shape))

    monkeypatch.setattr(cascade_stage, "draw", draw)
    pipeline.generate("a cat", 1)
    pipeline.generate("a cat", 1, steps=(4,), guidance=1, method="ddim")
    assert {(x.steps, x.method, x.guided) for x in asked} == {(4, "ddim", False)}
    found = pipeline.settings(Request.of("a cat"))
    assert (found["steps"], found["guidance"]) == ([4], [1.0])
    for name, value in {"steps": 16, "guidance": (3.0,), "method": "heun"}.items():
        with pytest.raises(UserError, match=f"{name} is .*distilled to 4 steps of ddi"):
            pipeline.generate("a cat", 1, **{name: value})


@pytest.mark.slow
def test_a_student_is_trained_and_generates(cascade, nano_data, tmp_path):
    values = student(cascade, nano_data, **{"train.sample_every": 0})
    folder = train("distill.py:base,nano", tmp_path / "run", **values)
    model = model_folder.load(folder)
    assert model.layout == Cascade(("v",), ("cosine",), (), (2,))
    assert CascadePipeline(model).generate("a cat", 1).pixels.shape == (1, 1, 8, 8, 3)


def test_a_student_of_a_student_has_its_grid(cascade, nano_data, tmp_path):
    model = distilled(model_folder.load(cascade["base"]), (3,))
    values = {"data.weights": model_folder.save(model, tmp_path / "student")}
    with pytest.raises(UserError, match="was distilled to 3 steps: set task.guidance"):
        _start(student(cascade, nano_data, **values))
    # Two steps of a student are three of its own, less the last.
    fits = values | {"task.guidance": 1}
    _start(student(cascade, nano_data, **fits))


def _start(values):
    """What the job starts from."""
    config = configured("distill.py:base,nano", **values)
    run = RunConfig.of(config)
    stage = launch.find_stage(config)
    assert stage is DISTILLED
    encoder = model_folder.load(run.data.text)
    return stage.start(run, encoder, None)


def test_a_student_starts_as_its_teacher(cascade, nano_data):
    found = _start(student(cascade, nano_data))
    assert found["start_params"] is found["start_state"]["teacher"]
    assert "mid.attention" in found["start_params"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data.weights": ""}, "'data.weights' is required for task imagen_distill"),
        ({"data.weights": "text"}, "data.weights, .*, is no cascade of imagen_distill"),
        ({"model.width": 16}, "no stage of .* has the network of the section 'model'"),
        ({"task.prediction": "eps"}, "trained with v, cosine, and .* says eps, cosine"),
    ],
)
def test_teachers_that_do_not_fit_are_refused(cascade, nano_data, values, message):
    values = {key: cascade.get(value, value) for key, value in values.items()}
    with pytest.raises(UserError, match=message):
        _start(student(cascade, nano_data, **values))


def test_layouts_that_cannot_be():
    with pytest.raises(ValueError, match=r"distilled is \(4, 4\), expected a number"):
        Cascade(("v",), ("cosine",), (), (4, 4))
    with pytest.raises(ValueError, match=r"distilled is \(-1,\)"):
        Cascade(("v",), ("cosine",), (), (-1,))
