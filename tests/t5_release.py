"""A small T5 as Hugging Face writes it, with random weights and a unigram tokenizer."""

import io
import json

import numpy as np
import safetensors.numpy
import sentencepiece

from cogjax.data.t5_text import T5Text
from cogjax.data.text import TextTokenizer
from cogjax.models.t5 import T5Config, T5Encoder
from tests.published import expected_tensors

WORDS = "cat apple house flower rocket whale red blue line drawing of a flat icon"
TEXTS = [f"{word} {word}s 猫的线稿" for word in WORDS.split()]


def unigram():
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
