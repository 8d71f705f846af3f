"""The experiments' configs, and runs of the nano ones on a handful of pictures."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

import cogjax
from cogjax import config
from cogjax.data.codes import CodedSource, Side, captions_of
from cogjax.data.records import DatasetBuilder, fingerprint, open_split
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.interop.safetensors import load_tree
from cogjax.model import Model
from cogjax.model_folder import load, load_component, save
from cogjax.pipelines import tokenize
from cogjax.stages import run as launch

pytestmark = pytest.mark.usefixtures("one_device")

EMOJI = "experiments/cogview/emoji.py:"
SHAPES = "experiments/cogview/shapes.py:"
ERNIE = "experiments/ernie_vilg/shapes.py:"
QUESTIONS = "experiments/ernie_vilg/questions.py:"
DALLE = ("experiments/dalle/icons.py:", "experiments/dalle/shapes.py:")
END_TO_END = "experiments/ernie_vilg/end_to_end.py:"


def nano(stage, data, folder, **overrides):
    """A resolved nano config; overrides name keys with `__` for dots."""
    values = {"data.path": data, "train.steps": 2, "train.batch_size": 8}
    if stage != "tokenizer":
        values |= {"data.tokenizer": folder, "data.text": folder / "text.model"}
        values |= {"sample.num_images": 1}
    values |= {key.replace("__", "."): value for key, value in overrides.items()}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load(f"{EMOJI}{stage},nano", words)


def metrics(workdir):
    return [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("implementation", "splash", "'splash' runs on a tpu, this is a cpu"),
        ("window", "8", "num_pivots is 768, expected more than"),
    ],
)
def test_a_model_that_cannot_run_is_refused_first(
    key, value, message, nano_data, nano_folder
):
    found = nano("transformer", nano_data, nano_folder, **{f"model__{key}": value})
    with pytest.raises(UserError, match=f"config section 'model': .*{message}"):
        launch.describe(found)


def test_compression_is_described(nano_data, nano_folder):
    """As `cogjax train --dry-run` prints it."""
    found = nano("transformer", nano_data, nano_folder)
    found["optim"]["powersgd"] = {"rank": 4}
    sizes = launch.describe(found)
    exact, compressed, errors = list(sizes.values())[1:]
    assert exact == 4 * sizes["parameters"]
    assert errors < exact and compressed < exact
    found["optim"]["powersgd"] = {"rank": 4, "basis": "cold"}
    with pytest.raises(UserError, match="optim.powersgd.basis.*'warm', 'fixed'"):
        launch.describe(found)


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        *((file, s) for file in (EMOJI, SHAPES) for s in ("tokenizer", "transformer")),
        *((file, s) for file in DALLE for s in ("tokenizer", "transformer")),
        (ERNIE, "transformer"),
        (ERNIE, "full"),
        (QUESTIONS, "shapes"),
        *((END_TO_END, s) for s in ("two_stage", "end_to_end", "adversarial", "mlp")),
    ],
)
@pytest.mark.parametrize("size", ["", ",nano"])
def test_every_key_of_the_experiments_is_known(file, stage, size, nano_folder):
    words = []
    if stage != "tokenizer":
        words = [
            f"--config.data.tokenizer={nano_folder}",
            f"--config.data.text={nano_folder / 'text.model'}",
        ]
    found = launch.describe(config.load(f"{file}{stage}{size}", words))
    assert found["parameters"] > (500_000 if size == "" else 1_000)


def test_where_the_papers_differ_from_ours():
    """CogView has one direction, ERNIE-ViLG's codebook a commitment of 1."""
    paper = config.load("experiments/cogview/paper.py")
    assert (paper["task"]["image_to_text"], paper["task"]["caption_dropout"]) == (0, 0)
    release = config.load("experiments/cogview/paper.py:release")
    assert (paper["model"]["norm_scope"], release["model"]["norm_scope"]) == (
        "token",
        "tensor",
    )
    tokenizer = config.load("experiments/ernie_vilg/paper.py:tokenizer")
    assert tokenizer["task"]["commitment"] == 1
    # VQGAN's f = 8 without the convolution of gumbel's, and the discriminator.
    assert launch.describe(tokenizer)["parameters"] == 69_656_260


@pytest.mark.parametrize("file", [EMOJI, SHAPES])
def test_unknown_stage(file):
    with pytest.raises(UserError, match="expected tokenizer, transformer"):
        config.load(f"{file}transfomer")


@pytest.fixture(scope="module")
def vq(nano_data, nano_folder, tmp_path_factory):
    """Config and work folder of a tokenizer; no picture is there to evaluate on."""
    folder = tmp_path_factory.mktemp("vq")
    with DatasetBuilder(folder / "set", "folder", 16, {"train": 1, "val": 1}) as to:
        examples = open_split(nano_data, "train")
        for i in range(len(examples)):
            to.write("train", examples[i])
        to.finish({})
    run = nano("tokenizer", folder / "set", nano_folder)
    launch.train(run, folder / "run")
    return run, folder / "run"


def test_tokenizer_run_exports_what_the_transformer_reads(vq, nano_data, nano_folder):
    out = vq[1] / "export"
    # The tokenizer alone, without the text model or the transformer.
    assert {p.name for p in out.iterdir()} == {"config.json", "tokenizer.safetensors"}
    run = nano("transformer", nano_data, nano_folder, data__tokenizer=out)
    assert launch.describe(run)["parameters"] > 0


def test_a_run_leaves_its_report(vq, tuned):
    pages = [(x / "report.html").read_text() for x in (vq[1], tuned)]
    assert "Images: reconstructions" not in pages[0]
    assert "Images: generated" in pages[1] and "2 of 2" in pages[1]
    with pytest.raises(UserError, match="trains no image tokenizer"):
        launch.write_codebook(tuned)
    with pytest.raises(UserError, match="'val' of .* is empty"):
        launch.write_codebook(vq[1])


def test_a_refused_start_changes_nothing(vq, tmp_path):
    run, workdir = vq[0], shutil.copytree(vq[1], tmp_path / "run")
    before = (workdir / "config.json").read_bytes()
    other = {**run, "model": {**run["model"], "codebook_size": 5}}
    with pytest.raises(UserError, match="codebook|shape|counts"):
        launch.train(other, workdir)
    assert (workdir / "config.json").read_bytes() == before


@pytest.fixture(scope="module")
def tuned(nano_data, nano_folder, tmp_path_factory):
    """Work folder of a fine-tuning with steps of next to no size."""
    still = {"optim__lr": 1e-9, "optim__adam_lr": 1e-9}
    run = nano(
        "transformer", nano_data, nano_folder, data__weights=nano_folder, **still
    )
    workdir = tmp_path_factory.mktemp("tuned") / "lm"
    launch.train(run, workdir)
    return workdir


def test_fine_tuning_starts_from_the_given_weights(tuned, nano_folder):
    out = tuned / "export"
    start, end = (load_tree(p / "transformer.safetensors") for p in (nano_folder, out))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), end, start)
    # The exported folder is a whole model, and the run drew with it and evaluated.
    assert cogjax.load(out).generate("a red apple", 1).pixels.shape[-1] == 3
    assert any("eval/loss" in row for row in metrics(tuned))
    assert list((tuned / "samples").iterdir())


def test_the_export_of_a_first_model_knows_its_words(
    tuned, nano_data, nano_folder, tmp_path, capsys
):
    """Weights whose words are not known give a model whose words are not known."""
    assert not (tuned / "export" / "words.txt").exists()
    workdir = shutil.copytree(tuned, tmp_path / "lm")
    capsys.readouterr()

    def export(**data):
        run = json.loads((tuned / "config.json").read_text())
        run["data"] |= data
        (workdir / "config.json").write_text(json.dumps(run))
        launch.export(workdir, tmp_path / "out", overwrite=True)
        return capsys.readouterr().out

    assert "data.weights, " in export() and not (tmp_path / "out/words.txt").exists()
    assert export(weights="") == ""
    words = (tmp_path / "out/words.txt").read_text("utf-8").split()
    assert words == sorted(["a", "red", "apple", "猫", *"0123456789"])
    model = cogjax.load(tmp_path / "out")
    assert model.unseen(["a red Zyzzyva 10", "龘猫"]) == ("zyzzyva", "10", "龘")
    # Fine-tuning that model adds to its words.
    other = shutil.copytree(tmp_path / "out", tmp_path / "older")
    first = dataclasses.replace(load(other), words=WordList(frozenset({"tree"})))
    save(first, other, overwrite=True)
    assert export(weights=str(other)) == ""
    assert {"tree", "apple"} <= load(tmp_path / "out").words.words
    gone = export(weights="", path=str(tmp_path / "gone"))
    assert "no list of the words that it has seen" in gone
    assert not (tmp_path / "out/words.txt").exists()
    another = shutil.copytree(nano_data, tmp_path / "data")
    fields = json.loads((another / "manifest.json").read_text())
    fields["checksums"] = dict.fromkeys(fields["checksums"], "0" * 64)
    fields["fingerprint"] = fingerprint(fields["checksums"])
    (another / "manifest.json").write_text(json.dumps(fields))
    assert "is not the data set that" in export(weights="", path=str(another))


def test_an_export_with_another_tokenizer_is_refused(tuned, nano_folder, tmp_path):
    workdir = shutil.copytree(tuned, tmp_path / "lm")
    there = load_component(nano_folder, "tokenizer")
    other = {"codebook": there.state["codebook"] + 1}
    other = Model("", {"tokenizer": dataclasses.replace(there, state=other)})
    run = json.loads((workdir / "config.json").read_text())
    run["data"]["tokenizer"] = str(save(other, tmp_path / "tokenizer"))
    (workdir / "config.json").write_text(json.dumps(run))
    with pytest.raises(
        UserError, match="a model that .* reads is another one now than"
    ):
        launch.export(workdir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["ema", "fixed"])
def test_a_tokenizer_starts_from_the_given_weights(
    method, nano_data, nano_folder, tmp_path
):
    run = nano("tokenizer", nano_data, nano_folder, data__weights=nano_folder)
    run["optim"] |= {"lr": 1e-9, "clip": 1e-9}
    run["task"] |= {"method": method, "decay": 1 - 1e-6}
    out = launch.train(run, tmp_path / "vq")
    # The run has shown its codes, and a checkpoint shows the same.
    board = tmp_path / "vq" / "codebook.png"
    shown = board.read_bytes()
    board.unlink()
    launch.write_codebook(tmp_path / "vq")
    assert board.read_bytes() == shown
    start, end = (load_component(folder, "tokenizer") for folder in (nano_folder, out))
    close = functools.partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, end.params, start.params)
    close(end.state["codebook"], start.state["codebook"], rtol=1e-4)
    assert end.config == start.config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", {"code_dim": 5}, "another shape than the config section 'model'"),
        ("data", {"weights": "nothing"}, "no model 'nothing'"),
        ("data", {"tokenizer": "emoji"}, "starts from data.weights: leave out"),
    ],
)
def test_tokenizers_that_cannot_start(
    key, value, message, nano_data, nano_folder, tmp_path
):
    run = nano("tokenizer", nano_data, nano_folder, data__weights=nano_folder)
    run[key] |= value
    with pytest.raises(UserError, match=message):
        launch.train(run, tmp_path / "vq")


def test_weights_of_another_size_are_refused(nano_data, nano_folder, tmp_path):
    run = nano("transformer", nano_data, nano_folder, data__weights=nano_folder)
    run["model"] |= {"width": 64}
    with pytest.raises(UserError, match=r"transformer\.safetensors"):
        launch.train(run, tmp_path / "lm")


@pytest.mark.parametrize("key", ["tokenizer", "text"])
def test_a_transformer_needs_both_tokenizers(nano_data, nano_folder, key):
    run = nano("transformer", nano_data, nano_folder)
    run["data"][key] = ""
    with pytest.raises(UserError, match=f"'data.{key}' is required"):
        launch.describe(run)


def test_unknown_task(nano_data, nano_folder):
    run = nano("tokenizer", nano_data, nano_folder)
    run["task"]["name"] = "gan"
    with pytest.raises(UserError, match="unknown task 'gan': did you mean 'vqgan'"):
        launch.describe(run)
    run["task"]["name"] = "magic"
    with pytest.raises(UserError, match="known are vq, lm, masked, super, dvae, "):
        launch.describe(run)


def test_codes_are_encoded_once(nano_data, nano_folder, tmp_path):
    parts = load(nano_folder)
    source, cache = open_split(nano_data, "train"), tmp_path / "codes.safetensors"
    texts = functools.partial(captions_of, parts.text)
    encode = functools.partial(tokenize.encode, parts["tokenizer"])
    made = CodedSource.make(source, encode, Side(16, 4), texts, cache)
    assert made.codes.shape == (10, 16)
    again = CodedSource.make(source, None, Side(16, 4), texts, cache)
    np.testing.assert_array_equal(made.codes, again.codes)
    damaged = bytearray(cache.read_bytes())
    damaged[-1] ^= 1
    for data in (damaged, damaged[:50], b""):
        cache.write_bytes(data)
        anew = CodedSource.make(source, encode, Side(16, 4), texts, cache)
        np.testing.assert_array_equal(made.codes, anew.codes)
    pieces, codes = again[3]
    assert pieces[0] == tuple(parts.text.encode("a red apple 3"))
    np.testing.assert_array_equal(codes, made.codes[3])
