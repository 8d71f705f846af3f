"""Layers of a window and pivots against float64 numpy, in every way they are used.

24 codes and up to 5 pieces of text; blocks of 3, of which a query sees 2, and 7 pivots
among the codes. Prompts of 8, 4 and 3 tokens begin their images at all places of a
block.
"""

import functools

import jax
import numpy as np
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import image_to_text
from cogjax.models.inference import make_cache, scoring
from cogjax.ops.pivot_attention import fixed_codes
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    image_keys,
    prefill,
)
from cogjax.sampling.tokens.beam import beam_search
from cogjax.sampling.tokens.rerank import caption_losses, code_losses
from cogjax.tasks.lm import LMTask
from tests.programs import random_params
from tests.reference import transformer as reference
from tests.reference.numeric import double

NUM_CODES, NUM_PIECES, COUNT, TEXT_LEN, DEPTH = 24, 20, 24, 5, 2
IDS = reference.Ids(NUM_CODES, NUM_PIECES)
LAYOUT = Layout(Vocab(NUM_CODES, NUM_PIECES), TEXT_LEN, COUNT, shapes=((4, 6),))
# 9 positions are text and commands: 16 pivots are 7 of the image, for two each.
WINDOW, TIMES, NUM_PIVOTS, IMAGE_PIVOTS = 3, 2, 16, 7
CONFIG = cogview.make_transformer(
    cogview.TransformerConfig(
        width=16,
        depth=DEPTH,
        heads=2,
        dropout=0.0,
        text_len=TEXT_LEN,
        window=WINDOW,
        window_times=TIMES,
        num_pivots=NUM_PIVOTS,
    ),
    LAYOUT,
)
LM, READER = ImageLM(CONFIG), ImageLM(image_to_text(CONFIG))
RNG = np.random.default_rng(0)
TEXTS = [[3, 1, 4, 1, 5], [9]]
CODES = RNG.integers(0, NUM_CODES, (4, COUNT)).astype(np.int32)
SEP = IDS.command("SEP")


@pytest.fixture(scope="module")
def params():
    return random_params(LM)


def masks(length, start, codes):
    """Masks of each layer, for a sequence whose image begins at `start`."""
    found = []
    for chosen in codes:
        others = set(range(start)) | set(range(start + COUNT, length))
        pivots = others | {start + code for code in chosen}
        size = WINDOW, TIMES, pivots, np.log(2)
        found.append(reference.window_sees(length, *size))
    return found


def logits(params, ids, start, codes=None):
    """[t, v] of one sequence, by the statement; codes: pivots of each layer."""
    codes = fixed_codes(DEPTH, COUNT, IMAGE_PIVOTS) if codes is None else codes
    seen, places = masks(len(ids), start, codes), np.arange(len(ids))[None]
    found = reference.logits(
        double(params), np.array([ids]), places, seen, reference.Form()
    )
    return found[0]


def drawing(params, text, codes, **settings):
    """[COUNT, NUM_CODES] that predict the codes of an image after a text."""
    ids = IDS.cogview_drawing(text, codes.tolist())[:-1]
    start = len(text) + 3
    return logits(params, ids, start, **settings)[start - 1 : -1, :NUM_CODES]


def reading(params, text, codes):
    """[len(text) + 1, NUM_PIECES + 27] that predict a text after an image."""
    ids = IDS.cogview_reading(text, codes.tolist())[:-1]
    return logits(params, ids, 2)[COUNT + 3 :, NUM_CODES : IDS.end]


def close(got, want):
    assert np.abs(want).max() > 1
    np.testing.assert_allclose(got, want, rtol=0, atol=3e-5 * np.abs(want).max())


PREFILL = jax.jit(prefill, static_argnums=0, static_argnames=("guided", "window"))
ADVANCE = jax.jit(advance, static_argnums=0)
OF_CODES = OutputIds(np.ones(NUM_CODES, bool))


@functools.cache
def apply(net):
    return jax.jit(net.apply)


def test_hides_something(params):
    """What is checked below is no attention to all, by far more than rounding."""
    text, codes = TEXTS[0], CODES[0]
    windowed = drawing(params, text, codes)
    ids = IDS.cogview_drawing(text, codes.tolist())[:-1]
    dense = reference.logits(
        double(params),
        np.array([ids]),
        np.arange(len(ids))[None],
        [reference.causal(len(ids))] * DEPTH,
        reference.Form(),
    )[0, len(text) + 2 : -1, :NUM_CODES]
    assert (np.abs(windowed - dense).max(axis=1)[6:] > 0.1).all()


@pytest.fixture(scope="module")
def steps(params):
    """Logits [8, COUNT, v] as codes are sampled: 2 images of 2 texts, and without."""
    own = scoring(params, (0, NUM_CODES))
    prompts = LAYOUT.prompts([*TEXTS, []])
    state = PREFILL(LM, own, prompts, image_keys(0, 0, 4), CODES, guided=1)
    found, sampler = [state.logits], Sampler(guidance=2.0).numbers()
    for stop in range(1, COUNT):
        state = ADVANCE(LM, own, state, stop, ids=OF_CODES, sampler=sampler)
        found.append(state.logits)
    return np.stack(found, axis=1)


def test_sampling_sees_what_training_sees(params, steps):
    """At every position, in both branches of guidance, whatever the text's length."""
    texts = [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1], [], [], [], []]
    for got, text, codes in zip(steps, texts, [*CODES, *CODES], strict=True):
        close(got, drawing(params, text, codes))


def test_codes_are_scored_as_they_are_sampled(params):
    """The prompts' padding comes first, and the last code is no input."""
    own, prompts = scoring(params, (0, NUM_CODES)), LAYOUT.prompts(TEXTS)
    run = jax.jit(code_losses, static_argnums=0)
    got = np.asarray(run(LM, own, prompts, CODES[:2]))
    for losses, text, codes in zip(got, TEXTS, CODES, strict=False):
        found = drawing(params, text, codes)
        want = reference.next_token_losses(found, [0, *codes])
        np.testing.assert_allclose(losses, want, rtol=2e-4, atol=1e-4)


@pytest.fixture(scope="module")
def read(params):
    """Two images are read, for two texts each: those of TEXTS, and the end."""
    own = scoring(params, (NUM_CODES, IDS.end))
    forced = np.full((4, TEXT_LEN), SEP)
    forced[:2], forced[2:, :1] = IDS.text(TEXTS[0]), IDS.text(TEXTS[1])
    prompts = LAYOUT.caption_prompts(CODES[:2])
    return own, PREFILL(READER, own, prompts, image_keys(0, 0, 4), forced)


def test_captions_are_scored_and_written_alike(params, read):
    """A cache of an image holds its pivots and its end alone, and all text behind."""
    own, state = read
    rows = [
        LAYOUT.image_to_text(text, codes)
        for text, codes in zip(TEXTS, CODES, strict=False)
    ]
    ids, weights = (np.stack(x) for x in zip(*rows, strict=True))
    run = jax.jit(caption_losses, static_argnums=0, static_argnames="first_id")
    got = np.asarray(run(READER, own, ids, weights, first_id=NUM_CODES))
    held = state.cache[0].prefix_key.shape[-1]
    assert held == NUM_PIVOTS + WINDOW * TIMES - 1 < COUNT + 4
    written, settings = [state.logits], {"sampler": Sampler().numbers()}
    settings["ids"] = OutputIds(np.ones(NUM_PIECES + 27, bool), NUM_CODES)
    for stop in range(1, TEXT_LEN + 1):
        state = ADVANCE(READER, own, state, stop, **settings)
        written.append(state.logits)
    written = np.stack(written, axis=1)
    for i, text in enumerate(TEXTS):
        want = reading(params, text, CODES[i])
        close(written[2 * i, : len(text) + 1], want)
        targets = [0, *np.array([*IDS.text(text), SEP]) - NUM_CODES]
        losses = reference.next_token_losses(want, targets)
        np.testing.assert_allclose(got[i], losses.mean(), rtol=1e-4)


def test_beams_share_the_image(params, read):
    """The score of what beams find is that of the statement."""
    own, state = read
    ids = OutputIds(np.ones(NUM_PIECES + 27, bool), NUM_CODES, SEP)
    run = jax.jit(beam_search, static_argnums=0, static_argnames="beams")
    found, scores = map(np.asarray, run(READER, own, state, ids=ids, beams=2))
    for codes, [text], [score] in zip(CODES, found, scores, strict=False):
        length = int(np.argmax(text == SEP)) if (text == SEP).any() else TEXT_LEN
        ended = length < TEXT_LEN
        pieces = text[:length] - NUM_CODES
        want = reading(params, pieces, codes)[: length + ended]
        targets = [0, *np.asarray(text[: length + ended]) - NUM_CODES]
        losses = reference.next_token_losses(want, targets)
        np.testing.assert_allclose(score, -losses.mean(), rtol=1e-4)


def test_several_codes_a_call(params):
    """As speculation does: each sequence at a place of its own, some taken back."""
    own = scoring(params, (0, NUM_CODES))
    net, texts = {"params": own}, (TEXTS[0], TEXTS[1])
    prompts = LAYOUT.prompts(texts)
    state = PREFILL(LM, own, prompts, image_keys(0, 0, 2), CODES[:2], window=4)
    cache, run = state.cache, apply(LM)
    want = np.stack([drawing(params, *x) for x in zip(texts, CODES, strict=False)])
    for place in ([0, 0], [4, 2], [6, 6], [9, 10], [13, 14], [16, 18], [20, 20]):
        at = np.array(place)[:, None] + np.arange(4)
        ids = np.take_along_axis(CODES[:2], at, axis=1)
        positions = prompts.next_position[:, None] + at
        got, cache = run(
            net, ids, positions, state.visible, cache, np.array(place, np.int32)
        )
        got = np.asarray(got)
        for row in range(2):
            seen = at[row] < COUNT - 1  # The last code predicts no other.
            close(got[row][seen], want[row][at[row][seen] + 1])


def test_training_has_pivots_of_each_layer_and_row(params):
    task = LMTask(CONFIG, NUM_CODES, length=LAYOUT.length)
    texts = *TEXTS, [], [7, 7]
    pairs = zip(texts, CODES, strict=True)
    ids = np.stack([LAYOUT.text_to_image(text, codes)[0] for text, codes in pairs])
    key = jax.random.key(5)
    codes = np.asarray(jax.jit(lambda ids: task._pivots(ids, key)[0])(ids[:, :-1]))
    assert codes.shape == (DEPTH, 4, IMAGE_PIVOTS)
    assert len({tuple(sorted(x)) for x in codes.reshape(-1, IMAGE_PIVOTS)}) == 4 * DEPTH
    batch = {"ids": ids, "weights": np.ones(ids.shape, np.float32)}
    loss, _ = jax.jit(task.loss)(params, {}, batch, key)
    of_rows = []
    for row, text in enumerate(texts):
        found = logits(params, ids[row, :-1], len(text) + 3, codes[:, row])
        of_rows.append(reference.next_token_losses(found, ids[row]))
    np.testing.assert_allclose(loss, np.mean(of_rows), rtol=1e-5)


def test_evaluation_sees_the_fixed_pivots(params):
    task = LMTask(CONFIG, NUM_CODES, length=LAYOUT.length)
    ids = LAYOUT.text_to_image(TEXTS[0], CODES[0])[0][None]
    batch = {"ids": ids, "weights": np.ones(ids.shape, np.float32)}
    got = jax.jit(task.eval_metrics)(params, {}, batch, None)["loss"]
    want = logits(params, ids[0, :-1], len(TEXTS[0]) + 3)
    want = reference.next_token_losses(want, ids[0]).mean()
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_caches_hold_a_window_and_pivots():
    """At 50 x 50 codes: the window's 768, the pivots before it, and the text."""
    layout = Layout(Vocab(1024, 1000), 61, 2500)
    settings = {"width": 64, "depth": 2, "heads": 1, "window": 128}
    config = cogview.make_transformer(cogview.TransformerConfig(**settings), layout)
    caches = jax.eval_shape(lambda: make_cache(config, 1, 64, 2, 2500))
    for cache in caches:
        slots = cache.key.shape[-1] + cache.prefix_key.shape[-1]
        assert slots < 6 * 128 + 768 + 64
    reader = image_to_text(config)
    [cache, _] = jax.eval_shape(lambda: make_cache(reader, 1, 2504, 2, 61))
    assert cache.prefix_key.shape[-1] == 768 + 767
    assert cache.key.shape[-1] == 61
