import numpy as np
import pytest

from cogjax.data.vocab import Vocab
from cogjax.families.ernie_vilg.layout import TwoWayLayout, TwoWayMixture

VOCAB = Vocab(num_codes=8, num_text=10)
LAYOUT = TwoWayLayout(VOCAB, text_len=3, image_len=4)
CODES = np.array([5, 6, 7, 0])
PAD, BOI, ROI, SEP = map(VOCAB.command, ("[PAD]", "[BOI1]", "[ROI1]", "[SEP]"))


def test_text_to_image():
    ids = LAYOUT.text_to_image([1, 2], CODES)
    np.testing.assert_array_equal(ids, [PAD, 9, 10, BOI, 5, 6, 7, 0])
    assert ids.dtype == np.int32
    # Too long a text loses its end, not the command.
    np.testing.assert_array_equal(
        LAYOUT.text_to_image(range(5), CODES)[:4], [8, 9, 10, BOI]
    )


def test_image_to_text():
    ids, weights = LAYOUT.image_to_text([1, 2], CODES)
    np.testing.assert_array_equal(ids, [5, 6, 7, 0, ROI, 9, 10, SEP, PAD])
    np.testing.assert_array_equal(weights, [0, 0, 0, 0, 0, 1, 1, 1, 0])
    ids, weights = LAYOUT.image_to_text(range(5), CODES)
    np.testing.assert_array_equal(ids, [5, 6, 7, 0, ROI, 8, 9, 10, SEP])
    assert weights.sum() == 4 and len(ids) == LAYOUT.length


def test_a_piece_has_the_same_position_in_both_directions():
    reading = dict(
        zip(
            LAYOUT.image_to_text([1, 2, 3], CODES)[0],
            LAYOUT.reading_positions,
            strict=True,
        )
    )
    for text in ([1, 2, 3], [1, 2], [1], []):
        prompt = LAYOUT.prompts([text])
        real = prompt.ids[0] != PAD
        assert prompt.num_padding == [(~real).sum()] == [3 - len(text)]
        found = dict(zip(prompt.ids[0][real], prompt.positions[0][real], strict=True))
        assert found.pop(BOI) == reading[ROI] == 0
        assert all(reading[piece] == place for piece, place in found.items())
        # The first code comes where it stands in the other direction.
        assert prompt.next_position == [reading[5]]


def test_caption_prompts_are_the_starts_of_the_sequences():
    prompts = LAYOUT.caption_prompts(np.stack([CODES, CODES[::-1]]))
    ids, _ = LAYOUT.image_to_text([1, 2], CODES)
    np.testing.assert_array_equal(prompts.ids[0], ids[:5])
    np.testing.assert_array_equal(prompts.positions[1], LAYOUT.reading_positions[:5])
    np.testing.assert_array_equal(prompts.next_position, LAYOUT.reading_positions[5])
    assert not prompts.num_padding.any()


def test_answers():
    ids = LAYOUT.answer([1, 2], [7, 8], 3)
    np.testing.assert_array_equal(ids, [PAD, 9, 10, ROI, 15, 16, SEP, PAD])
    assert ids.dtype == np.int32
    # Too long a question or answer loses its end, not the commands.
    ids = LAYOUT.answer(range(5), range(5), 2)
    np.testing.assert_array_equal(ids, [8, 9, 10, ROI, 8, 9, SEP])


def test_question_prompts_are_the_starts_of_the_sequences():
    prompts = LAYOUT.question_prompts([[1, 2], [3, 4, 5]], np.stack([CODES] * 2))
    start = LAYOUT.answer([1, 2], [7], 3)[: LAYOUT.num_text]
    np.testing.assert_array_equal(prompts.ids[0], [*CODES, *start])
    np.testing.assert_array_equal(prompts.num_padding, [1, 0])
    # Codes stand where they do before a caption; both texts are counted from 1.
    image = LAYOUT.reading_positions[:4]
    np.testing.assert_array_equal(prompts.positions[0], [*image, 0, 1, 2, 0])
    np.testing.assert_array_equal(prompts.positions[1], [*image, 1, 2, 3, 0])
    np.testing.assert_array_equal(prompts.next_position, [1, 1])


def test_mixture_draws_questions_of_all_pictures():
    mixture = TwoWayMixture(questions=3, answer_len=2)
    pictures = [([([1], [7]), ([2], [8])], CODES), ([([3], [9])], CODES[::-1])]
    rng, seen = np.random.default_rng(0), set()
    for _ in range(20):
        found = mixture.answers(LAYOUT, pictures, rng)
        (which,) = [i for i in (0, 1) if (found["asked"] == pictures[i][1]).all()]
        own = [LAYOUT.answer(*pair, 2).tobytes() for pair in pictures[which][0]]
        rows = [row.tobytes() for row in found["answers"]]
        # All of the picture, and one of them again only when all were asked.
        assert set(rows) == set(own) and len(rows) == 3
        seen.add(which)
    assert seen == {0, 1}
    with pytest.raises(ValueError, match="answer_len is 0"):
        TwoWayMixture(answer_len=0)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_mixture_drops_the_source_and_keeps_the_target(share):
    mixture = TwoWayMixture(caption_dropout=share)
    rng = np.random.default_rng(0)
    example = mixture.example(LAYOUT, [[1, 2], [1, 2]], CODES, rng)
    text = [] if share else [1, 2]
    np.testing.assert_array_equal(
        example["to_image"], LAYOUT.text_to_image(text, CODES)
    )
    np.testing.assert_array_equal(
        example["to_text"], LAYOUT.image_to_text([1, 2], CODES)[0]
    )


def test_mixture_draws_captions_beside_each_other():
    """All before any again, and the first one is drawn too."""
    mixture = TwoWayMixture(captions=3, caption_dropout=0.0)
    texts = [[1], [2, 3]]
    example = mixture.example(LAYOUT, texts, CODES, np.random.default_rng(0))
    ends = {str(text): LAYOUT.image_to_text(text, CODES)[0] for text in texts}
    start = LAYOUT.image_len
    parts = np.split(example["to_text"][start:], 3)
    found = [
        [name for name, row in ends.items() if np.array_equal(row[start:], part)]
        for part in parts
    ]
    assert sorted(sum(found[:2], [])) == sorted(ends) and len(found[2]) == 1
    np.testing.assert_array_equal(example["to_text"][:start], CODES)
    first = texts[0] if found[0] == [str(texts[0])] else texts[1]
    np.testing.assert_array_equal(
        example["to_image"], LAYOUT.text_to_image(first, CODES)
    )
    with pytest.raises(ValueError, match="captions is 0"):
        TwoWayMixture(captions=0)
