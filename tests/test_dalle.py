"""DALL-E as a user sees it: each stage trained by its nano config, saved and used."""

import json

import numpy as np
import pytest

import cogjax
from cogjax import cli, config
from cogjax.data.codes import CodedExample
from cogjax.data.records import decode_image, open_split
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError
from cogjax.model_folder import load_component
from cogjax.models.dvae import DVAEConfig
from cogjax.pipelines.contracts import Generator, Reader
from cogjax.pipelines.tokenize import decode, encode
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig

pytestmark = pytest.mark.usefixtures("one_device")

SHAPES = "experiments/dalle/shapes.py:"


def load(stage, **values):
    words = [
        f"--config.{key.replace('__', '.')}={value}" for key, value in values.items()
    ]
    return config.load(f"{SHAPES}{stage},nano", words)


def rows(workdir):
    return [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def tokenizer(nano_data, tmp_path_factory):
    """Work folder of a dVAE of three updates."""
    workdir = tmp_path_factory.mktemp("run") / "dvae"
    launch.train(
        load(
            "tokenizer",
            data__path=nano_data,
            train__steps=3,
            train__batch_size=8,
            train__log_every=1,
            train__sample_every=3,
            train__eval_every=3,
            task__temperature_steps=2,
            task__kl_steps=2,
            task__kl_start=0.0,
        ),
        workdir,
    )
    return workdir


def test_the_dvae_logs_its_schedules_and_the_use_of_codes(tokenizer):
    trained = [row for row in rows(tokenizer) if "loss" in row]
    assert [row["beta"] for row in trained] == pytest.approx([0, 3.3, 6.6])
    temperatures = [row["temperature"] for row in trained]
    assert temperatures == pytest.approx([1, (1 + 1 / 16) / 2, 1 / 16])
    for row in trained:
        assert 1 <= row["perplexity"] <= 32 and 0 < row["usage"] <= 1
        assert 0 <= row["at_bound"] <= 1
    assert any("eval/psnr" in row for row in rows(tokenizer))
    assert list((tokenizer / "samples").glob("*reconstructions.png"))


def test_the_exported_dvae_is_an_image_tokenizer(tokenizer, nano_data):
    found = load_component(tokenizer / "export", "tokenizer")
    assert isinstance(found.config, DVAEConfig) and found.kind == "dvae"
    assert found.state["codebook"].shape == (32, 8)
    source = open_split(nano_data, "train")
    images = np.stack([decode_image(source[i].image, 16) for i in range(3)])
    codes = encode(found, images)
    assert codes.shape == (3, 4, 4) and codes.max() < 32
    assert decode(found, codes).shape == images.shape


def test_other_transformers_read_its_codes(tokenizer, nano_data, nano_folder, tmp_path):
    words = {"path": nano_data, "tokenizer": tokenizer / "export"}
    words |= {"text": nano_folder / "text.model"}
    words = [f"--config.data.{key}={value}" for key, value in words.items()]
    found = config.load("experiments/cogview/shapes.py:transformer,nano", words)
    job = launch.find_stage(found).job(RunConfig.of(found), tmp_path)
    dvae = load_component(tokenizer / "export", "tokenizer")
    source = open_split(nano_data, "train")
    images = [decode_image(source[i].image, 16) for i in range(len(source))]
    codes = encode(dvae, np.stack(images)).reshape(-1, 16).tolist()
    # Pieces and commands are behind the 32 codes.
    ids = next(job.batches(0))["ids"]
    assert all(row[row < 32][:16].tolist() in codes for row in ids)


@pytest.fixture(scope="module")
def transformer(nano_data, nano_folder, tmp_path_factory):
    """Work folder of a transformer of two updates, on the codes of a VQ-VAE."""
    workdir = tmp_path_factory.mktemp("run") / "lm"
    found = load(
        "transformer",
        data__path=nano_data,
        data__tokenizer=nano_folder,
        data__text=nano_folder / "text.model",
        train__steps=2,
        train__batch_size=8,
        train__log_every=1,
        train__sample_every=2,
        train__eval_every=2,
        sample__num_images=1,
    )
    launch.train(found, workdir)
    return workdir


def test_images_are_shown_while_it_trains(transformer):
    assert list((transformer / "samples").glob("*generated.png"))


def test_text_is_an_eighth_of_the_loss(transformer):
    trained = [row for row in rows(transformer) if "loss" in row]
    assert [row["step"] for row in trained] == [1, 2]
    for row in trained:
        wanted = row["text_loss"] / 8 + 7 * row["image_loss"] / 8
        assert row["loss"] == pytest.approx(wanted, rel=1e-5)
        assert row["image_loss"] == pytest.approx(np.log(32), rel=0.1)
    assert any("eval/loss" in row for row in rows(transformer))


def test_the_exported_model_generates(transformer, tmp_path, capsys):
    out = tmp_path / "images"
    words = ["generate", "a red apple", "--model", str(transformer / "export")]
    words += ["--num-images", "2", "--seed", "3", "--out", str(out)]
    assert cli.main(words) == 0
    assert len(list(out.glob("a-red-apple-*.png"))) == 2
    assert cli.main([*words, "--rerank", "4"]) == 2
    assert "this model cannot score images" in capsys.readouterr().err


def test_a_reranker_chooses_for_it(transformer):
    model = cogjax.load(transformer / "export")
    assert isinstance(model, Generator) and not isinstance(model, Reader)
    settings = {"rerank": 3, "seed": 3}
    dark = model.generate(
        "a red apple", 1, rerank_by=lambda images, _: images.mean((1, 2, 3)), **settings
    )
    every = model.generate("a red apple", 3, seed=3)
    assert dark.pixels.mean() == every.pixels.mean((2, 3, 4)).min()


def test_the_dropout_of_pieces_is_for_training(transformer, nano_folder):
    found = json.loads((transformer / "config.json").read_text())
    found["task"] |= {"bpe_dropout": 0.9, "caption_dropout": 0.0}
    # The same split for both: what it is read for decides.
    found["data"]["eval_split"] = found["data"]["split"] = "train"
    job = launch.find_stage(found).job(RunConfig.of(found), transformer)
    encode = TextTokenizer.load(nano_folder / "text.model").encode
    captions = [f"{start} {i}" for i in range(12) for start in ("a red apple", "猫")]
    whole = [[32 + i for i in encode(caption)][:8] for caption in captions]

    def texts(batch):
        # Padding is behind 32 codes and 285 pieces.
        return [[i for i in row[:8].tolist() if i < 32 + 285] for row in batch["ids"]]

    assert all(text in whole for text in texts(job.eval_batches[0]))
    assert not all(text in whole for text in texts(next(job.batches(0))))


def test_a_text_tokenizer_without_merges_is_refused_before_any_work(
    transformer, tmp_path, capsys
):
    words = WordPieceTokenizer.train(["a cat", "a cat"], 6).save(tmp_path / "words")
    found = [
        "--config",
        str(transformer / "config.json"),
        f"--config.data.text={words}",
    ]
    arguments = ["train", *found, "--workdir", str(tmp_path / "run"), "--dry-run"]
    assert cli.main(arguments) == 2
    assert "BPE-dropout needs a text tokenizer that merges" in capsys.readouterr().err
    assert cli.main([*arguments, "--config.task.bpe_dropout=0"]) == 0


@pytest.mark.slow
def test_float16_with_a_scale_for_each_branch(transformer, tmp_path):
    found = json.loads((transformer / "config.json").read_text())
    found["model"] |= {"dtype": "float16", "gradient_scale": "resblock"}
    launch.train(found, tmp_path / "run")
    trained = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert all(row["scale_max"] >= row["scale_min"] > 1 for row in trained)


@pytest.mark.slow
def test_a_data_set_is_encoded_with_it(tokenizer, nano_data, tmp_path):
    words = ["encode", "--data", str(nano_data), "--out", str(tmp_path / "coded")]
    assert cli.main([*words, "--tokenizer", str(tokenizer / "export")]) == 0
    coded, source = (
        open_split(tmp_path / "coded", "train", CodedExample),
        open_split(nano_data, "train"),
    )
    dvae = load_component(tokenizer / "export", "tokenizer")
    images = np.stack([decode_image(source[i].image, 16) for i in range(3)])
    for i, codes in enumerate(encode(dvae, images)):
        assert (coded[i].id, coded[i].captions) == (source[i].id, source[i].captions)
        np.testing.assert_array_equal(coded[i].codes, codes.reshape(-1))


def test_its_decoder_is_not_trained_anew(tokenizer, nano_data, tmp_path):
    found = config.load(
        "experiments/vqgan/decoder.py:shapes,nano",
        [
            f"--config.data.path={nano_data}",
            f"--config.data.tokenizer={tokenizer / 'export'}",
        ],
    )
    with pytest.raises(
        UserError, match="the decoder of a dvae predicts a distribution"
    ):
        launch.train(found, tmp_path / "run")
