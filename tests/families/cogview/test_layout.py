import numpy as np
import pytest

from cogjax.data.sequences import left_pad
from cogjax.data.vocab import COMMANDS, Vocab
from cogjax.families.cogview.layout import Layout, Mixture

VOCAB = Vocab(num_codes=8, num_text=10)
LAYOUT = Layout(VOCAB, text_len=3, image_len=4)
CODES = [7, 0, 3, 3]


def names(ids):
    return [COMMANDS[i - 18] if i >= 18 else int(i) for i in ids]


def test_cogview_ids():
    vocab = Vocab(8192, 50000)
    expected = {"[PAD]": 58192, "[BOI1]": 58193, "[EOI1]": 58196, "[ROI1]": 58199}
    expected |= {"[SEP]": 58202, "[BASE]": 58208, "[POS0]": 58210, "[POS8]": 58218}
    assert {name: vocab.command(name) for name in expected} == expected
    assert (vocab.text_start, vocab.size, vocab.padded_size) == (8192, 58219, 58240)


def test_text_to_image():
    ids, weights = LAYOUT.text_to_image([1, 2], CODES)
    expected = ["[ROI1]", 9, 10, "[BASE]", "[BOI1]", *CODES, "[EOI1]"]
    assert names(ids) == expected + ["[PAD]"] * 2
    np.testing.assert_array_equal(weights, [0] + [1] * 9 + [0] * 2)


def test_image_to_text():
    ids, weights = LAYOUT.image_to_text([1, 2], CODES)
    expected = ["[BASE]", "[BOI1]", *CODES, "[EOI1]", "[ROI1]", 9, 10, "[SEP]"]
    assert names(ids) == expected + ["[PAD]"]
    # Loss on the caption and its end alone.
    np.testing.assert_array_equal(weights, [0] * 8 + [1] * 3 + [0])
    _, heavier = LAYOUT.image_to_text([1, 2], CODES, caption_weight=9.0)
    np.testing.assert_array_equal(heavier, 9 * weights)


def test_text_weight():
    """The weight follows the input token: the first code counts as text."""
    ids, weights = LAYOUT.text_to_image([1], CODES, text_weight=5.0)
    by_name = list(zip(names(ids), weights.tolist(), strict=True))
    assert by_name[1:9] == [
        (9, 5.0),
        ("[BASE]", 5.0),
        ("[BOI1]", 5.0),
        (7, 5.0),
        (0, 1.0),
        (3, 1.0),
        (3, 1.0),
        ("[EOI1]", 1.0),
    ]


def test_long_text_is_cut_and_the_image_is_not():
    ids, _ = LAYOUT.text_to_image(range(9), CODES)
    assert names(ids) == [
        "[ROI1]",
        8,
        9,
        10,
        "[BASE]",
        "[BOI1]",
        *CODES,
        "[EOI1]",
        "[PAD]",
    ]
    assert len(LAYOUT.image_to_text(range(9), CODES)[0]) == LAYOUT.length


def test_prompts_are_the_starts_of_the_sequences():
    for prompt, ids in (
        (LAYOUT.prompt([1, 2]), LAYOUT.text_to_image([1, 2], CODES)[0]),
        (LAYOUT.caption_prompt(CODES), LAYOUT.image_to_text([1], CODES)[0]),
    ):
        assert prompt == ids[: len(prompt)].tolist()


def test_left_pad():
    ids, num_padding = left_pad([[1, 2, 3], [4]], 4, 9)
    np.testing.assert_array_equal(ids, [[9, 1, 2, 3], [9, 9, 9, 4]])
    np.testing.assert_array_equal(num_padding, [1, 3])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixture_draws_directions_by_their_share(share):
    mixture = Mixture(image_to_text=share, caption_dropout=0.5)
    rng = np.random.default_rng(0)
    rows = [
        mixture.example(LAYOUT, [(1, 2), (3,)], np.array(CODES), rng)["ids"]
        for _ in range(400)
    ]
    to_text = [row[0] == VOCAB.command("[BASE]") for row in rows]
    assert np.mean(to_text) == pytest.approx(share, abs=0.08)
    drawn = [row for row, is_text in zip(rows, to_text, strict=True) if not is_text]
    if drawn:
        empty = [row[1] == VOCAB.command("[BASE]") for row in drawn]
        assert np.mean(empty) == pytest.approx(0.5, abs=0.08)


def test_fixed_positions_follow_from_the_ids():
    """A sequence is trained with what it is drawn, captioned and scored with."""
    import jax.numpy as jnp

    from cogjax.models.image_lm_config import ImageLMConfig
    from cogjax.tasks.lm import LMTask

    layout = Layout(VOCAB, text_len=3, image_len=4, fixed=True)
    config = ImageLMConfig(width=8, depth=1, heads=1, mlp_dim=8)
    task = LMTask(config, VOCAB.num_codes, image_start=layout.image_start)
    rows = [layout.text_to_image(t, [1, 0, 2, 3])[0] for t in ((), (2,), (0, 1, 2))]
    positions = np.asarray(task._positions(jnp.asarray(np.stack(rows))))
    prompts = layout.prompts([(), (2,), (0, 1, 2)])
    for row, ids, pad, at in zip(
        positions, prompts.ids, prompts.num_padding, prompts.positions, strict=True
    ):
        count = len(ids) - pad
        assert row[:count].tolist() == at[pad:].tolist()
        assert row[count : count + 4].tolist() == [7, 8, 9, 10]
    assert prompts.next_position.tolist() == [7, 7, 7]
    read = layout.image_to_text((0, 1), [1, 0, 2, 3])[0]
    (expected,) = np.asarray(task._positions(jnp.asarray(read[None])))
    assert layout.reading_positions.tolist() == [0, 1, 7, 8, 9, 10, 2, 3, 4, 5, 6, 6]
    assert expected.tolist() == layout.reading_positions.tolist()
    caption = layout.caption_prompts(np.array([[1, 0, 2, 3]]))
    assert caption.positions.tolist() == [[0, 1, 7, 8, 9, 10, 2, 3]]
    assert caption.next_position.tolist() == [4]
