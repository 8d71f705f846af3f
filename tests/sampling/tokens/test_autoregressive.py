import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.data.sequences import Prompts, left_pad
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig
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
from cogjax.sampling.tokens.rerank import caption_losses

CONFIG = ImageLMConfig(
    vocab_size=128,
    width=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    max_positions=16,
    dropout=0.0,
    unroll=2,
)
LM = ImageLM(CONFIG)
PROMPTS = [[100, 101, 102, 103], [110], [104, 105], [106, 107, 108]] * 2
NUM_TOKENS = 6
PLAIN = Sampler()
# Compiled once for all tests that differ in values only.
PREFILL = jax.jit(prefill, static_argnums=0)
SAMPLE, ADVANCE = (
    jax.jit(function, static_argnums=0) for function in (sample_tokens, advance)
)


@pytest.fixture(scope="module")
def params():
    ids = jnp.zeros((1, 2), jnp.int32)
    start = jax.jit(LM.init)(jax.random.key(0), ids, ids)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape), start)


def draw(
    params,
    prompts,
    sampler=PLAIN,
    keys=None,
    forced=None,
    empty=None,
    model=LM,
    each=1,
    stop=None,
):
    rows = each * len(prompts)
    ids, padding = left_pad(prompts + ([empty] if empty else []), 5, 127)
    if keys is None:
        keys = image_keys(0, 0, rows)
    if forced is None:
        forced = np.full((rows, NUM_TOKENS), -1)
    drawn = SAMPLE(
        model,
        scoring(params, (0, 40)),
        Prompts(ids, padding),
        keys,
        forced,
        ids=OutputIds(jnp.ones(40, bool), end=stop),
        sampler=sampler.numbers(),
    )
    return np.asarray(drawn)


@functools.partial(jax.jit, static_argnums=0)
def forward(model, params, ids):
    positions = jnp.arange(ids.shape[1])[None]
    return model.apply({"params": params}, ids, positions)[0][0]


def full_logits(params, tokens, model=LM):
    """[t, v] of the tokens; padded behind, where they see nothing, to compile once."""
    ids = np.zeros((1, 5 + NUM_TOKENS), np.int32)
    ids[0, : len(tokens)] = tokens
    return np.asarray(forward(model, params, ids))[: len(tokens)]


def test_greedy_decoding_follows_the_full_forward(params):
    """Prompts of four lengths in one batch: padding changes nothing."""
    drawn = draw(params, PROMPTS[:4], Sampler(temperature=0))
    for prompt, row in zip(PROMPTS, drawn, strict=False):
        logits = full_logits(params, [*prompt, *row])
        picked = logits[len(prompt) - 1 : -1, :40].argmax(-1)
        np.testing.assert_array_equal(picked, row)


def test_sparse_layers_draw_what_the_full_forward_says(params):
    kinds = (LayerKind("row"), LayerKind("conv", kernel=3))
    sequence = Sequence.text_to_image(5, (2, 3))
    model = ImageLM(dataclasses.replace(CONFIG, sequence=sequence, kinds=kinds))
    prompts = [[100, 101, 102, 103, 104], [110, 111, 112, 113, 114]]
    drawn = draw(params, prompts, Sampler(temperature=0), model=model)
    for prompt, row in zip(prompts, drawn, strict=True):
        logits = full_logits(params, [*prompt, *row], model)
        np.testing.assert_array_equal(logits[4:-1, :40].argmax(-1), row)
    # Padded prompts too are drawn alike in every company.
    short = [prompt[2:] for prompt in prompts]
    together = draw(params, [*short, prompts[0]], model=model)
    alone = draw(params, short[:1], model=model)
    np.testing.assert_array_equal(alone[0], together[0])


def test_tokens_are_the_same_in_every_batch_size(params):
    sampler = Sampler(temperature=1.0, top_k=20, top_p=0.95)
    keys = image_keys(7, 0, 8)
    whole = draw(params, PROMPTS, sampler, keys)
    for size in (1, 3):
        part = draw(params, PROMPTS[:size], sampler, keys[:size])
        np.testing.assert_array_equal(part, whole[:size])
    assert len({tuple(row) for row in whole}) == 8


def test_numbers_say_what_is_used_and_how():
    """Values that are off are no part of the program, and each has one dtype."""
    assert Sampler(1, 0, 1, 1).numbers() == Sampler(1.0).numbers()
    assert Sampler(0, 5, 0.5, 2).numbers() == (None, None, None, 2)
    numbers = Sampler(1, 10**12, 0.5, 2).numbers()
    assert numbers == (1, 2**31 - 1, 0.5, 2)
    assert [x.dtype.name for x in numbers] == ["float32", "int32", "float32", "float32"]


def test_guidance_equals_two_forwards(params):
    sampler = Sampler(temperature=0, guidance=3.0)
    drawn = draw(params, PROMPTS[:2], sampler, empty=[110, 111])
    for prompt, row in zip(PROMPTS, drawn, strict=False):
        for i, token in enumerate(row):
            with_text = full_logits(params, [*prompt, *row[:i]])[-1, :40]
            without = full_logits(params, [110, 111, *row[:i]])[-1, :40]
            assert (without + 3 * (with_text - without)).argmax() == token


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_of_one_prompt_share_its_prefix(params, guidance):
    sampler = Sampler(guidance=guidance, top_k=20)
    empty = [110, 111] if guidance != 1 else None
    shared = draw(params, PROMPTS[:2], sampler, empty=empty, each=3)
    repeated = [prompt for prompt in PROMPTS[:2] for _ in range(3)]
    alone = draw(params, repeated, sampler, empty=empty)
    np.testing.assert_array_equal(shared, alone)


def test_a_stop_ends_a_sequence(params):
    free = draw(params, PROMPTS[:4])
    stop = int(free[0, 2])
    drawn = draw(params, PROMPTS[:4], stop=stop)
    for row, unstopped in zip(drawn, free, strict=True):
        end = list(unstopped).index(stop) if stop in unstopped else NUM_TOKENS
        np.testing.assert_array_equal(row[:end], unstopped[:end])
        assert (row[end:] == stop).all()


def pieces(params, prompts, stop=None):
    """(state, what advances a state to so many tokens)."""
    params = scoring(params, (0, 40))
    prompts = Prompts(*left_pad(prompts, 5, 127))
    batch = len(prompts.ids)
    forced = np.full((batch, NUM_TOKENS), -1)
    state = PREFILL(LM, params, prompts, image_keys(0, 0, batch), forced)
    ids, sampler = OutputIds(jnp.ones(40, bool), end=stop), PLAIN.numbers()

    def step(state, stop_at):
        return ADVANCE(LM, params, state, stop_at, ids=ids, sampler=sampler)

    return state, step


def test_in_pieces_as_in_one(params):
    state, step = pieces(params, PROMPTS[:2])
    for stop_at in (2, 3, NUM_TOKENS + 4):
        state = step(state, stop_at)
        there = np.asarray(state.tokens) >= 0
        assert there[:, :stop_at].all() and not there[:, stop_at:].any()
    np.testing.assert_array_equal(state.tokens, draw(params, PROMPTS[:2]))


def test_each_token_is_drawn_by_its_own_number(params):
    state, _ = pieces(params, PROMPTS[:2])
    assert len(np.unique(state.uniforms)) == state.uniforms.size == 2 * NUM_TOKENS


def test_all_stopped_ends_the_loop(params):
    free = draw(params, PROMPTS[:1])
    stop = int(free[0, 1])
    state, step = pieces(params, PROMPTS[:1], stop=stop)
    state = step(state, NUM_TOKENS)
    assert int(state.step) == list(free[0]).index(stop) + 1
    assert int(state.tokens[0, -1]) == stop


@pytest.mark.parametrize(
    ("prompts", "sequences", "form", "message"),
    [
        (2, 3, CONFIG.sequence, "2 prompts cannot share 3 sequences"),
        (1, 1, Sequence.text_to_image(4, (2, 3)), "a prompt of 5, expected 4 tokens"),
        (1, 1, Sequence.image_to_text((2, 3), 2), "a prompt of 5, expected 6 tokens"),
    ],
)
def test_prompts_must_fit(params, prompts, sequences, form, message):
    model = ImageLM(dataclasses.replace(CONFIG, sequence=form))
    with pytest.raises(ValueError, match=message):
        prefill(
            model,
            params,
            Prompts(jnp.zeros((prompts, 5), jnp.int32), jnp.zeros(prompts, jnp.int32)),
            image_keys(0, 0, sequences),
            jnp.full((sequences, NUM_TOKENS), -1),
        )


def test_forced_tokens_stay_and_condition_the_rest(params):
    forced = np.full((4, NUM_TOKENS), -1)
    forced[:, :3] = [5, 6, 7]
    drawn = draw(params, PROMPTS[:4], Sampler(temperature=0), forced=forced)
    np.testing.assert_array_equal(drawn[:, :3], forced[:, :3])
    logits = full_logits(params, [*PROMPTS[0], *drawn[0]])
    assert logits[len(PROMPTS[0]) + 2, :40].argmax() == drawn[0, 3]


def test_image_keys_belong_to_the_image():
    np.testing.assert_array_equal(
        jax.random.key_data(image_keys(3, 2, 2)),
        jax.random.key_data(image_keys(3, 0, 4))[2:],
    )
    one, other = (jax.random.key_data(image_keys(seed, 0, 1)) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_caption_losses(params):
    """Mean over the weighted tokens, image codes (below 40) not competing."""
    ids = np.array([[1, 2, 100, 101, 127], [3, 4, 102, 127, 127]])
    weights = np.array([[0, 0, 1, 1, 0], [0, 0, 1, 0, 0]], np.float32)
    losses = jax.jit(functools.partial(caption_losses, LM, first_id=40))
    got = losses(scoring(params, (40, 128)), jnp.asarray(ids), jnp.asarray(weights))
    expected = []
    for row, weight in zip(ids, weights, strict=True):
        logits = full_logits(params, row)[:-1, 40:].astype(np.float64)
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        values = [-log_probs[i, row[i + 1] - 40] for i in range(4) if weight[i + 1]]
        expected.append(np.mean(values))
    np.testing.assert_allclose(got, expected, rtol=1e-4)
