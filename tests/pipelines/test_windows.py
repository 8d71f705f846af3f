"""A model of windows and pivots, and of two oblong shapes, does what others do."""

import dataclasses

import numpy as np
import pytest

import cogjax
from cogjax.errors import UserError
from cogjax.families.cogview import presets as cogview
from cogjax.pipelines.tokens import TokensPipeline
from tests.conftest import make_nano_model

SHAPES = ((4, 6), (6, 3))
PROMPTS = ("a red apple", "一只猫的线稿")
SAMPLED = {"seed": 3, "aspect": "3:2", "guidance": 2.0}


@pytest.fixture(scope="module")
def model():
    """12 positions are text; 4 pivots of 24 codes, a window of 8."""
    window = {"window": 4, "window_times": 2, "num_pivots": 16}
    return make_nano_model(shapes=SHAPES, **window)


@pytest.fixture(scope="module")
def drawn(model):
    return model.generate(PROMPTS, 2, **SAMPLED)


def test_an_image_is_the_same_beside_others_and_shown_as_it_comes(model, drawn):
    seen = []
    shown = model.generate(
        PROMPTS, 2, **SAMPLED, preview=lambda pairs, codes: seen.append(codes)
    )
    np.testing.assert_array_equal(shown.codes, drawn.codes)
    assert len(seen) >= SHAPES[0][0] - 1
    alone = TokensPipeline(model.model, 1).generate(PROMPTS[1], 2, **SAMPLED)
    np.testing.assert_array_equal(alone.codes[0], drawn.codes[1])


def test_what_is_drawn_is_likeliest_as_it_is_scored(model):
    """Both shapes: the score reads all codes at once, sampling one by one."""
    for aspect, shape in (("3:2", (4, 6)), ("1:2", (6, 3))):
        found = model.generate(PROMPTS[0], 1, aspect=aspect, temperature=0.0)
        assert found.codes.shape[2:] == shape
        [best] = model.image_losses(found.codes[0], PROMPTS[0])
        for place in (7, shape[0] * shape[1] - 1):
            other = found.codes[0].reshape(1, -1).copy()
            other[0, place] = (other[0, place] + 1) % model.num_codes
            own, pieces = model.of(shape), [model.pieces(PROMPTS[0])]
            losses = [
                own._code_losses(codes, pieces)[0, place]
                for codes in (found.codes[0].reshape(1, -1), other)
            ]
            assert losses[0] < losses[1]
        assert np.isfinite(best)


@pytest.mark.slow
def test_rerank_caption_and_score_agree(model, drawn):
    best = model.generate(PROMPTS, 1, **SAMPLED, rerank=2)
    each = zip(drawn.codes, PROMPTS, strict=True)
    losses = [model.score_codes(codes, [text] * 2).min() for codes, text in each]
    np.testing.assert_allclose(best.scores[:, 0], losses, rtol=1e-6)
    texts = model.caption(drawn.pixels[0], beams=2, rerank=True)
    assert len(texts) == 2 and texts == model.caption(
        drawn.pixels[0], beams=2, rerank=True
    )


@pytest.mark.slow
def test_speculation_and_a_saved_model_sample_too(model, drawn, tmp_path):
    fast = model.generate(PROMPTS, 2, **SAMPLED, speculate=4)
    assert fast.codes.shape == drawn.codes.shape
    again = cogjax.load(model.save(tmp_path / "model"))
    found = again.generate(PROMPTS, 2, **SAMPLED)
    np.testing.assert_array_equal(found.codes, drawn.codes)


def test_attention_is_not_shown(model, drawn):
    for look in (model.attention, model.attention_of_caption):
        with pytest.raises(
            UserError, match="window and pivots, whose weights are not shown"
        ):
            look(drawn.pixels[0, 0], PROMPTS[0])


def test_windows_are_for_one_image_in_turn():
    transformer = cogview.TransformerConfig(width=32, heads=2, window=4)
    layout = cogview.make_layout(cogview.TOKENIZERS["nano"], 100, transformer)
    for other in ({"masked": True}, {"enlarges": True}):
        one = dataclasses.replace(layout, **other)
        with pytest.raises(ValueError, match="window is for one image whose codes"):
            cogview.make_transformer(transformer, one)
