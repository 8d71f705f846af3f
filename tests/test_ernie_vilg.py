"""ERNIE-ViLG as a user sees it: trained, saved, drawing and describing."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cogjax
from cogjax import cli, config, model_folder
from cogjax.data.text_files import load_text
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.stage import BIDIRECTIONAL
from cogjax.interop.safetensors import load_tree
from cogjax.pipelines.reader import Search
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig

PROMPTS = ("a red apple", "一只猫的线稿")


def train(steps, workdir, data, tokenizer, text):
    """The exported folder of a nano run that starts, or goes on to `steps`."""
    values = {
        "data.path": data,
        "data.tokenizer": tokenizer,
        "data.text": text,
        "train.steps": steps,
        "train.batch_size": 8,
        "train.log_every": 1,
        # One program for all: it does not know how many steps there are.
        "optim.schedule": "constant",
        "optim.warmup": 1,
        "eval.batches": 0,
        "sample.prompts": "()",
    }
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = config.load("experiments/ernie_vilg/shapes.py:transformer,nano", words)
    return launch.train(found, workdir)


@pytest.fixture(scope="module")
def run(nano_data, nano_folder, tmp_path_factory):
    """Work folder of two steps, then two more: a run that was resumed."""
    workdir = tmp_path_factory.mktemp("run") / "ev"
    for steps in (2, 4):
        train(steps, workdir, nano_data, nano_folder, nano_folder / "text.model")
    return workdir


def moved(folder):
    """The pipeline of an export whose weights are others: those of a few steps hardly
    listen to the text."""
    trained = model_folder.load(folder)
    transformer, rng = trained["transformer"], np.random.default_rng(1)
    params = jax.tree.map(
        lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32),
        transformer.params,
    )
    part = dataclasses.replace(transformer, params=params)
    return TokensPipeline(trained.with_component("transformer", part))


@pytest.fixture(scope="module")
def model(run):
    return moved(run / "export")


@pytest.fixture(scope="module")
def drawn(model):
    return model.generate(PROMPTS, num_images=2, seed=3, temperature=0, guidance=1)


def test_training_resumes_and_logs_both_directions(run):
    logged = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in logged if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        both = row["text_to_image"] + row["image_to_text"]
        np.testing.assert_allclose(row["loss"], both, rtol=1e-5)
        np.testing.assert_allclose(row["text_to_image"], 16 * row["image_loss"], 1e-5)


def test_the_folder_names_its_family(run):
    written = json.loads((run / "export" / "config.json").read_text())
    assert written["family"] == "ernie_vilg"
    loaded = cogjax.load(run / "export")
    assert loaded.model.family == "ernie_vilg"
    kinds = loaded.model["transformer"].config.kinds
    assert {kind.row_extent for kind in kinds} == {"own"}


@functools.cache
def compiled(network):
    return jax.jit(network.apply)


def full_logits(model, texts, codes):
    """[b, n, k] of text to image in one call, without a cache."""
    prompts = model.layout.prompts(texts)
    num_codes = codes.shape[1]
    after = prompts.next_position[:, None] + np.arange(num_codes)
    slots = np.arange(prompts.ids.shape[1])
    logits, _ = compiled(model._generator)(
        {"params": model.model["transformer"].params},
        jnp.asarray(np.concatenate([prompts.ids, codes], 1)),
        jnp.asarray(np.concatenate([prompts.positions, after], 1)),
        visible=jnp.asarray(slots >= prompts.num_padding[:, None]),
    )
    return np.asarray(logits)[:, len(slots) - 1 : -1, : model.num_codes]


def test_drawing_follows_the_full_forward(model, drawn):
    """Prompts of different length in one batch."""
    texts = [model.model.text.encode(prompt) for prompt in PROMPTS]
    codes = drawn.codes[:, 0].reshape(2, -1)
    picked = full_logits(model, texts, codes).argmax(-1)
    np.testing.assert_array_equal(picked, codes)


def test_guidance_follows_the_full_forward(model):
    texts = [model.model.text.encode(PROMPTS[0]), []]
    drawn = model.generate(PROMPTS[0], 1, temperature=0, guidance=3.0)
    codes = drawn.codes.reshape(1, -1)
    with_text, without = full_logits(model, texts, np.repeat(codes, 2, 0))
    guided = without + 3.0 * (with_text - without)
    np.testing.assert_array_equal(guided.argmax(-1)[None], codes)


def test_image_losses_is_the_mean_over_codes(model, drawn):
    texts = [model.model.text.encode(prompt) for prompt in PROMPTS]
    codes = drawn.codes[:, 1]
    flat = codes.reshape(2, -1)
    logits = full_logits(model, texts, flat).astype(np.float64)
    picked = np.take_along_axis(logits, flat[..., None], -1)[..., 0]
    values = np.log(np.exp(logits).sum(-1)) - picked
    got = model.image_losses(codes, PROMPTS)
    np.testing.assert_allclose(got, values.mean(1), rtol=1e-5)


def test_a_reranked_caption_is_the_likeliest_drawn_of_the_beams(model, drawn):
    codes = drawn.codes[:, 0]
    flat, ids = codes.reshape(2, -1), model.text_ids("en")

    def prompts(which):
        return model.layout.caption_prompts(flat[which])

    search = Search(beams=3, rerank=True)
    pool = model._write(model.captioner, prompts, 2, ids, search)
    best = []
    for picture, texts in zip(codes, pool, strict=True):
        texts = [text for text in texts if text]
        assert len(texts) > 1
        same = np.repeat(picture[None], len(texts), 0).reshape(len(texts), -1)
        losses = model._image_losses(same, texts)
        best.append(model.model.text.decode(texts[losses.argmin()]))
    assert model.caption_codes(codes, "en", search) == best
    # Else the choice would be none.
    assert best != model.caption_codes(codes, "en", Search(beams=3))


def test_reranking_without_beams_and_of_answers(model, drawn):
    with pytest.raises(UserError, match="set beams to 2 or more"):
        model.caption(drawn.pixels[:, 0], rerank=True)
    with pytest.raises(UserError, match="rerank is for captions"):
        model.ask_codes(drawn.codes[:, 0], ["a?", "b?"], Search(beams=2, rerank=True))


def reading_logits(model, codes, tail):
    """[t, pieces and commands] of image to text: what follows [ROI1] and `tail`."""
    layout = model.layout
    ids, _ = layout.image_to_text([], codes)
    start = layout.image_len + 1
    ids[start : start + len(tail)] = tail
    logits, _ = compiled(model.captioner)(
        {"params": model.model["transformer"].params},
        jnp.asarray(ids[None, :-1]),
        jnp.asarray(layout.reading_positions[None, :-1]),
    )
    low, high = layout.vocab.text_start, layout.vocab.size
    return np.asarray(logits, np.float64)[0, start - 1 :, low:high]


def test_captions_follow_the_full_forward(model, drawn):
    image = drawn.pixels[0, 0]
    codes = model.encode(image)[0].reshape(-1)
    allowed, vocab = np.asarray(model.text_ids(None).allowed), model.layout.vocab
    tokens = []
    for _ in range(model.layout.text_len):
        logits = reading_logits(model, codes, tokens)[len(tokens)]
        token = np.where(allowed, logits, -np.inf).argmax() + vocab.text_start
        if token == vocab.command("[SEP]"):
            break
        tokens.append(token)
    want = model.model.text.decode([int(t) - vocab.text_start for t in tokens])
    assert model.caption([image]) == [want]


def test_score_is_the_mean_over_text_tokens(model, drawn):
    image, prompt = drawn.pixels[0, 0], PROMPTS[0]
    codes = model.encode(image)[0].reshape(-1)
    pieces = model.model.text.encode(prompt)[: model.layout.text_len]
    tail = np.array(pieces) + model.layout.vocab.text_start
    logits = reading_logits(model, codes, tail)[: len(pieces)]
    values = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(pieces)), pieces]
    np.testing.assert_allclose(model.score([image], [prompt]), values.mean(), rtol=1e-5)


def test_image_prompts_and_reranking(model, drawn):
    given = model.encode(drawn.pixels[:1, 0])[0]
    keep = np.repeat(np.arange(4)[:, None] < 2, 4, axis=1)
    done = model.generate(
        PROMPTS[1], 1, seed=9, image=drawn.pixels[0, 0], keep=keep, rerank=3
    )
    np.testing.assert_array_equal(done.codes[0, 0, :2], given[:2])
    scores = model.score_codes(done.codes[0], [PROMPTS[1]])
    np.testing.assert_allclose(done.scores[0], scores, rtol=1e-6)


def test_save_and_load_draw_the_same(model, drawn, tmp_path):
    loaded = cogjax.load(model.save(tmp_path / "model"))
    again = loaded.generate(PROMPTS, num_images=2, seed=3, temperature=0, guidance=1)
    np.testing.assert_array_equal(again.pixels, drawn.pixels)


def test_a_wordpiece_from_training_to_export(nano_data, nano_folder, drawn, tmp_path):
    """The paper's text, in the programs of the tests above: as many pieces."""
    known = WordPieceTokenizer.train(["a red apple", "a red cat", "一只猫的线稿"], 18)
    size = load_text(nano_folder / "text.model").size
    unused = [f"[unused{i}]\n" for i in range(size - known.size)]
    words = tmp_path / "vocab.txt"
    words.write_bytes(known.serialized + "".join(unused).encode())
    folder = train(2, tmp_path / "run", nano_data, nano_folder, words)
    model = moved(folder)
    assert cogjax.load(folder).model.text == model.model.text == load_text(words)
    assert model.model.text.size == size
    same = model.generate(PROMPTS, num_images=2, seed=3, temperature=0, guidance=1)
    assert same.codes.shape == drawn.codes.shape
    codes = drawn.codes[:, 0]
    for language, letters in (("en", "aredplct"), ("zh", "一只猫的线稿")):
        for caption in model.caption_codes(codes, language, Search()):
            assert set(caption) <= {*letters, " "} and caption
    assert model.score_codes(codes, PROMPTS).shape == (2,)


def test_speculation_draws_the_same_greedy_codes(model, drawn):
    faster = model.generate(PROMPTS, 1, temperature=0, guidance=1, speculate=4)
    np.testing.assert_array_equal(faster.codes[:, 0], drawn.codes[:, 0])


def test_the_command_line_has_no_special_cases(run, tmp_path, capsys):
    model = str(run / "export")
    out = tmp_path / "out"
    words = ["generate", PROMPTS[0], "--model", model, "--num-images", "1"]
    assert cli.main([*words, "--out", str(out)]) == 0
    picture = str(next(out.glob("*-1.png")))
    assert cli.main(["caption", picture, "--model", model]) == 0
    capsys.readouterr()
    assert cli.main(["score", picture, PROMPTS[0], "--model", model]) == 0
    assert float(capsys.readouterr().out.split()[0]) > 0


def test_weights_of_another_family_are_refused(run, nano_folder, tmp_path):
    folder = tmp_path / "mixed"
    cogjax.load(run / "export").save(folder)
    written = json.loads((folder / "config.json").read_text())
    del written["seal"]
    written["family"] = "cogview"
    written["layout"]["fixd"] = True
    (folder / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="key 'layout.fixd': did you mean .*fixed"):
        cogjax.load(folder)
    written["family"] = "parti"
    (folder / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="reads 1 and 2 of 'cogview', 'dalle', "):
        cogjax.load(folder)


@pytest.mark.parametrize(
    ("experiment", "text_len"), [("shapes", 18), ("questions", 22)]
)
def test_a_run_starts_from_the_shipped_cogview(experiment, text_len):
    """With no other folder: what it names is in the package, and fits its network."""
    found = config.load(f"experiments/ernie_vilg/{experiment}.py:from_cogview", [])
    assert launch.describe(found)["parameters"] > 2_900_000
    run = RunConfig.of(found)
    setup = BIDIRECTIONAL.setup(run)
    start = BIDIRECTIONAL.start(setup, BIDIRECTIONAL.make_task(setup), run)
    assert start["position_embedding"].shape == (text_len + 1, 192)
    folder = model_folder.find(found["data"]["weights"])
    shipped = load_tree(folder / "transformer.safetensors")
    same = start["blocks"], shipped["blocks"]
    jax.tree.map(np.testing.assert_array_equal, *same)


def test_a_cogview_whose_codes_have_no_places_is_refused(nano_model):
    there = nano_model.model
    tokenizer, nano = there["tokenizer"].config, ernie_vilg.TRANSFORMERS["nano"]
    layout = ernie_vilg.make_layout(tokenizer, there.text.size, nano)
    network = ernie_vilg.make_transformer(nano, layout)
    params = there["transformer"].params
    with pytest.raises(UserError, match="positions 'fixed' and codes of 4 x 4"):
        ernie_vilg.start_from(params, there.layout, network)
    with pytest.raises(UserError, match="positions 'fixed' and codes of 4 x 4"):
        other = dataclasses.replace(there.layout, fixed=True, image_len=25)
        ernie_vilg.start_from(params, other, network)
