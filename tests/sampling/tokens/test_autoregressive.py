"""Decoding against full forwards: few programs, each for many rows and many numbers."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts, left_pad
from cogjax.models.image_lm import ImageLM
from cogjax.models.inference import scoring
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    image_keys,
    prefill,
    sample_tokens,
)
from tests.programs import NANO, full_forward, random_params

LM = ImageLM(NANO)
A, B, C, D = [100, 101, 102, 103], [110], [104, 105], [106, 107, 108]
# Six images of two prompts, and two prompts more.
ROWS = [A, A, A, B, B, B, C, D]
EMPTY = [110, 111]
NUM_TOKENS = 6
# One structure of numbers, so one program; one token to choose from is greedy.
USUAL, GREEDY = Sampler(1.0, 20, 0.95), Sampler(1.0, 1, 0.95)
IDS = OutputIds(np.ones(40, bool))
PREFILL, SAMPLE, ADVANCE = (
    jax.jit(function, static_argnums=0)
    for function in (prefill, sample_tokens, advance)
)
KEYS = jax.jit(image_keys, static_argnums=(1, 2))


@pytest.fixture(scope="module")
def weights():
    return random_params(LM, seed=1)


@pytest.fixture(scope="module")
def params(weights):
    """Those with which image codes are scored alone."""
    return scoring(weights, (0, 40))


def nothing(rows):
    """No token is forced."""
    return np.full((rows, NUM_TOKENS), -1)


def padded(prompts):
    return Prompts(*left_pad(prompts, 5, 127))


def start(params, forced=None):
    forced = nothing(8) if forced is None else forced
    return PREFILL(LM, params, padded(ROWS), KEYS(7, 0, 8), forced)


@pytest.fixture(scope="module")
def state(params):
    """The prompts of ROWS are read, nothing is sampled."""
    return start(params)


def go_on(params, state, sampler=USUAL, stop_at=NUM_TOKENS, ids=IDS):
    return ADVANCE(LM, params, state, stop_at, ids=ids, sampler=sampler.numbers())


@pytest.fixture(scope="module")
def free(params, state):
    """Tokens of ROWS without a stop."""
    return np.asarray(go_on(params, state).tokens)


def draw(params, prompts, rows, sampler=USUAL, model=LM, forced=None):
    """`sample_tokens`; with guidance the last prompt is the empty one."""
    forced = nothing(rows) if forced is None else forced
    args = scoring(params, (0, 40)), padded(prompts), KEYS(7, 0, rows), forced
    return np.asarray(SAMPLE(model, *args, ids=IDS, sampler=sampler.numbers()))


def following(params, prompts, drawn, model=LM):
    """[b, m, 40] logits of each drawn token by a full forward, padded behind."""
    ids = np.zeros((8, 5 + NUM_TOKENS), np.int32)
    for row, prompt, tokens in zip(ids, prompts, drawn, strict=False):
        row[: len(prompt) + NUM_TOKENS] = [*prompt, *tokens]
    logits = np.asarray(full_forward(model, params, ids))
    each = zip(logits, prompts, drawn, strict=False)
    return np.stack([x[len(p) - 1 :][:NUM_TOKENS, :40] for x, p, _ in each])


def test_greedy_decoding_follows_the_full_forward(weights, params, state):
    """Prompts of four lengths in one batch: padding changes nothing."""
    drawn = np.asarray(go_on(params, state, GREEDY).tokens)
    logits = following(weights, ROWS, drawn)
    np.testing.assert_array_equal(logits.argmax(-1), drawn)


def test_forced_tokens_stay_and_condition_the_rest(weights, params):
    forced = nothing(8)
    forced[:, :3] = [5, 6, 7]
    drawn = np.asarray(go_on(params, start(params, forced), GREEDY).tokens)
    np.testing.assert_array_equal(drawn[:, :3], forced[:, :3])
    logits = following(weights, ROWS, drawn)
    np.testing.assert_array_equal(logits[:, 3:].argmax(-1), drawn[:, 3:])


def test_tokens_are_the_same_in_every_batch_size(weights, free):
    """Also where the images of a prompt share its prefix."""
    np.testing.assert_array_equal(draw(weights, [A, B], 6), free[:6])
    np.testing.assert_array_equal(draw(weights, [A], 1), free[:1])
    assert len({tuple(row) for row in free}) == 8


def test_sparse_layers_draw_what_the_full_forward_says(weights):
    kinds = (LayerKind("row"), LayerKind("conv", kernel=3))
    sequence = Sequence.text_to_image(5, (2, 3))
    model = ImageLM(dataclasses.replace(NANO, sequence=sequence, kinds=kinds))
    prompts = [[100, 101, 102, 103, 104], [110, 111, 112, 113, 114]]
    drawn = draw(weights, prompts, 2, GREEDY, model)
    logits = following(weights, prompts, drawn, model)
    np.testing.assert_array_equal(logits.argmax(-1), drawn)
    # Padded prompts too are drawn alike in every company.
    together = draw(weights, [prompts[0][2:], prompts[1]], 2, model=model)
    alone = draw(weights, [prompts[0][2:]], 1, model=model)
    np.testing.assert_array_equal(alone[0], together[0])


def test_numbers_say_what_is_used_and_how():
    """Values that are off are no part of the program, and each has one dtype."""
    assert Sampler(1, 0, 1, 1).numbers() == Sampler(1.0).numbers()
    assert Sampler(0, 5, 0.5, 2).numbers() == (None, None, None, 2)
    numbers = Sampler(1, 10**12, 0.5, 2).numbers()
    assert numbers == (1, 2**31 - 1, 0.5, 2)
    assert [x.dtype.name for x in numbers] == ["float32", "int32", "float32", "float32"]


def test_guidance_equals_two_forwards(weights):
    """Images of one prompt share its prefix; each begins with tokens of its own."""
    sampler, forced = Sampler(temperature=0, guidance=3.0), nothing(6)
    forced[:, :2] = np.arange(12).reshape(6, 2)
    drawn = draw(weights, [A, B, EMPTY], 6, sampler, forced=forced)
    with_text = following(weights, ROWS[:6], drawn)
    without = following(weights, [EMPTY] * 6, drawn)
    picked = (without + 3 * (with_text - without)).argmax(-1)
    np.testing.assert_array_equal(picked[:, 2:], drawn[:, 2:])
    np.testing.assert_array_equal(drawn[:, :2], forced[:, :2])
    assert len({tuple(row) for row in drawn[:, 2:]}) > 2


def test_a_stop_ends_a_sequence_and_the_loop_when_all_have(params, state, free):
    stop = int(free[0, 2])
    ids = dataclasses.replace(IDS, end=stop)
    drawn = np.asarray(go_on(params, state, ids=ids).tokens)
    assert (drawn[0] == stop).any()
    for row, unstopped in zip(drawn, free, strict=True):
        end = list(unstopped).index(stop) if stop in unstopped else NUM_TOKENS
        np.testing.assert_array_equal(row[:end], unstopped[:end])
        assert (row[end:] == stop).all()
    # Seven are told to end at once, one ends by itself.
    forced = nothing(8)
    forced[1:, 0] = stop
    ended = go_on(params, start(params, forced), ids=ids)
    assert int(ended.step) == list(free[0]).index(stop) + 1
    assert (ended.tokens[1:] == stop).all() and int(ended.tokens[0, -1]) == stop


def test_in_pieces_as_in_one(params, state, free):
    for stop_at in (2, 3, NUM_TOKENS + 4):
        state = go_on(params, state, stop_at=stop_at)
        there = np.asarray(state.tokens) >= 0
        assert there[:, :stop_at].all() and not there[:, stop_at:].any()
    np.testing.assert_array_equal(state.tokens, free)


def test_each_token_is_drawn_by_its_own_number(state):
    assert len(np.unique(state.uniforms)) == state.uniforms.size == 8 * NUM_TOKENS


@pytest.mark.parametrize(
    ("prompts", "sequences", "form", "message"),
    [
        (2, 3, NANO.sequence, "2 prompts cannot share 3 sequences"),
        (1, 1, Sequence.text_to_image(4, (2, 3)), "a prompt of 5, expected 4 tokens"),
        (1, 1, Sequence.image_to_text((2, 3), 2), "a prompt of 5, expected 6 tokens"),
    ],
)
def test_prompts_must_fit(params, prompts, sequences, form, message):
    model = ImageLM(dataclasses.replace(NANO, sequence=form))
    ids, padding = np.zeros((prompts, 5), np.int32), np.zeros(prompts, np.int32)
    keys, forced = np.zeros(sequences), nothing(sequences)
    with pytest.raises(ValueError, match=message):
        prefill(model, params, Prompts(ids, padding), keys, forced)


def test_image_keys_belong_to_the_image():
    keys = {
        args: jax.random.key_data(KEYS(*args))
        for args in ((3, 2, 2), (3, 0, 4), (0, 0, 1), (1, 0, 1))
    }
    np.testing.assert_array_equal(keys[3, 2, 2], keys[3, 0, 4][2:])
    assert not np.array_equal(keys[0, 0, 1], keys[1, 0, 1])
