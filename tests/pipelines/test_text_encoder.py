"""The contract of text encoders: T5 with a tokenizer of ours, and with its own form."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from cogjax import model_folder
from cogjax.data.t5_text import T5Text
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.interop.t5 import read_t5
from cogjax.model import Component, Model
from cogjax.pipelines.text_encoder import NetworkTextEncoder, load_text_encoder
from tests.reference import t5 as reference
from tests.reference.numeric import double
from tests.t5_release import TEXTS, config_of, tensors_of, unigram, write_release

LONG = "a line drawing of a whale and a red house and a blue flower and a rocket"
CAPTIONS = ("a red apple", "猫的线稿", LONG)


@pytest.fixture(scope="module")
def ours():
    return TextTokenizer.train(TEXTS, 285)


@pytest.fixture(scope="module")
def theirs():
    return unigram()


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
    encoder = NetworkTextEncoder(component, theirs)
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
        NetworkTextEncoder(component, TextTokenizer.train(TEXTS, 290))
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
