import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.captions import bleu, meteor_exact, rouge_l, tokenise

CAT = "the cat is on the mat".split()
THERE = "there is a cat on the mat".split()


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A cat\u2019s 红色的ＴＶ", "a cat 's 红 色 的 tv"),
        ("They don't stop, can't they?", "they do n't stop ca n't they"),
        ("T-shirt, black-and-white - or not", "t-shirt black-and-white or not"),
        ("no. 2 at 10:30, 3.5 of 1,000", "no 2 at 10:30 3.5 of 1,000"),
        ("cats' toys,dogs 'stop' \"sign\"...", "cats toys dogs stop sign"),
        ("Caf\u0065\u0301 _x_ 𠀀。", "café x 𠀀"),
        ("?! - '", ""),
    ],
)
def test_tokens_are_english_words_and_chinese_characters(caption, tokens):
    assert tokenise(caption) == tokens.split()


def test_bleu_by_hand():
    # Papineni's own example of clipping: a reference has "the" twice.
    the = ["the"] * 7
    assert bleu([the], [[CAT, THERE]], order=1) == pytest.approx(2 / 7)
    # Longer than its reference, so no penalty.
    candidate = "the cat is on a red mat".split()
    expected = np.exp(np.mean(np.log([5 / 7, 3 / 6, 2 / 5, 1 / 4])))
    assert bleu([candidate], [[CAT]]) == pytest.approx(expected)


def test_bleu_takes_the_nearest_length_and_punishes_brevity():
    short = "the cat is on".split()
    # The nearer of references of 6 and 7 words has 6.
    assert bleu([short], [[THERE, CAT]]) == pytest.approx(np.exp(1 - 6 / 4))
    # 3 and 5 words are both one away from 4, and the shorter counts: no penalty.
    pair = [short[:3], [*short, "the"]]
    assert bleu([short], [pair]) == pytest.approx(1)
    assert bleu([CAT], [[CAT]]) == pytest.approx(1)
    assert bleu([CAT[:3]], [[CAT]]) == 0


def test_bleu_is_of_the_corpus_and_not_the_mean():
    both = bleu([CAT, THERE], [[CAT], [CAT]])
    right = np.array([6 + 5, 5 + 2, 4 + 1, 3 + 0])
    total = np.array([6 + 7, 5 + 6, 4 + 5, 3 + 4])
    assert both == pytest.approx(np.exp(np.mean(np.log(right / total))))


def test_rouge_by_hand():
    # The longest common subsequence: "cat on the mat".
    precision, recall = 4 / 7, 4 / 6
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    np.testing.assert_allclose(rouge_l([THERE], [[CAT]]), [expected])
    # COCO's: the best precision and the best recall, of two references.
    precision, recall = 4 / 7, 1
    expected = 2.44 * precision * recall / (recall + 1.44 * precision)
    np.testing.assert_allclose(rouge_l([THERE], [[CAT, ["a"]]]), [expected])
    np.testing.assert_allclose(rouge_l([CAT, ["x"], []], [[CAT]] * 3), [1, 0, 0])


def test_meteor_by_hand():
    # "is", "cat", "on the mat": 5 matches in 3 chunks.
    precision, recall = 5 / 7, 5 / 6
    mean = 10 * precision * recall / (recall + 9 * precision)
    expected = mean * (1 - 0.5 * (3 / 5) ** 3)
    np.testing.assert_allclose(meteor_exact([THERE], [[CAT]]), [expected])
    # The best of the references, which is the candidate itself: nothing to pay.
    np.testing.assert_allclose(
        meteor_exact([CAT, ["x"], []], [[THERE, CAT], [CAT], [CAT]]),
        [1, 0, 0],
    )


def test_meteor_does_not_bridge_used_words():
    """a b c d against c d x a b: two chunks; b c is no match across them."""
    value = meteor_exact([list("abcd")], [[list("cdxab")]])
    mean = 10 * 1 * 0.8 / (0.8 + 9)
    np.testing.assert_allclose(value, [mean * (1 - 0.5 * (2 / 4) ** 3)])


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "as many captions"),
        ([CAT], [[CAT], [CAT]], "1 and 2"),
        (["the cat"], [[CAT]], "is text"),
        ([CAT], [["the cat"]], "is text"),
        ([CAT], [[]], "no reference"),
        ([CAT], [[CAT, []]], "without words"),
    ],
)
def test_mistakes(candidates, references, message):
    for score in (bleu, rouge_l, meteor_exact):
        with pytest.raises(UserError, match=message):
            score(candidates, references)


def test_meteor_pays_for_one_piece_of_a_longer_caption():
    value = meteor_exact([CAT[:5]], [[CAT]])
    mean = 10 * (5 / 6) / (5 / 6 + 9)
    np.testing.assert_allclose(value, [mean * (1 - 0.5 / 5**3)])
