import numpy as np
import pytest

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.errors import UserError
from tests.t5_release import unigram

NOUNS = "apple house flower rocket whale drawing tower mouse feather".split()
TEXTS = [f"line drawing of a {noun}, {noun}s" for noun in NOUNS]
TEXTS += [f"{hanzi}的线稿" for hanzi in "猫狗花房船猫花"]
# Words of the training text, new ones, and a character that is spelled in bytes.
READ = [*TEXTS, "a drawingtower flows, 猫的房 ", "whalehouse 龘 apples", ""]


@pytest.fixture(scope="module")
def text():
    return TextTokenizer.train(TEXTS, 350)


def test_without_dropout_it_is_sentencepiece(text):
    same = BPEDropout(text, 0.0)
    for each in READ:
        ids = text.encode(each)
        assert same(ids, np.random.default_rng(0)) == ids


def test_with_all_dropped_it_spells(text):
    spell = BPEDropout(text, 1.0)
    for each in READ:
        found = spell(text.encode(each), np.random.default_rng(0))
        assert text.decode(found) == text.decode(text.encode(each))
        pieces = text.merges()
        assert all(len(pieces[i]) == 1 or pieces[i].startswith("<0x") for i in found)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_bytes_stay_though_their_names_could_be_spelled(rate):
    """The text has all characters of "<0xE9>", and "龘" has no piece."""
    texts = ["<0xE9><0xBE><0x98> cat 0123456789ABCDEF <<xx>>"] * 9
    text = TextTokenizer.train(texts, 320)
    ids = text.encode("cat 龘cat <0xE9>")
    pieces = text.merges()
    assert [pieces[i] for i in ids if i in text.apart] == ["<0xE9>", "<0xBE>", "<0x98>"]
    found = BPEDropout(text, rate)(ids, np.random.default_rng(0))
    assert text.decode(found) == text.decode(ids) == "cat 龘cat <0xE9>"
    assert [i for i in found if i in text.apart] == [i for i in ids if i in text.apart]
    assert (found == ids) == (rate == 0)


def test_ten_percent_spells_the_same_text_in_more_pieces(text):
    drop, rng = BPEDropout(text, 0.1), np.random.default_rng(0)
    ids = text.encode(TEXTS[0])
    found = [drop(ids, rng) for _ in range(100)]
    assert {text.decode(each) for each in found} == {TEXTS[0]}
    assert len({tuple(each) for each in found}) > 10
    assert len(ids) < np.mean([len(each) for each in found]) < 1.5 * len(ids)


def test_the_draw_is_the_generators(text):
    drop, ids = BPEDropout(text, 0.5), text.encode(TEXTS[0])
    one, other = (drop(ids, np.random.default_rng(3)) for _ in range(2))
    assert one == other != ids


def test_a_merge_is_left_out_as_often_as_it_says():
    """ "abc" has one merge at a time, each on the one before: whole if all stay."""
    text = TextTokenizer.train(["abc abc abc"], 264, character_coverage=1.0)
    drop, rng = BPEDropout(text, 0.25), np.random.default_rng(0)
    ids = text.encode("abc")
    assert len(ids) == 1
    pieces = text.merges()
    steps = len(pieces[ids[0]]) - 1
    whole = np.mean([len(drop(ids, rng)) == 1 for _ in range(4000)])
    assert whole == pytest.approx(0.75**steps, abs=0.03)


def test_only_models_that_merge_pairs():
    words = WordPieceTokenizer.train(["a cat", "a cat"], 6)
    with pytest.raises(UserError, match="needs a text tokenizer that merges pairs"):
        BPEDropout(words, 0.1)
    with pytest.raises(UserError, match="needs a text tokenizer that merges pairs"):
        BPEDropout(unigram(), 0.1)
