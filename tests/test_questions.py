"""Generative question answering as a user sees it: data, fine-tuning, `ask`."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cogjax import cli, config, model_folder
from cogjax.data.records import open_split
from cogjax.errors import UserError
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.interop.safetensors import load_tree
from cogjax.model import Component, Model
from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.models.image_lm_config import image_to_text
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig

pytestmark = pytest.mark.usefixtures("one_device")

COLOURS = {"red": (250, 20, 20), "blue": (20, 20, 250)}


@pytest.fixture(scope="module")
def start(nano_folder, tmp_path_factory):
    """Folder of a two-way model with random weights that reads texts of 4 pieces."""
    there = model_folder.load(nano_folder)
    nano = ernie_vilg.TRANSFORMERS["nano"]
    short = dataclasses.replace(nano, text_len=4, depth=1)
    sizes = there["tokenizer"].config, there.text.size
    layout = ernie_vilg.make_layout(*sizes, short)
    network = ernie_vilg.make_transformer(short, layout)
    rng = np.random.default_rng(2)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: (
            rng.normal(0, 0.2, leaf.shape) + (path[-1].key == "scale")
        ).astype(np.float32),
        param_shapes(network),
    )
    components = {**there.components, "transformer": Component(network, params)}
    made = Model("ernie_vilg", components, layout, there.text)
    return model_folder.save(made, tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A data set of questions about two pictures, made by the command."""
    folder = tmp_path_factory.mktemp("asked")
    rows = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (16, 16), colour).save(folder / f"{name}.png")
        rows += [
            {"image": f"{name}.png", "question": "a flat?", "answer": f"{name} icon"},
            {"image": f"{name}.png", "question": "apple of a house?", "answer": "no"},
        ]
    lines = "\n".join(json.dumps(row) for row in rows)
    (folder / "asked.jsonl").write_text(lines)
    out = folder / "set"
    words = ["--from", str(folder / "asked.jsonl"), "--out", str(out), "--size", "16"]
    assert cli.main(["data", "questions", *words, "--val", "0"]) == 0
    return out


def settings(nano_data, nano_folder, start, asked, **more):
    values = {
        "data.path": nano_data,
        "data.questions": asked,
        "data.tokenizer": nano_folder,
        "data.text": nano_folder / "text.model",
        "data.weights": start,
        "eval.batches": 0,
        "model.depth": 1,
        "sample.prompts": "()",
        "train.batch_size": 8,
        "train.steps": 2,
    }
    values |= {key.replace("__", "."): value for key, value in more.items()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load("experiments/ernie_vilg/questions.py:shapes,nano", words)


@pytest.fixture(scope="module")
def run(nano_data, nano_folder, start, asked, tmp_path_factory):
    """Work folder of a fine-tuning of two steps of next to no size."""
    workdir = tmp_path_factory.mktemp("run") / "vqa"
    still = {"optim__lr": 1e-9, "optim__adam_lr": 1e-9}
    found = settings(nano_data, nano_folder, start, asked, **still)
    launch.train(found, workdir)
    return workdir


def test_one_run_learns_pairs_and_answers(run):
    rows = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        # An answer weighs twice in this config.
        parts = row["text_to_image"] + row["image_to_text"] + 2 * row["answers"]
        np.testing.assert_allclose(row["loss"], parts, rtol=1e-5)
        # Eight answers an example, of one to five pieces and an end each.
        assert 8 < row["answers"] / row["answer_loss"] <= 8 * 6
        assert 0 <= row["answer_right"] <= 1


def test_longer_texts_than_before_keep_the_weights(run, start):
    """The positions behind the last are new, all else is as it was."""
    before, after = (
        load_tree(folder / "transformer.safetensors")
        for folder in (start, run / "export")
    )
    old, new = (tree.pop("position_embedding") for tree in (before, after))
    assert old.shape == (5, 32) and new.shape == (9, 32)
    np.testing.assert_allclose(new[:5], old, atol=1e-6)
    assert 0.01 < new[5:].std() < 0.03
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), before, after
    )


def test_shorter_texts_than_before_are_refused(nano_data, nano_folder, start, asked):
    found = settings(nano_data, nano_folder, start, asked, model__text_len=2)
    found["task"]["answer_len"] = 2
    stage, run = launch.find_stage(found), RunConfig.of(found)
    setup = stage.setup(run)
    with pytest.raises(UserError, match="position_embedding is"):
        stage.start(setup, stage.make_task(setup), run)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data__questions": ""}, "'data.questions' is required"),
        ({"task__answer_len": 9}, "task.answer_len is 9, more than model.text_len, 8"),
        ({"data__path": "asked"}, "has no captions: set data.path to"),
        ({"data__questions": "pairs"}, "has no questions: set data.questions to"),
        ({"task__questions": 0}, "data.questions is read only where task.questions"),
        ({"sample__prompts": "(' ',)"}, "section 'sample': a prompt is empty"),
        ({"sample__num_images": 0}, "section 'sample': num_images is 0"),
        ({"sample__sampler__top_p": 0}, "section 'sample.sampler': top_p is 0"),
    ],
)
def test_mistakes_are_found_first(
    change, message, nano_data, nano_folder, start, asked, tmp_path
):
    folders = {"asked": asked, "pairs": nano_data}
    change = {key: folders.get(value, value) for key, value in change.items()}
    with pytest.raises(UserError, match=message):
        found = settings(nano_data, nano_folder, start, asked, **change)
        launch.train(found, tmp_path / "run")


def test_what_is_cut_is_said(nano_data, nano_folder, start, asked, capsys):
    found = settings(nano_data, nano_folder, start, asked, task__answer_len=1)
    found["data"]["weights"] = ""
    stage, run = launch.find_stage(found), RunConfig.of(found)
    setup = stage.setup(run)
    short, long = (len(setup.text.encode(q)) for q in ("a flat?", "apple of a house?"))
    assert short <= setup.layout.text_len < long
    stage.job(run, start / "unused").batches(0)
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 4 questions of split 'train' are cut to 8 pieces" in said
    assert f"needs model.text_len {long}" in said
    assert "answers of split 'train' are cut to 1" in said
    captions = [
        len(setup.text.encode(text))
        for i in range(10)
        for _, text in open_split(nano_data, "train")[i].captions
    ]
    long = sum(length > 8 for length in captions)
    assert f"{long} of {len(captions)} captions of split 'train' are cut to 8" in said


QUESTIONS = ("a flat?", "猫的线稿", "house")


@pytest.fixture(scope="module")
def model(run):
    """The export, its weights moved so that the answer hangs on all that is said."""
    trained = model_folder.load(run / "export")
    transformer, rng = trained["transformer"], np.random.default_rng(1)
    moved = jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32),
        transformer.params,
    )
    moved = dataclasses.replace(transformer, params=moved)
    return TokensPipeline(trained.with_component("transformer", moved))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def answers(model, pictures):
    return model.ask(pictures, QUESTIONS)


def test_questions_of_different_length_share_a_batch(model, pictures, answers):
    """Each answer is that to the question alone, which has no padding there."""
    assert len({len(model.model.text.encode(question)) for question in QUESTIONS}) > 1
    assert len(set(answers)) > 1
    layout, vocab = model.layout, model.layout.vocab
    allowed, start = np.asarray(model.text_ids(None).allowed), vocab.text_start
    for picture, question, answer in zip(pictures, QUESTIONS, answers, strict=True):
        assert model.ask([picture], question) == [answer]
        codes = model.encode(picture)[0].reshape(-1)
        asked = [start + i for i in model.model.text.encode(question)]
        sizes = layout.text_len, len(asked) + 1
        network = ImageLM(image_to_text(model._generator.config, *sizes))
        apply, tokens = jax.jit(network.apply), []
        for _ in range(layout.text_len):
            ids = [*codes, *asked, vocab.command("[ROI1]"), *tokens]
            places = [*layout.reading_positions[:16], *range(1, len(asked) + 1), 0]
            places += range(1, len(tokens) + 1)
            # One length, so that it is compiled once: nobody looks ahead.
            rest = [0] * (layout.text_len - len(tokens))
            logits, _ = apply(
                {"params": model.model["transformer"].params},
                jnp.array([[*ids, *rest]]),
                jnp.array([[*places, *rest]]),
            )
            row = logits[0, len(ids) - 1, start : vocab.size]
            token = int(np.where(allowed, row, -np.inf).argmax()) + start
            if token == vocab.command("[SEP]"):
                break
            tokens.append(token)
        assert answer == model.model.text.decode([t - start for t in tokens])


@pytest.mark.slow
def test_beams_and_temperature_reach_the_search(model, pictures, answers):
    again = model.ask(pictures, QUESTIONS, temperature=2.0, seed=1)
    assert again != answers
    assert again == model.ask(pictures, QUESTIONS, temperature=2.0, seed=1)
    beams = model.ask(pictures, QUESTIONS, beams=3, length_penalty=0.0)
    other = TokensPipeline(model.model, batch_size=4)
    assert beams == other.ask(pictures, QUESTIONS, beams=3, length_penalty=0.0)
    assert len(model.caption(pictures, "en", beams=2)) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"questions": " "}, "a question is empty"),
        ({"questions": ["a", "b"]}, "3 images but 2 questions"),
        ({"questions": "flat " * 9}, "a question has .* pieces, the model reads 8"),
        ({"questions": "a", "beams": 0}, "beams is 0"),
        ({"questions": "a", "temperature": -1.0}, "temperature is -1.0"),
        ({"questions": "a", "beams": 2, "temperature": 1.0}, "leave temperature at 0"),
    ],
)
def test_bad_questions(model, pictures, settings, message):
    with pytest.raises(UserError, match=message):
        model.ask(pictures, **settings)


def test_a_family_without_questions(nano_model, pictures):
    with pytest.raises(UserError, match="this model answers no questions"):
        nano_model.ask(pictures, "a cat?")


def test_ask_on_the_command_line(run, tmp_path, capsys):
    picture, out = tmp_path / "a.png", tmp_path / "answer.json"
    Image.new("RGB", (16, 16), "red").save(picture)
    words = ["ask", str(picture), "a flat?", "--model", str(run / "export")]
    assert cli.main([*words, "--json", str(out)]) == 0
    printed = capsys.readouterr().out.removesuffix("\n")
    found = json.loads(out.read_text())
    assert found == {"file": str(picture), "question": "a flat?", "answer": printed}
