"""The text tokenizer: training, loading, and CogView's own vocabulary."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cogjax.data.bpe_dropout import BPEDropout
from cogjax.data.byte_bpe import ByteBPE, pack
from cogjax.data.char_bpe import CharBPE
from cogjax.data.class_names import ClassNames
from cogjax.data.clip_bpe import ClipText
from cogjax.data.text import TextTokenizer
from cogjax.data.wordpiece import WordPieceTokenizer
from cogjax.data.yttm import YttmBPE
from cogjax.errors import UserError

NOUNS = "cat apple house flower rocket whale mountain bicycle umbrella guitar"
HANZI = "猫 苹果 房子 花朵 火箭 鲸鱼 山脉 自行车 雨伞 吉他"
STYLES = ("line drawing of a", "flat icon of a", "red", "small blue")
ZH_STYLES = ("一只彩色的", "线稿风格的", "扁平的", "红色的")
TEXTS = [f"a {style} {noun}" for noun in NOUNS.split() for style in STYLES]
TEXTS += [f"{style}{noun}" for noun in HANZI.split() for style in ZH_STYLES]
REFERENCE = Path(__file__).parents[2] / "../shared/reference/cog-pretrain.model"


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.train(TEXTS, 328)


def test_training_is_deterministic_and_exact_in_size(tokenizer):
    assert tokenizer.size == 328
    assert TextTokenizer.train(iter(TEXTS), 328).serialized == tokenizer.serialized


@pytest.mark.parametrize(
    "text",
    [
        "a red apple",
        "一只猫的线稿",
        "unseen Ωmega 龘 😀👍🏽",
        "<s></s><unk><0x41>[ROI1][BASE]",
        "nul \0 here",
        "\u202eright to left \u05d0",
    ],
)
def test_every_text_returns_unchanged(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(0 < i < tokenizer.size for i in ids)  # 0 is the unknown piece


def test_a_word_of_many_captions_is_one_piece():
    texts = [f"line drawing, {noun}" for noun in NOUNS.split()]
    texts += [f"{noun}的线稿" for noun in HANZI.split()]
    tokenizer = TextTokenizer.train(texts, 340)
    assert len(tokenizer.encode("line drawing")) == 2
    assert len(tokenizer.encode("猫的线稿")) == 3  # start of a word, 猫, 的线稿


def test_nothing_is_encoded_to_nothing(tokenizer):
    assert tokenizer.encode("") == tokenizer.encode(" \n\t ") == []
    assert tokenizer.decode([]) == ""


def test_white_space_width_and_surrogates_are_normalised(tokenizer):
    assert tokenizer.encode(" a\n\tcat ") == tokenizer.encode("a cat")
    assert tokenizer.encode("ＡＢＣ") == tokenizer.encode("ABC")
    assert tokenizer.decode(tokenizer.encode("a \ud800 b")) == "a ? b"


def test_stray_byte_pieces_decode(tokenizer):
    stray = tokenizer.encode("龘")[-1]
    assert "\ufffd" in tokenizer.decode([stray, stray])


def test_file_bytes_and_pickle_round_trip(tokenizer, tmp_path):
    path = tokenizer.save(tmp_path / "deep" / "text.model")
    assert TextTokenizer.load(path) == tokenizer
    assert TextTokenizer.from_bytes(tokenizer.serialized) == tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)).encode("猫") == tokenizer.encode("猫")
    assert [p.name for p in path.parent.iterdir()] == ["text.model"]


@pytest.mark.parametrize("data", [b"", b"<html>Not found</html>", b"\0" * 99, b"\x80"])
def test_damaged_model(tmp_path, data):
    path = tmp_path / "text.model"
    path.write_bytes(data)
    with pytest.raises(UserError, match="text.model is not a SentencePiece model"):
        TextTokenizer.load(path)


def test_truncated_and_missing_models(tokenizer, tmp_path):
    path = tmp_path / "text.model"
    with pytest.raises(UserError, match="cannot read tokenizer .*No such file"):
        TextTokenizer.load(path)
    path.write_bytes(tokenizer.serialized[:5000])
    with pytest.raises(UserError, match="is not a SentencePiece model"):
        TextTokenizer.load(path)


def test_vocab_size_must_suit_the_text():
    with pytest.raises(UserError, match=r"9000 is too large .* possible is (\d+)") as e:
        TextTokenizer.train(TEXTS, 9000)
    largest = int(str(e.value).split()[-1])
    assert TextTokenizer.train(TEXTS, largest).size == largest
    with pytest.raises(UserError, match=r"100 is too small .* smallest possible is \d"):
        TextTokenizer.train(TEXTS, 100)
    with pytest.raises(UserError, match="no text"):
        TextTokenizer.train(["", " \n"], 300)


def test_a_long_text_is_learnt():
    """SentencePiece leaves out lines of more than 4,192 bytes unless told not to."""
    short = ["a red cat sits", "a blue dog runs"] * 20
    long = "猫狗鸟鱼山水花草木火土金日月星云风雨雪电" * 75
    found = TextTokenizer.train([*short, *[long] * 20], 330, character_coverage=1.0)
    assert len(found.encode("猫狗鸟")) <= 4  # 9 bytes where no piece is learnt.


def test_training_prints_nothing(capfd):
    TextTokenizer.train(TEXTS, 328)
    assert capfd.readouterr() == ("", "")


KINDS = {
    "sentencepiece": lambda: TextTokenizer.train(TEXTS, 328),
    "byte BPE": lambda: ByteBPE(pack({"a": 0, "b": 1}, [], "plain")),
    "characters": lambda: CharBPE.of({"[UNK]": 0, "1": 1, "1</w>": 2}, [], "x"),
    "classes": lambda: ClassNames.of(["tench", "goldfish"]),
    "CLIP": lambda: ClipText(b"#version: 0.2\nc a\nca t</w>\n"),
    "WordPiece": lambda: WordPieceTokenizer.train(TEXTS, 80),
    "YouTokenToMe": lambda: YttmBPE(b"2 1\n9601 4\n49 5\n4 5 6\n1 0 2 3\n"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_that_are_none_are_refused(kind):
    text = KINDS[kind]()
    assert isinstance(text.decode([0, text.size - 1]), str)
    for odd in (-1, text.size):
        with pytest.raises(UserError, match=f"^{odd} is no id of this tokenizer"):
            text.decode([0, odd])


@pytest.mark.skipif(not REFERENCE.exists(), reason="CogView's model is not here")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("一只可爱的小猫", [15955, 32637, 44506]),
        ("一只可爱的小猫。", [15955, 32637, 44506, 43361]),
        ("A cat, 你好 ABC", [196, 366, 147, 43359, 2416, 196, 5842]),
    ],
)
def test_cogviews_own_vocabulary(text, ids):
    tokenizer = TextTokenizer.load(REFERENCE)
    assert tokenizer.size == 50_000
    assert tokenizer.encode(text) == ids
    assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_pieces_in_a_language(tokenizer):
    def uses(text, language):
        allowed = tokenizer.pieces_in(language)
        return all(allowed[i] for i in tokenizer.encode(text))

    assert uses("a red apple", "en") and not uses("a red apple", "zh")
    assert uses("苹果", "zh") and not uses("苹果", "en")
    assert all(tokenizer.pieces_in(None))
    with pytest.raises(UserError, match="language is 'fr'"):
        tokenizer.pieces_in("fr")


def test_lower_case_is_the_models():
    texts = [f"a Red {noun}" for noun in NOUNS.split()]
    folds = TextTokenizer.train(texts, 300, lower_case=True)
    assert folds.encode("A RED apple") == folds.encode("a red Apple")
    assert folds.decode(folds.encode("A RED apple")) == "a red apple"
    keeps = TextTokenizer.train(texts, 300)
    assert keeps.encode("A RED apple") != keeps.encode("a red apple")


@pytest.mark.skipif(not REFERENCE.exists(), reason="CogView's model is not here")
def test_cogviews_own_model_merges_pairs():
    """It is a BPE model by its own header, so BPE-dropout reads it too."""
    text = TextTokenizer.load(REFERENCE)
    same, drop = BPEDropout(text, 0.0), BPEDropout(text, 0.9)
    for caption in ("a red apple, 3 of them!", "这张图片里有两个蓝色的正方形"):
        ids = text.encode(caption)
        assert same(ids, np.random.default_rng(0)) == ids
        found = drop(ids, np.random.default_rng(0))
        assert len(found) > len(ids)
        assert text.decode(found) == caption
