"""The stage of text encoders: what it reads, what it refuses, what it exports."""

import json

import jax
import numpy as np
import pytest

from cogjax import config, model_folder
from cogjax.data.records import open_split
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError
from cogjax.models.t5 import CONFIGS
from cogjax.pipelines.text_encoder import load_text_encoder
from cogjax.stages import run as launch
from cogjax.stages.encode import encode_dataset
from cogjax.stages.run import describe, find_stage
from cogjax.stages.sections import RunConfig
from cogjax.stages.sharded import EncodeSettings


def nano(data, text, **values):
    values = {"data.path": data, "data.text": text} | values
    words = [f"--config.{key}={value}" for key, value in values.items()]
    return config.load("experiments/imagen/text.py:nano", words)


@pytest.fixture(scope="module")
def text(nano_folder):
    return nano_folder / "text.model"


def job(settings, tmp_path):
    return find_stage(settings).job(RunConfig.of(settings), tmp_path)


def test_codes_are_read_as_images_are(nano_data, nano_folder, text, tmp_path):
    coded = tmp_path / "codes"
    encode_dataset(nano_data, nano_folder, coded, EncodeSettings(batch_size=8))
    both = [job(nano(path, text), tmp_path) for path in (nano_data, coded)]
    first, second = (next(each.batches(0)) for each in both)
    jax.tree.map(np.testing.assert_array_equal, dict(first), dict(second))
    # Captions of both languages: the rows are not all of one.
    assert len({tuple(row) for row in first["ids"]}) > 4


def test_what_is_cut_is_said(nano_data, text, tmp_path, capsys):
    pieces = TextTokenizer.load(text)
    source = open_split(nano_data, "train")
    captions = [each for i in range(len(source)) for _, each in source[i].captions]
    lengths = [len(pieces.encode(caption)) + 1 for caption in captions]
    most = max(lengths)
    job(nano(nano_data, text, **{"model.text_len": most}), tmp_path)
    assert "split 'train'" not in capsys.readouterr().out
    job(nano(nano_data, text, **{"model.text_len": most - 1}), tmp_path)
    said = capsys.readouterr().out
    long, count = lengths.count(most), len(lengths)
    assert f"{long} of {count} captions of split 'train'" in said
    assert f"are cut to {most - 1} pieces" in said
    assert f"needs model.text_len {most}" in said


def test_export_is_the_encoder_alone(nano_data, nano_folder, text, tmp_path):
    settings = nano(nano_data, text)
    stage, run = find_stage(settings), RunConfig.of(settings)
    task = stage.task(run)
    # 285 pieces, padding and end before them, 100 sentinels behind.
    assert task.config.vocab_size == 512
    params, state = jax.jit(task.init)(jax.random.key(0))
    folder = model_folder.save(stage.export(run, params, state), tmp_path / "model")
    names = {"config.json", "text.model", "text_encoder.safetensors"}
    assert {path.name for path in folder.iterdir()} == names
    tokens, mask, pooled = load_text_encoder(folder).encode(["a red apple", "猫"])
    assert tokens.shape[::2] == (2, 16) and np.isfinite(pooled).all()


def test_the_papers_size_is_described():
    found = describe(config.load("experiments/imagen/text.py:paper", []))
    # The encoder's, and two layers of a decoder with a third branch.
    branch = 4 * 4096 * 4096 + 4096
    layer = 2 * branch + 3 * 4096 * 10240 + 4096
    decoder = 2 * layer + 4096 + 32 * 64
    assert found["parameters"] == 4_762_310_656 + decoder
    assert CONFIGS["v1_1-xxl"].vocab_size == 32128


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data.text": ""}, "'data.text' is required for task t5"),
        ({"data.tokenizer": "emoji"}, "reads texts alone .* leave out data.tokenizer"),
        ({"model.text_len": 2}, "model.text_len is 2, at least 3 is needed"),
        ({"model.heads": 0}, "heads is 0, expected 1 to"),
        ({"model.depth": 0}, "depth is 0, expected 1 to 1024"),
        ({"model.unroll": 0}, "unroll is 0, expected 1 to 1024"),
        ({"model.remat": "foo"}, "'model.remat' expects one of 'none', 'nothing_sav"),
        ({"model.max_distance": 16}, "16, expected more than half of num_buckets, 32"),
        ({"model.num_buckets": 3}, "num_buckets is 3, expected 4 to"),
        ({"task.decoder_depth": -3}, "decoder_depth is -3, expected 1 to 1024"),
        ({"task.share": 2}, "share is 2.0, expected between 0 and 1"),
        (
            {"model.text_len": 300, "task.share": 0.5, "task.mean_span": 1},
            "149 spans of a text are more than the 100 sentinels",
        ),
    ],
)
def test_what_does_not_fit(nano_data, text, tmp_path, values, message):
    with pytest.raises(UserError, match=message):
        job(nano(nano_data, text, **values), tmp_path)


def test_a_wordpiece_is_refused(nano_data, tmp_path):
    path = WordPieceTokenizer.train(["a cat", "a cat"], 6).save(tmp_path / "words")
    with pytest.raises(UserError, match="is a WordPiece, and a T5 reads SentencePiece"):
        job(nano(nano_data, path), tmp_path)


@pytest.mark.slow
def test_a_training_learns_and_exports(nano_data, text, tmp_path):
    """It knows more of ten images with two captions each than before."""
    values = {"train.steps": 150, "train.eval_every": 75, "train.save_every": 75}
    settings = nano(nano_data, text, **values, **{"optim.lr": 0.01})
    folder = launch.train(settings, tmp_path / "run")
    encoder = load_text_encoder(folder)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, lines) if "loss" in row]
    # 7.1 nats an id, and 0.6.
    assert losses[-1] < losses[0] / 4
    tokens, _, _ = encoder.encode(["a red apple 3", "猫 4"])
    assert tokens.shape == (2, 16, 16)
