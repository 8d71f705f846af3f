"""Words of captions: what is one, what is kept of them, and which are new."""

import pytest

from cogjax.data import word_list
from cogjax.data.word_list import WordList, words_of
from cogjax.errors import UserError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red, RED apple!", ["a", "red", "red", "apple"]),
        ("the cat’s tail, don't", ["the", "cat", "tail", "dont"]),
        ("yellow-green T_shirt (3D)", ["yellow", "green", "t", "shirt", "3d"]),
        ("一只猫的Noto表情。", [*"一只猫的", "noto", *"表情"]),
        ("ねこ 々", [*"ねこ", "々"]),
        ("ＡＢＣ Straße", ["abc", "strasse"]),
        ("हिन्दी", ["हिन्दी"]),
        ("❤️ 👍🏽 ...", []),
        ("x" * 99, ["x" * 40]),
    ],
)
def test_words_of(text, words):
    assert words_of(text) == words


def test_a_list_names_what_is_new_once_and_in_order():
    words = WordList.of(["A red apple", "一只猫"])
    assert words.unseen(["Zyzzyva, red 龘", "一 zyzzyva"]) == ("zyzzyva", "龘")
    assert WordList.of(["blue"], words).unseen(["blue apple tree"]) == ("tree",)


def test_the_most_frequent_words_are_kept(monkeypatch):
    monkeypatch.setattr(word_list, "MAX_WORDS", 2)
    assert WordList.of(["c b", "a c", "d"]).words == {"c", "a"}


def test_a_list_comes_back_and_is_the_same_file(tmp_path):
    words = WordList.of(["b 猫 a"])
    path = words.save(tmp_path / "words.txt")
    assert path.read_text("utf-8") == "a\nb\n猫\n"
    assert WordList.load(path) == words


def test_files_that_are_no_list(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(UserError, match="cannot read word list .*: No such file"):
        WordList.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        WordList.load(path)
