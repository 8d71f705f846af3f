"""`cogjax bench --config`: a transformer of a config, measured as it is planned."""

import json

import numpy as np
import pytest

from cogjax import cli
from cogjax.bench_config import ConfigSetup
from cogjax.errors import UserError
from cogjax.families.dalle_mini import presets as dalle_mini
from cogjax.families.dalle_mini.layout import Layout as TextLayout
from cogjax.families.llamagen import presets as llamagen
from cogjax.families.llamagen.layout import Layout, Vocab
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from tests.importing import decoders, training

MINI = EncoderDecoderConfig(
    width=16,
    depth=2,
    heads=2,
    mlp_dim=40,
    text_vocab_size=300,
    text_len=12,
    vocab_size=25,
    image_len=16,
    start=24,
)


@pytest.fixture
def tiny(monkeypatch):
    """Small networks under the name of a size."""
    vocab = training.LAYOUTS["dalle-mini"].vocab
    mini, captions = TextLayout(vocab, 12, 16), Layout(Vocab(24, 99, True), 7, 25)
    classes = training.LAYOUTS["llamagen-c2i"]
    for table, size in (
        (dalle_mini.RELEASED, (None, mini, MINI)),
        (llamagen.CLASSES, (None, classes, decoders.C2I)),
        (llamagen.CAPTIONS, (None, captions, decoders.T2I)),
    ):
        monkeypatch.setitem(table, "tiny", size)


@pytest.mark.parametrize(
    ("config", "length"),
    [("dalle_mini/released.py:tiny", 16), ("llamagen/released.py:captions,tiny", 25)],
)
def test_all_codes_are_sampled(tiny, config, length):
    """And prompts are read, encoded ones and those of vectors."""
    path = f"experiments/{config}"
    decode = ConfigSetup("decode", path, weights="int8").work("own")
    state = decode.run()
    assert int(state.step) == length and decode.tokens == 2 * length
    assert np.asarray(state.tokens).min() >= 0
    # Two rows an image, of guidance: weights, caches and logits are counted.
    assert decode.flops > 0 and decode.read > 0
    prefill = ConfigSetup("prefill", path).work("own")
    assert np.isfinite(np.asarray(prefill.run().logits)).all()


def test_the_command(tiny, tmp_path, capsys):
    """Training of a config with a change; flags that it decides are refused."""
    command = ["bench", "train", "--config", "experiments/llamagen/released.py:tiny"]
    out = tmp_path / "bench.json"
    words = ["--config.model.dtype=float32", "--runs", "1", "--json", str(out)]
    assert cli.main([*command, *words]) == 0
    report = json.loads(out.read_text())
    assert report["tokens_per_second"] > 0 and report["roofline_fraction"] > 0
    for more, line in (
        (["--size", "nano"], "--size is not for --config, which has its own"),
        (["--one-prompt"], "--one-prompt is not for --config"),
        (["--config", "x.py"], "x.py"),
    ):
        capsys.readouterr()
        assert cli.main([*command, *more]) == 2
        assert line in capsys.readouterr().err
    assert cli.main(["bench", "train", "--config.model.dtype=float32"]) == 2
    assert "is of a config: give --config CONFIG" in capsys.readouterr().err
    command[1] = "tokenizer-decode"
    assert cli.main(command) == 2
    assert "--config is for train, prefill, decode" in capsys.readouterr().err


def test_an_update_that_would_be_dropped_is_not_measured():
    """DALL-E's texts have ids of their own, which zeros are not."""
    words = ("--config.data.tokenizer=shapes", "--config.data.text=shapes")
    setup = ConfigSetup("train", "dalle/shapes:transformer,nano", words)
    with pytest.raises(UserError, match="no loss for a batch of zeros"):
        setup.work("own")
