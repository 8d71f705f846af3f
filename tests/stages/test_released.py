"""Training on from imported models: gradients of the public code, runs, refusals."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import cogjax
from cogjax import config as configs
from cogjax import model_folder
from cogjax.catalogue import importers, resolve
from cogjax.data import records
from cogjax.data.embeddings import EmbeddedExample
from cogjax.data.images import encode_png
from cogjax.errors import UserError
from cogjax.families.cogview.stage import VQ
from cogjax.families.llamagen.stage import CaptionMixture
from cogjax.interop.tree import flatten
from cogjax.sampling.tokens.autoregressive import Sampler
from cogjax.stages import run as launch
from cogjax.stages.released import CodesOfTexts
from cogjax.stages.sections import DataConfig, RunConfig
from tests.importing import dalle_mini, public, training

pytestmark = pytest.mark.usefixtures("one_device")

TASKS = {
    "mindalle": "mindalle",
    "rudalle-v2": "rudalle",
    "rudalle-v3": "rudalle",
    "llamagen-c2i": "llamagen",
    "llamagen-t2i": "llamagen_captions",
    "dalle-mini": "dalle_mini",
}
IMPORTERS = {"dalle_mini": "dalle-mini"}
KIND = {"dalle-mini": "encoder_decoder"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """name -> model folder."""
    return public.imported(tmp_path_factory)


def config_of(task, model, **settings):
    """A config without data."""
    data = {"path": "", "weights": str(model)}
    return {"task": {"name": task, **settings}, "data": data}


def batch_of(name, settings, layout):
    """The two examples of `tests/importing/training.py`, their texts as they are."""
    if name == "llamagen-t2i":
        vectors, count = training.captions()
        left_out, codes = np.array([False, True]), training.codes("llamagen-c2i")
        batch = {"vectors": vectors, "count": count}
        return batch | {"left_out": left_out, "codes": codes}
    rng = np.random.default_rng(0)
    pairs = zip(training.PIECES[name], training.codes(name), strict=True)
    rows = [settings.example(layout, [text], row, rng) for text, row in pairs]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def public_names(name, model, gradients):
    """Gradients by the names of the public code, by the rules of the export."""
    importer = resolve(importers()[IMPORTERS.get(model.family, model.family)])
    transformer = model["transformer"]
    export = importer.exports[KIND.get(name, "image_lm")]
    rules = export(transformer.config, model, False).rules
    flat, found = flatten(gradients), {}
    for rule in rules:
        for part in range(len(rule.parts)):
            leaf = np.asarray(flat[rule.leaf], np.float32)
            found |= rule.tensors(part, leaf)
    if name == "dalle-mini":
        tree = dalle_mini.flax_tree(scanned=False, named=found)
        found = {".".join(path): x for path, x in tree.items()}
    return found


# v3 is v2 with another mask, and `tests/importing/test_cases.py` has both.
_GRADIENTS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "rudalle-v2" else name
    for name in TASKS
]


@pytest.mark.parametrize("name", _GRADIENTS)
def test_gradients_of_the_public_code(models, name):
    """Loss and the gradient of every tensor, as recorded: lengths and projections."""
    task, path = TASKS[name], models(name)
    config = config_of(task, path, caption_dropout=0.0)
    stage = launch.find_stage(config)
    setup = stage.setup(RunConfig.of(config))
    objective = stage.make_task(setup)
    batch = batch_of(name, setup.settings, setup.layout)
    model = model_folder.load(path)
    params, key = model["transformer"].params, jax.random.key(0)

    def loss(params):
        return objective.loss(params, {}, batch, key)[0]

    value, found = jax.jit(jax.value_and_grad(loss))(params)
    expected, gradients = training.read(name)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    found = training.summary(public_names(name, model, found))
    no_caption = found.pop("cls_embedding.uncond_embedding", [0.0, 0.0])
    assert no_caption == [0.0, 0.0]  # Kept, as a buffer of the public code.
    assert found.keys() == gradients.keys()
    largest = max(length for length, _ in gradients.values())
    for key, (length, product) in gradients.items():
        near = {"rtol": 1e-3, "atol": 1e-5 * largest, "err_msg": key}
        np.testing.assert_allclose(found[key][0], length, **near)
        np.testing.assert_allclose(found[key][1], product, **near)


# A caption that each model can read; classes are numbers.
CAPTIONS = {
    "mindalle": ("a red cat", "two dogs"),
    "rudalle-v2": ("кот", "рекот"),
    "llamagen-c2i": ("3", "tench"),
    "llamagen-t2i": ("a red cat", "two blue dogs"),
    "dalle-mini": ("a red cat", "a car"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Captions -> a data set of four images."""

    def make(name):
        out = tmp_path_factory.mktemp("data") / "set"
        rng = np.random.default_rng(0)
        with records.DatasetBuilder(out, "few", 32, {"train": 1, "val": 1}) as builder:
            for i in range(4):
                image = encode_png(rng.integers(0, 256, (32, 32, 3), np.uint8))
                captions = (("en", CAPTIONS[name][i % 2]),)
                builder.write("train", records.Example(str(i), image, captions, {}))
            builder.finish({})
        return out

    return make


def test_images_without_captions_are_learnt_without_a_text():
    """By both kinds of prompts."""
    rng, codes = np.random.default_rng(0), training.codes("llamagen-c2i")[0]
    layout = training.LAYOUTS["llamagen-c2i"]
    found = CodesOfTexts(0.0).example(layout, (), codes, rng)
    assert found["ids"][0] == 24 + 10 and (found["ids"][1:] == codes).all()
    item = ((), codes), EmbeddedExample("0", (), (), ())
    found = CaptionMixture(0.0).caption((7, 3), item, rng)
    assert found["left_out"] and found["count"] == 1 and not found["vectors"].any()


def trained(name, workdir, model, data, steps):
    """The rows of a run's metrics."""
    words = {"data.weights": model, "data.path": data, "train.steps": steps}
    words |= {"model.dtype": "float32", "model.remat": "none", "mesh.fsdp": 1}
    words |= {"train.batch_size": 8, "train.log_every": 1, "train.save_every": 4}
    words |= {"optim.lr": 3e-3, "optim.warmup": 1, "task.caption_dropout": 0.0}
    # One program, however many steps a run has.
    words["optim.schedule"] = "constant"
    words = [f"--config.{key}={value}" for key, value in words.items()]
    path = f"experiments/{TASKS[name]}/released.py"
    path = path.replace("_captions/released.py", "/released.py:captions")
    found = configs.load(path, words)
    launch.train(found, workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]


_SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(CAPTIONS)[1:]]


@pytest.mark.parametrize("name", ["mindalle", *_SLOW])
def test_a_few_images_are_learnt(models, data, tmp_path, name):
    """By the family's config; a run that was ended goes on, and its model draws."""
    model, path, workdir = models(name), data(name), tmp_path / "run"
    trained(name, workdir, model, path, 4)
    rows = trained(name, workdir, model, path, 8)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5
    start = model_folder.load(model)["transformer"]
    export = cogjax.load(workdir / "export")
    assert export.model["transformer"].config == start.config
    assert export.model.layout == model_folder.load(model).layout
    found = export.generate(CAPTIONS[name][0], 1, temperature=0)
    assert found.pixels.std() > 0


@pytest.mark.parametrize(
    ("task", "change", "words"),
    [
        ("mindalle", {"data.weights": ""}, "'data.weights' is required for task min"),
        ("rudalle", {}, "is no model that task rudalle trains"),
        ("mindalle", {"model.size": "1.3b"}, "model.size is '1.3b' and data.weights"),
        ("mindalle", {"model.width": 3}, "width"),
        ("mindalle", {"model.dropout": 2}, "section 'model': dropout is 2"),
        ("mindalle", {"model.implementation": "cudnn"}, "'cudnn' runs on a gpu"),
        ("mindalle", {"task.text_share": 2}, "text_share is 2"),
        ("llamagen:captions", {"data.text": "mindalle"}, "has a text encoder"),
        ("mindalle", {"data.tokenizer": "llamagen-c2i"}, "25 and 16 codes a sequence"),
        (
            "mindalle",
            {"data.text": "dalle-mini"},
            "270 and 34 pieces of text; leave out",
        ),
    ],
)
def test_what_does_not_fit(models, task, change, words):
    """One line, before any data is read."""
    there = {"data.tokenizer", "data.text"}
    change = {k: models(v) if k in there else v for k, v in change.items()}
    change = {"data.weights": models("mindalle")} | change
    family, _, arg = task.partition(":")
    path = f"experiments/{family}/released.py:{arg}"
    with pytest.raises(UserError, match=words):
        found = configs.load(path, [f"--config.{k}={v}" for k, v in change.items()])
        launch.find_stage(found).setup(RunConfig.of(found))


def cogview(model):
    """Values of the paper's config for these weights."""
    config = public.COGVIEW
    words = {"data.weights": model, "model.width": config.width}
    words |= {"model.depth": config.depth, "model.heads": config.heads}
    return words | {"model.text_len": config.max_positions - 1024 - 4}


def stage_of(path, values):
    """(stage, its run) of a config."""
    config = configs.load(path, [f"--config.{k}={v}" for k, v in values.items()])
    return launch.find_stage(config), RunConfig.of(config)


@pytest.mark.parametrize("name", [*TASKS, "cogview"])
def test_what_is_known_of_the_weights_stays(models, name):
    """Where they are from, their licence, and how the model samples."""
    start, path = model_folder.load(models(name)), "cogview/paper.py:release"
    values = cogview(models(name))
    if name != "cogview":
        path = f"{TASKS[name]}/released.py"
        path = path.replace("_captions/released.py", "/released.py:captions")
        values = {"data.weights": models(name)}
    path = f"experiments/{path}"
    stage, run = stage_of(path, values)
    found = stage.export(run, {}, {})
    assert start.card["source"] and start.sampler != Sampler()
    for key in ("what", "imported_as", "source", "licence"):
        assert found.card[key] == start.card[key]
    assert found.card["trained"] and "dropped" not in found.card
    assert found.sampler == start.sampler
    stage, run = stage_of(path, values | {"sample.sampler.top_k": 3})
    sampler = stage.export(run, {}, {}).sampler
    assert sampler == dataclasses.replace(start.sampler, top_k=3)
    if name == "cogview":
        values |= {"data.tokenizer": models("mindalle"), "data.weights": ""}
        stage, run = stage_of(path, values | {"data.text": models(name)})
        found = stage.export(run, {}, {})
        card = model_folder.load_outline(models("mindalle")).card
        assert found.card["tokenizer"]["licence"] == card["licence"]
        assert set(found.card) == {"tokenizer"}


def test_an_image_tokenizer_keeps_its_licence(models):
    start = model_folder.load(models("cogview"))
    config = dataclasses.asdict(start["tokenizer"].config)
    data = DataConfig("", weights=str(models("cogview")))
    run = RunConfig("vq", {}, config, data)
    params, state = VQ.start(VQ.task(run), run)
    found = VQ.export(run, params, state)
    assert found.card["licence"] == start.card["licence"] and found.card["trained"]


def test_no_network_is_read_twice(models, monkeypatch):
    """The captions' encoder and the image tokenizer are there when a run starts."""
    read, load = [], model_folder.load_component

    def noted(source, name):
        read.append(name)
        return load(source, name)

    values = {"data.weights": models("llamagen-t2i")}
    stage, run = stage_of("experiments/llamagen/released.py:captions", values)
    monkeypatch.setattr(model_folder, "load", None)
    monkeypatch.setattr(model_folder, "load_component", noted)
    stage.start(stage.setup(run), None, run)
    assert sorted(read) == ["text_encoder", "tokenizer", "transformer"]


def test_weights_that_enlarge_images_are_refused(models, tmp_path):
    model = model_folder.load(models("cogview"))
    layout = dataclasses.replace(model.layout, enlarges=True)
    model = dataclasses.replace(model, layout=layout)
    path = model_folder.save(model, tmp_path / "model")
    stage, run = stage_of("experiments/cogview/paper.py:release", cogview(path))
    with pytest.raises(UserError, match="enlarges images, which task 'super' al"):
        stage.start(stage.setup(run), None, run)


@pytest.mark.slow
def test_an_imported_cogview_is_trained_on(models, data, tmp_path):
    """By the paper's config, whose sizes are set to those of the weights."""
    model, path = models("cogview"), data("mindalle")
    words = cogview(model) | {"data.path": path, "train.steps": 3}
    words |= {"train.batch_size": 8, "train.log_every": 1, "mesh.fsdp": 1}
    words |= {"model.dtype": "float32", "model.dropout": 0.0}
    words |= {"model.remat": "none", "optim.lr": 1e-3, "optim.warmup": 1}
    words = [f"--config.{key}={value}" for key, value in words.items()]
    workdir = tmp_path / "run"
    launch.train(configs.load("experiments/cogview/paper.py:release", words), workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "loss" in row]
    assert rows[-1]["loss"] < rows[0]["loss"]
    found = model_folder.load(workdir / "export")
    assert found.layout == model_folder.load(model).layout
    assert found["transformer"].config.norm_scope == "tensor"
