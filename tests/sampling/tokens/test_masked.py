"""Masked decoding against its statement in float64 numpy, network and all."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.sampling.tokens.autoregressive import Sampler, image_keys
from cogjax.sampling.tokens.masked import Unmasking, sample_masked, schedule
from tests.programs import random_params
from tests.reference import masked as statement
from tests.reference import transformer as reference
from tests.reference.numeric import double

NUM_CODES, GRID, NUM_STEPS = 24, 3, 4
VOCAB = Vocab(NUM_CODES, 20)
MASK = VOCAB.command("[MASK]")
LAYOUT = Layout(VOCAB, text_len=5, image_len=GRID**2, fixed=True, masked=True)
CONFIG = cogview.make_transformer(
    cogview.TransformerConfig(width=16, depth=2, heads=2, dropout=0.0, text_len=5),
    LAYOUT,
)
TEXTS = [[3, 1, 4, 1, 5], [9, 2]]
GREEDY = Sampler(0, guidance=2.0)
SAMPLE = jax.jit(sample_masked, static_argnums=0)
KEYS = image_keys(7, 0, 4)


@pytest.fixture(scope="module")
def params():
    return random_params(ImageLM(CONFIG), seed=1, std=0.4)


def forced():
    """Codes that stay: two of the first image, none of the others."""
    codes = np.full((4, GRID**2), -1)
    codes[0, [1, 6]] = 20, 11
    return codes


def run(params, texts=TEXTS, codes=None, sampler=GREEDY, choice=0.0, steps=NUM_STEPS):
    """Codes [b, n] of images of texts, with guidance."""
    codes = forced() if codes is None else codes
    return np.asarray(
        SAMPLE(
            ImageLM(CONFIG),
            scoring(params, (0, NUM_CODES)),
            LAYOUT.prompts([*texts, ()]),
            KEYS[: len(codes)],
            codes,
            unmasking=Unmasking.of(MASK, steps, choice, (codes < 0).sum(1)),
            sampler=sampler.numbers(),
        )
    )


def logits(params, text, codes):
    """[n, v] in float64 of a text alone, without padding."""
    prompt = LAYOUT.prompt(text)
    ids = [*prompt, *(MASK if code is None else code for code in codes)]
    places = [*range(len(prompt)), *(LAYOUT.image_start + np.arange(len(codes)))]
    image = reference.image_keys("full", GRID, 0, causal=False)
    sees = reference.drawing_sees(len(prompt), image, text_causal=False)
    form, masks = reference.Form(), [sees] * CONFIG.depth
    found = reference.logits(double(params), [ids], [places], masks, form)
    return found[0, len(prompt) :, :NUM_CODES]


def guided(params, text, codes):
    with_text, without = (logits(params, each, codes) for each in (text, ()))
    return without + GREEDY.guidance * (with_text - without)


def stated(params, codes, steps, noise):
    """What the statement says of four images, two of each text."""
    found = []
    for i, row in enumerate(codes):
        given = [None if code < 0 else int(code) for code in row]
        left = statement.left_masked(given.count(None), steps)
        predict = functools.partial(guided, params, TEXTS[i // 2])
        found.append(statement.decode(predict, given, left, noise[i]))
    return np.array(found)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 12, 63, 64, 100])
def test_the_schedule_is_the_cosine(steps):
    """64 codes, fewer, one and none in one batch."""
    counts = [64, 40, 1, 0]
    want = [statement.left_masked(count, steps) for count in counts]
    found = schedule(steps, np.array(counts))
    np.testing.assert_array_equal(found.T, want)
    assert found.dtype == np.int32 and (found[-1] == 0).all()
    unmasked = -np.diff(np.concatenate([[counts], found]), axis=0)
    assert (unmasked[: min(steps, 64), 0] >= 1).all()


def test_the_noise_falls_to_zero_in_a_line():
    noise = Unmasking.of(MASK, 4, 8.0, np.array([9])).noise
    np.testing.assert_allclose(noise, [6, 4, 2, 0])


def test_decoding_is_what_the_statement_says(params):
    """Texts of two lengths share a batch with the empty one, and two codes stay."""
    noise = np.zeros((4, NUM_STEPS, GRID**2))
    found = run(params)
    np.testing.assert_array_equal(found, stated(params, forced(), NUM_STEPS, noise))
    np.testing.assert_array_equal(found[0, [1, 6]], [20, 11])


def test_the_choice_is_by_chance_too(params):
    def gumbel(key, step):
        own = jax.random.split(jax.random.fold_in(key, step))[1]
        return jax.random.gumbel(own, (GRID**2,))

    factor = 20 * (1 - np.arange(1, NUM_STEPS + 1) / NUM_STEPS)
    noise = [[gumbel(key, step) for step in range(NUM_STEPS)] for key in KEYS]
    noise = np.array(noise) * factor[:, None]
    found = run(params, choice=20.0)
    np.testing.assert_array_equal(found, stated(params, forced(), NUM_STEPS, noise))
    assert (found != run(params)).any()


def test_as_many_steps_as_codes_is_the_surest_one_by_one(params):
    nothing = np.full((4, GRID**2), -1)
    want = []
    for i in range(4):
        codes = [None] * GRID**2
        while None in codes:
            found = guided(params, TEXTS[i // 2], codes)
            probs = np.exp(found - found.max(1, keepdims=True))
            sure = (probs / probs.sum(1, keepdims=True)).max(1)
            sure[[code is not None for code in codes]] = -1
            codes[sure.argmax()] = int(found[sure.argmax()].argmax())
        want.append(codes)
    np.testing.assert_array_equal(run(params, codes=nothing, steps=GRID**2), want)


def test_an_image_does_not_depend_on_its_company(params):
    """Sampled with a temperature: images of one text differ by their keys alone."""
    sampler = dataclasses.replace(GREEDY, temperature=2.0)
    free = np.full((4, GRID**2), -1)
    together = run(params, codes=free, sampler=sampler, choice=4.5)
    assert (together >= 0).all() and (together < NUM_CODES).all()
    assert len({tuple(row) for row in together}) == 4
    alone = run(params, TEXTS[:1], free[:1], sampler, 4.5)
    np.testing.assert_array_equal(alone[0], together[0])
