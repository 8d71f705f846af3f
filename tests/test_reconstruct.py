"""ERNIE-ViLG end to end as a user sees it: trained, saved, drawing from states."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cogjax
from cogjax import cli, config, model_folder
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.evaluate.suites.cache import model_digest
from cogjax.families.ernie_vilg.stage import END_TO_END
from cogjax.interop.safetensors import load_tree
from cogjax.pipelines.tokenize import encode as encode_images
from cogjax.sampling.tokens.autoregressive import compiled_prefill, image_keys
from cogjax.sampling.tokens.reconstruct import image_states
from cogjax.stages import encode
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig

pytestmark = pytest.mark.usefixtures("one_device")

PROMPTS = ("a red apple", "一只猫的线稿")


def settings(data, folder, **values):
    values |= {
        "data__path": data,
        "data__tokenizer": folder,
        "data__text": folder / "text.model",
        "train__steps": 2,
        "model__depth": 1,
    }
    words = [f"--config.{k.replace('__', '.')}={v}" for k, v in values.items()]
    return config.load("experiments/ernie_vilg/end_to_end.py:end_to_end,nano", words)


@pytest.fixture(scope="module")
def folder(nano_data, nano_folder, tmp_path_factory):
    """Export of a run of two steps."""
    workdir = tmp_path_factory.mktemp("run") / "e2e"
    launch.train(settings(nano_data, nano_folder, eval__batches=0), workdir)
    rows = [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("reconstruction", 0) > 0 for row in rows)
    return workdir / "export"


@pytest.fixture(scope="module")
def model(folder):
    return cogjax.load(folder)


@pytest.fixture(scope="module")
def drawn(model):
    return model.generate(PROMPTS, num_images=2, seed=3, guidance=1)


def test_hidden_is_what_such_a_model_draws_from(model, drawn):
    assert model.decoding() == "hidden"
    codes = drawn.codes.reshape(-1, 4, 4)
    texts = [PROMPTS[0], PROMPTS[0], PROMPTS[1], PROMPTS[1]]
    pixels = drawn.pixels.reshape(-1, 16, 16, 3)
    np.testing.assert_array_equal(model.reconstruct(codes, texts), pixels)
    # From the same codes, in two stages.
    again = model.generate(PROMPTS, 2, 3, guidance=1, decode="codes")
    np.testing.assert_array_equal(again.codes, drawn.codes)
    flat = again.pixels.reshape(-1, 16, 16, 3)
    np.testing.assert_array_equal(flat, model.decode(codes))
    assert (flat != pixels).any()


def test_states_are_those_of_the_drawing(model, drawn):
    """One pass over all codes, against one step a code with a cache."""
    network, params, layout = model._generator, model._params, model.layout
    prompts = layout.prompts([model.model.text.encode(text) for text in PROMPTS])
    codes = jnp.asarray(drawn.codes[:, 0].reshape(2, -1))
    states = jax.jit(image_states, static_argnums=0)(network, params, prompts, codes)
    state = compiled_prefill(
        network, model._code_params, prompts, image_keys(0, 0, 2), codes
    )
    table = np.asarray(model.model["transformer"].params["token_embedding"])[
        : model.num_codes
    ]
    first = np.asarray(states[:, 0]) @ table.T
    np.testing.assert_allclose(first, state.logits, rtol=1e-4, atol=1e-4)

    @jax.jit
    def step(code, cache, i):
        (found,), cache = network.apply(
            {"params": params},
            code[:, None],
            state.first_position[:, None] + i,
            state.visible,
            cache,
            place=i,
            parts=((slice(None), None),),
        )
        return found[:, 0], cache

    cache, collected = state.cache, []
    for i in range(codes.shape[1] - 1):
        found, cache = step(codes[:, i], cache, i)
        collected.append(found)
    np.testing.assert_allclose(states[:, 1:], np.stack(collected, 1), atol=1e-4)


def test_save_and_load_draw_the_same(model, drawn, tmp_path):
    loaded = cogjax.load(model.save(tmp_path / "model"))
    again = loaded.generate(PROMPTS, num_images=2, seed=3, guidance=1)
    np.testing.assert_array_equal(again.pixels, drawn.pixels)


def test_the_reconstructor_is_part_of_the_models_digest(folder, tmp_path):
    model = model_folder.load(folder)
    words = WordList(frozenset({"cat"}))
    named = dataclasses.replace(model, words=words)
    copy = model_folder.save(named, tmp_path / "copy")
    assert model_digest(copy) == model_digest(folder)
    part = model["reconstructor"]
    part.params["project_in"]["bias"] = part.params["project_in"]["bias"] + 1
    other = model_folder.save(model, tmp_path / "other")
    assert model_digest(other) != model_digest(folder)


def test_a_reconstructor_that_does_not_fit_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    written = json.loads((copy / "config.json").read_text())
    settings = written["components"]["reconstructor"]["config"]["settings"]
    settings |= {"activation": "gelu", "hidden": 5}
    del written["seal"]
    (copy / "config.json").write_text(json.dumps(written))
    with pytest.raises(UserError, match="project_in/kernel is "):
        cogjax.load(copy)
    (copy / "reconstructor.safetensors").unlink()
    with pytest.raises(UserError, match=r"cannot read weights .*reconstructor"):
        cogjax.load(copy)


def test_other_models_draw_from_codes_only(nano_model):
    assert nano_model.decoding() == "codes"
    with pytest.raises(UserError, match="needs a model trained end to end"):
        nano_model.generate(PROMPTS[0], decode="hidden")
    with pytest.raises(UserError, match="expected 'codes' or 'hidden'"):
        nano_model.generate(PROMPTS[0], decode="states")


@pytest.mark.parametrize("decode", [None, "codes"])
def test_the_command_line(folder, tmp_path, decode, capsys):
    words = ["generate", PROMPTS[0], "--model", str(folder), "--num-images", "1"]
    words += ["--decode", decode] if decode else []
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    record = json.loads((tmp_path / "out" / "generation.json").read_text())
    assert record["settings"]["decode"] == (decode or "hidden")


def test_codes_without_pictures_are_refused(nano_data, nano_folder, tmp_path):
    sizes = encode.EncodeSettings(batch_size=2, shard_size=5)
    encode.encode_dataset(nano_data, nano_folder, tmp_path / "coded", sizes)
    with pytest.raises(UserError, match="holds codes and no pictures"):
        launch.train(settings(tmp_path / "coded", nano_folder), tmp_path / "run")


def run_of(nano_data, nano_folder, **values):
    """(what is trained, the parameters that it starts from)."""
    found = settings(nano_data, nano_folder, **values)
    run = RunConfig.of(found)
    setup = END_TO_END.setup(run)
    return setup, END_TO_END.start(setup, END_TO_END.make_task(setup), run)


def test_starts(nano_data, nano_folder, folder):
    """From the tokenizer's decoder, and from a model that was trained end to end."""

    def start(**values):
        return run_of(nano_data, nano_folder, **values)[1]

    own = load_tree(nano_folder / "tokenizer.safetensors")["decoder"]
    got = start()["reconstructor"]["decoder"]
    jax.tree.map(np.testing.assert_array_equal, got, own)
    assert start(task__start="random") is None
    again = start(data__weights=folder)
    jax.tree.map(
        np.testing.assert_array_equal,
        (again["transformer"], again["reconstructor"]),
        tuple(
            load_tree(folder / f"{n}.safetensors")
            for n in ("transformer", "reconstructor")
        ),
    )


def test_weights_of_another_reconstructor_are_refused(nano_data, nano_folder, folder):
    values = {"data__weights": folder, "task__reconstructor__states": "at"}
    values["task__reconstructor__activation"] = "gelu"
    values["task__start"] = "random"
    with pytest.raises(UserError, match="has another reconstructor than the config"):
        run_of(nano_data, nano_folder, **values)


def test_a_decoder_that_nobody_sees_is_not_trained(nano_data, folder, tmp_path):
    words = [f"--config.data.path={nano_data}", f"--config.data.tokenizer={folder}"]
    found = config.load("experiments/vqgan/decoder.py:shapes,nano", words)
    with pytest.raises(UserError, match="draws by a reconstructor"):
        launch.train(found, tmp_path / "run")


def test_a_softmax_starts_at_what_the_head_expects(nano_data, nano_folder):
    setup, params = run_of(nano_data, nano_folder)
    num_codes = setup.layout.vocab.num_codes
    codes = np.random.default_rng(0).integers(0, num_codes, (2, 16))
    ids = np.stack([setup.layout.text_to_image([3, 1], row) for row in codes])
    run = jax.jit(END_TO_END.make_task(setup).generation.image_outputs)
    nats, states = run(params["transformer"], ids)
    logits = states @ params["reconstructor"]["project_in"]["kernel"]
    # The same odds as the loss has.
    picked = np.take_along_axis(np.asarray(logits), codes[..., None], -1)[..., 0]
    want = jax.nn.logsumexp(logits, axis=-1) - picked
    np.testing.assert_allclose(nats, want, rtol=1e-4, atol=1e-4)
    book = params["reconstructor"]["project_out"]["kernel"]
    np.testing.assert_array_equal(book, setup.tokenizer.state["codebook"])


def test_pictures_go_with_their_codes(nano_data, nano_folder, model):
    """A batch's image is the one whose codes are beside it."""
    run = RunConfig.of(settings(nano_data, nano_folder))
    job = END_TO_END.job(run, folder_of(nano_data))
    batch = next(job.batches(0))
    tokenizer = END_TO_END.setup(run).tokenizer
    codes = encode_images(tokenizer, batch["image"]).reshape(len(batch["image"]), -1)
    np.testing.assert_array_equal(batch["to_image"][:, -codes.shape[1] :], codes)


def folder_of(data):
    return data.parent / "work"
