"""The contract of text encoders: T5 with a tokenizer of ours, and with its own form."""

import dataclasses
import io
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece

from cogjax import model_folder
from cogjax.data.t5_text import T5Text
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.interop.t5 import read_t5
from cogjax.model import Component, Model
from cogjax.models.t5 import T5Config, T5Encoder
from cogjax.pipelines.text_encoder import T5TextEncoder, load_text_encoder
from tests.published import expected_tensors
from tests.reference import t5 as reference
from tests.reference.numeric import double

WORDS = "cat apple house flower rocket whale red blue line drawing of a flat icon"
TEXTS = [f"{word} {word}s 猫的线稿" for word in WORDS.split()]
LONG = "a line drawing of a whale and a red house and a blue flower and a rocket"
CAPTIONS = ("a red apple", "猫的线稿", LONG)


@pytest.fixture(scope="module")
def ours():
    return TextTokenizer.train(TEXTS, 285)


@pytest.fixture(scope="module")
def theirs():
    """A unigram model of the form of T5's spiece.model."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=out,
        model_type="unigram",
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=9,
    )
    return TextTokenizer(out.getvalue())


def config_of(text):
    sizes = {"width": 12, "depth": 2, "heads": 2, "head_dim": 5, "mlp_dim": 20}
    vocab_size = T5Text(text).vocab_size
    return T5Config(**sizes, vocab_size=vocab_size)


def tensors_of(config):
    """Random tensors of an encoder, under the names of the release."""
    rng = np.random.default_rng(0)
    shapes = expected_tensors(T5Encoder(config))
    shapes["shared.weight"] = shapes.pop("encoder.embed_tokens.weight")
    return {
        name: np.float32(rng.normal("norm.weight" in name, 0.3, shape))
        for name, shape in shapes.items()
    }


def write_release(folder, config, tensors, text):
    """A folder as Hugging Face writes it."""
    names = {"d_model": "width", "num_layers": "depth", "num_heads": "heads"}
    names |= {"d_kv": "head_dim", "d_ff": "mlp_dim", "vocab_size": "vocab_size"}
    names |= {"relative_attention_num_buckets": "num_buckets"}
    stored = {theirs: getattr(config, ours) for theirs, ours in names.items()}
    stored |= {"model_type": "t5", "feed_forward_proj": "gated-gelu"}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(stored))
    # As for the large ones, in several files.
    for i, part in enumerate((list(tensors)[::2], list(tensors)[1::2])):
        path = folder / f"model-{i}.safetensors"
        safetensors.numpy.save_file({name: tensors[name] for name in part}, path)
    text.save(folder / "spiece.model")
    return folder


@pytest.fixture(scope="module")
def release(theirs, tmp_path_factory):
    config = config_of(theirs)
    folder = tmp_path_factory.mktemp("release") / "t5"
    return write_release(folder, config, tensors_of(config), theirs)


def test_ids_of_both_forms(ours, theirs):
    for text in (ours, theirs):
        words = T5Text(text)
        ids = words.encode("a red apple", 24)
        assert ids[-1] == 1 and min(ids[:-1]) > 2
        assert words.encode("a red apple", 3) == [*ids[:2], 1]
        assert words.encode("", 24) == [1]
    assert T5Text(theirs).encode("a ☃", 24)[-2] == 2  # Unknown.
    pieces = ours.encode("a red apple")
    assert T5Text(ours).encode("a red apple", 24) == [*(i + 2 for i in pieces), 1]


def test_sentinels_are_those_of_the_release(ours, theirs):
    # 32,000 pieces: <extra_id_0> is 32,099, and the table has 32,128 rows.
    words = T5Text(theirs)
    assert words.sentinel(0) == theirs.size + 99 and words.sentinel(99) == theirs.size
    assert words.vocab_size % 128 == 0
    assert 0 <= words.vocab_size - words.sentinel(0) - 1 < 128
    assert T5Text(ours).sentinel(99) == ours.size + 2


def test_a_release_is_encoded_as_its_statement_says(release, theirs):
    encoder = load_text_encoder(release)
    tokens, mask, pooled = encoder.encode(CAPTIONS)
    words, tensors = T5Text(theirs), double(tensors_of(encoder.config))
    assert tokens.shape == (3, 32, 12) and encoder.width == 12
    for i, caption in enumerate(CAPTIONS):
        ids = np.array(words.encode(caption, 256))
        want = reference.encoder(tensors, ids, np.ones(len(ids), bool), 2)
        assert mask[i].tolist() == [place < len(ids) for place in range(32)]
        np.testing.assert_allclose(tokens[i, : len(ids)], want, atol=2e-5)
        assert not np.asarray(tokens[i, len(ids) :]).any()
        np.testing.assert_allclose(pooled[i], want.mean(0), atol=2e-5)


def test_the_unread_end_of_a_text(release, theirs):
    component = Component(dataclasses.replace(config_of(theirs), text_len=9), {})
    encoder = T5TextEncoder(component, theirs)
    end = encoder.unread(LONG)
    read = theirs.decode(T5Text(theirs).encode(LONG, 9)[:-1])
    assert end and f"{read} {end}".replace(" ", "") == LONG.replace(" ", "")
    assert encoder.unread(read) == ""


def test_devices_and_neighbours_do_not_change_a_text(release):
    one = load_text_encoder(release)
    four = load_text_encoder(release, devices=jax.devices()[:4])
    short = one.encode(CAPTIONS[:1])
    assert short.tokens.shape == (1, 16, 12)
    split = four.encode(CAPTIONS)
    assert split.tokens.shape == (3, 32, 12)
    np.testing.assert_allclose(split.tokens[:1, :16], short.tokens, atol=1e-5)
    np.testing.assert_allclose(split.pooled[:1], short.pooled, atol=1e-5)
    assert one.digest == four.digest


def test_a_model_folder_gives_the_same(release, tmp_path):
    encoder = load_text_encoder(release)
    config, params, text = read_t5(release)
    parts = {"text_encoder": Component(config, params)}
    folder = model_folder.save(Model("", parts, text=text), tmp_path / "model")
    again = load_text_encoder(folder)
    assert again.digest == encoder.digest
    with pytest.raises(UserError, match="a text_encoder is needed, this one has tok"):
        load_text_encoder("emoji")


def test_what_does_not_fit(release, tmp_path):
    encoder = load_text_encoder(release)
    component = Component(encoder.config, {})
    with pytest.raises(UserError, match="has 256 ids, its tokenizer needs 512"):
        T5TextEncoder(component, TextTokenizer.train(TEXTS, 290))
    stored = json.loads((release / "config.json").read_text())
    del stored["d_kv"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="config.json has no d_kv: a T5 of version 1.0"):
        load_text_encoder(tmp_path)
    stored |= {"d_kv": 5, "feed_forward_proj": "gated-silu"}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="has feed_forward_proj 'gated-silu'"):
        load_text_encoder(tmp_path)
    stored |= {"num_heads": "x", "feed_forward_proj": "gated-gelu"}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match="config.json: config key 'heads' expects a wh"):
        load_text_encoder(tmp_path)
