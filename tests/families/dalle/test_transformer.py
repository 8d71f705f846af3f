"""DALL-E's transformer and loss against their statement, and what it samples."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax.families.dalle import presets
from cogjax.families.dalle.layout import Layout, PaddedVocab
from cogjax.models.dvae import DVAEConfig
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.ops.masks import sparse_kinds
from cogjax.sampling.tokens.autoregressive import OutputIds, Sampler, sample_tokens
from cogjax.tasks.lm import LMTask
from tests.programs import random_params
from tests.reference import transformer as reference
from tests.reference.numeric import double

TEXT_LEN, GRID, NUM_CODES, NUM_PIECES, DEPTH = 5, 4, 24, 20, 4
LAYOUT = Layout(PaddedVocab(NUM_CODES, NUM_PIECES, TEXT_LEN), GRID**2)
SETTINGS = presets.TransformerConfig(
    width=16, depth=DEPTH, heads=2, dropout=0.0, text_len=TEXT_LEN, kernel=3
)
CONFIG = presets.make_transformer(SETTINGS, LAYOUT)
RNG = np.random.default_rng(0)
TEXTS = [RNG.integers(0, NUM_PIECES, n).tolist() for n in (5, 2, 0)]
CODES = RNG.integers(0, NUM_CODES, (3, GRID**2))
# Every fourth layer from the second sees columns, the last a window, others rows.
KINDS = ("row", "column", "row", "conv")


def masks():
    images = [reference.image_keys(kind, GRID, 1) for kind in KINDS]
    return [reference.drawing_sees(TEXT_LEN, x, text_causal=True) for x in images]


@pytest.fixture(scope="module")
def params():
    return random_params(ImageLM(CONFIG), std=0.4)


@pytest.fixture(scope="module")
def exact(params):
    """(ids int [3, 21], logits of all inputs in float64)."""
    ids = [[NUM_CODES + i for i in text] for text in TEXTS]
    ids = [
        [*text, *range(44 + len(text), 44 + TEXT_LEN), *codes]
        for text, codes in zip(ids, CODES, strict=True)
    ]
    ids = np.array(ids)
    positions = np.broadcast_to(np.arange(ids.shape[1] - 1), (3, ids.shape[1] - 1))
    form = reference.Form(sandwich=False, relaxed="none")
    sees = [mask[:-1, :-1] for mask in masks()]
    return ids, reference.logits(double(params), ids[:, :-1], positions, sees, form)


def test_logits(params, exact):
    ids, want = exact
    task = jax.jit(
        lambda p, x: ImageLM(CONFIG).apply(
            {"params": p}, x, np.broadcast_to(np.arange(x.shape[1]), x.shape)
        )[0]
    )
    got = task(params, ids[:, :-1])
    assert np.abs(want).max() > 1
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max(), rtol=0)


def test_the_loss_is_an_eighth_text(params, exact):
    """Text competes with text and padding, codes with codes."""
    ids, logits = exact
    rows = [
        LAYOUT.text_to_image(text, codes, 1 / 8)
        for text, codes in zip(TEXTS, CODES, strict=True)
    ]
    found, weights = (np.stack(part) for part in zip(*rows, strict=True))
    batch = {"ids": found, "weights": weights}
    np.testing.assert_array_equal(batch["ids"], ids)
    task = LMTask(CONFIG, NUM_CODES, num_text=TEXT_LEN, length=LAYOUT.length)
    metrics = jax.jit(task.eval_metrics)(params, {}, batch, None)
    text, image = [], []
    for row, each in zip(ids, logits, strict=True):
        text += list(reference.next_token_losses(each, row, NUM_CODES)[: TEXT_LEN - 1])
        image += list(
            reference.next_token_losses(each, row, 0, NUM_CODES)[TEXT_LEN - 1 :]
        )
    assert float(metrics["text_loss"]) == pytest.approx(np.mean(text), rel=1e-5)
    assert float(metrics["image_loss"]) == pytest.approx(np.mean(image), rel=1e-5)
    wanted = np.mean(text) / 8 + 7 * np.mean(image) / 8
    assert float(metrics["loss"]) == pytest.approx(wanted, rel=1e-5)


def test_sampling_takes_what_the_whole_sequence_says(params):
    """Greedily: each code is the likeliest of the codes, by the statement."""
    prompts = LAYOUT.prompts(TEXTS)
    net = ImageLM(dataclasses.replace(CONFIG, dropout=0.0))
    codes = jax.jit(
        lambda params, keys: sample_tokens(
            net,
            scoring(params, (0, NUM_CODES)),
            prompts,
            keys,
            np.full((3, GRID**2), -1),
            ids=OutputIds(np.ones(NUM_CODES, bool)),
            sampler=Sampler(temperature=0).numbers(),
        )
    )(params, jax.random.split(jax.random.key(0), 3))
    ids = np.concatenate([prompts.ids, codes], axis=1)
    positions = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    form = reference.Form(sandwich=False, relaxed="none")
    logits = reference.logits(double(params), ids, positions, masks(), form)
    best = logits[:, TEXT_LEN - 1 : -1, :NUM_CODES].argmax(-1)
    np.testing.assert_array_equal(codes, best)


def test_paper():
    """Section 2.2 and appendix B.1: 12B parameters, 1,280 positions, 64 layers."""
    layout = presets.make_layout(DVAEConfig(), 16384, presets.TRANSFORMERS["paper"])
    config = presets.make_transformer(presets.TRANSFORMERS["paper"], layout)
    assert layout.length == 1280 and config.head_dim == 64
    assert (config.dropout, config.alpha, config.norm_scope) == (0, 1, "none")
    assert config.vocab_size == 16384 + 8192 + 256
    assert (config.grid, config.table_positions) == (32, 256)
    names = [kind.name for kind in config.kinds]
    assert names[:8] == ["row", "column", "row", "row", "row", "column", "row", "row"]
    assert names[-1] == "conv" and names.count("column") == 16
    assert config.kinds == sparse_kinds(64, 11)
    assert {kind.kernel for kind in config.kinds} == {11}
    ids = np.zeros((1, 2), np.int32)
    shapes = jax.eval_shape(ImageLM(config).init, jax.random.key(0), ids, ids)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == 12_195_290_880


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": 4}, "kernel is 4, expected an odd number"),
        ({"text_len": 1}, "text_len is 1, expected at least 2"),
        ({"window": 8}, "set it to 0"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        presets.TransformerConfig(**settings)
