import pickle

import numpy as np
import pytest

from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.data.wordpiece import WordPieceTokenizer, split_words
from cogjax.errors import UserError

VOCAB = "[PAD] [UNK] [CLS] [SEP] [MASK] un want ##want ##ed runn ##ing , 猫 a ##a"
BERT = WordPieceTokenizer("\n".join(VOCAB.split()).encode())
TEXTS = [f"a {noun}, {noun}s 猫的线稿" for noun in "apple house rocket whale".split()]


def pieces(tokenizer, text):
    return [tokenizer._vocab[i] for i in tokenizer.encode(text)]


def test_the_longest_piece_first():
    """BERT's own example."""
    assert pieces(BERT, "UNwant\u00e9d,running 猫猫") == (
        "un ##want ##ed , runn ##ing 猫 猫".split()
    )
    assert pieces(BERT, "unwantedX a") == ["[UNK]", "a"]
    assert pieces(BERT, "a" * 100) == ["a"] + ["##a"] * 99
    assert pieces(BERT, "a" * 101) == ["[UNK]"]


def test_no_text_reaches_a_control_piece():
    words = "[SEP] [CLS] [MASK] [PAD]"
    assert set(BERT.encode(words)) <= {1}
    assert BERT.encode("") == BERT.encode(" \n\0") == []


def test_no_text_is_written_of_control_pieces():
    """None of its five, and of a language nothing of another one."""
    texts = [piece for piece in BERT._vocab if piece[0] != "["]

    def written(language):
        may = zip(BERT.pieces_in(language), BERT._vocab, strict=True)
        return [piece for is_allowed, piece in may if is_allowed]

    assert written(None) == texts and len(texts) == 10
    assert written("en") == [piece for piece in texts if piece != "猫"]
    assert written("zh") == [",", "猫"]


def test_words_signs_and_hanzi_stand_alone():
    assert split_words("It's 3D：猫猫 A-b ", False) == (
        ["It", "'", "s", "3D", "：", "猫", "猫", "A", "-", "b"]
    )
    assert split_words("\u00c9clair", True) == ["eclair"]
    assert split_words("\u00c9clair", False) == ["\u00c9clair"]


def test_a_vocabulary_with_capitals_keeps_case():
    cased = WordPieceTokenizer(b"[UNK]\nA\na\n")
    assert cased.encode("A a") == [1, 2]
    assert WordPieceTokenizer(b"[UNK]\na\n").encode("A a") == [1, 1]


@pytest.mark.parametrize(
    ("text", "size", "lower_case", "wanted"),
    [
        # Composed Hangul, and accents: folding would take both apart.
        ("한국어", 4, False, "한국어"),
        ("café crème", 9, False, "café crème"),
        ("café crème", 7, True, "cafe creme"),
        ("한국어", 9, True, "\u1112\u1161\u11ab\u1100\u116e\u11a8\u110b\u1165"),
        # A capital letter without a small one.
        ("Apple 𝐀", 6, True, "apple 𝐀"),
    ],
)
def test_text_is_folded_as_it_was_in_training(text, size, lower_case, wanted):
    tokenizer = WordPieceTokenizer.train(
        [text], size, lower_case=lower_case, character_coverage=1
    )
    assert tokenizer.decode(tokenizer.encode(text)) == wanted


def test_text_comes_back():
    tokenizer = WordPieceTokenizer.train(TEXTS, 34)
    assert tokenizer.decode(tokenizer.encode("a whale 猫的线稿")) == "a whale猫的线稿"
    assert tokenizer.decode(tokenizer.encode("apples , house")) == "apples , house"
    assert tokenizer.pieces_in("en") != tokenizer.pieces_in("zh")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}, 8),
        # One pair of ##a ##a ##a can be joined, which takes two of the same piece.
        ({"caaaa": 9, "cb": 3}, 4),
        ({"caaa": 9, "cb": 4}, 4),
    ],
)
def test_training_joins_what_raises_the_likelihood_most(words, size):
    """The best pair by the log-likelihood of the pieces before and after, counted."""
    text = " ".join(word for word, count in words.items() for _ in range(count))
    small = WordPieceTokenizer.train([text], size)
    one_more = WordPieceTokenizer.train([text], size + 1)
    [new] = set(one_more._vocab) - set(small._vocab)

    def likelihood(joined):
        counts = {}
        for word, count in words.items():
            cut = [word[0], *(f"##{c}" for c in word[1:])]
            for at in range(len(cut) - 1, 0, -1):
                if cut[at - 1] + cut[at].removeprefix("##") == joined:
                    cut[at - 1 : at + 1] = [joined]
            for piece in cut:
                counts[piece] = counts.get(piece, 0) + count
        n = np.array(list(counts.values()))
        return np.sum(n * np.log(n / n.sum()))

    pairs = {word[0] + word[1] for word in words}
    pairs |= {f"##{w[i]}{w[i + 1]}" for w in words for i in range(1, len(w) - 1)}
    assert new == max(sorted(pairs), key=likelihood)


def test_counts_follow_the_joins():
    """Long training: all words are pieces in the end, and no pair is joined twice."""
    tokenizer = WordPieceTokenizer.train(["banana banana bandana bandana ana ana"], 11)
    assert len(set(tokenizer._vocab)) == tokenizer.size == 11
    with pytest.raises(UserError, match=r"99 is too large .* possible is (\d+)") as e:
        WordPieceTokenizer.train(["banana banana bandana bandana ana ana"], 99)
    most = int(str(e.value).split()[-1])
    full = WordPieceTokenizer.train(["banana banana bandana bandana ana ana"], most)
    assert all(len(full.encode(word)) == 1 for word in ("banana", "bandana", "ana"))


def test_the_same_texts_give_the_same_bytes():
    one = WordPieceTokenizer.train(TEXTS, 34)
    assert one == WordPieceTokenizer.train(reversed(TEXTS), 34)
    assert not any(piece.startswith("[P") for piece in one._vocab)


def test_rare_characters_are_unknown():
    texts = ["aaaa bbbb"] * 500 + ["龘"]
    tokenizer = WordPieceTokenizer.train(texts, 7, character_coverage=0.999)
    assert pieces(tokenizer, "龘 aaaa")[0] == "[UNK]"
    assert "龘" in WordPieceTokenizer.train(texts, 7, character_coverage=1)._vocab


def test_sizes_must_suit_the_text():
    with pytest.raises(UserError, match=r"3 is too small .* smallest possible is 5"):
        WordPieceTokenizer.train(["ab abc d"], 3)
    with pytest.raises(UserError, match="no text"):
        WordPieceTokenizer.train([" "], 3)


def test_files_of_both_kinds_are_told_apart(tmp_path):
    path = BERT.save(tmp_path / "text.model")
    found = load_text(path)
    assert isinstance(found, WordPieceTokenizer) and found == BERT
    assert pickle.loads(pickle.dumps(found)).encode("unwanted") == BERT.encode(
        "unwanted"
    )
    other = TextTokenizer.train(TEXTS, 310).save(tmp_path / "bpe.model")
    assert type(load_text(other)) is TextTokenizer


def test_an_id_is_the_number_of_a_line():
    found = WordPieceTokenizer("a\r\n\u3000\r\n[UNK]\r\nb\r\n\r\n".encode())
    assert found.encode("b a ?") == [3, 0, 2] and found.size == 4


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[UNK]\na\na\n", "bad is no vocabulary: .* a piece twice"),
        (b"[UNK]\n\na\n", "bad is no vocabulary: line 2 is empty"),
        (b"[UNK]\n\xff\n", "bad is not UTF-8 text"),
    ],
)
def test_damaged_files(data, message, tmp_path):
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(UserError, match=message):
        load_text(tmp_path / "bad")
