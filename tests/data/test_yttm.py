import pickle

import pytest

from cogjax.data.text_files import load_text
from cogjax.data.yttm import YttmBPE
from cogjax.errors import UserError

# a, b, c and the sign of a word; "ab" before "▁ab" before "bc".
LINES = ["4 3", "9601 4", "97 5", "98 6", "99 7", "5 6 8", "4 8 9", "6 7 10", "1 0 2 3"]


def test_rules_are_followed_in_order(tmp_path):
    """Also of words that begin or end with what is unknown."""
    text = YttmBPE("\n".join([*LINES, ""]).encode())
    assert text.encode("ABC  bc") == [9, 7, 4, 10]
    assert text.encode("xxabxyab") == [4, 1, 8, 1, 8]
    assert text.decode([2, 9, 7, 4, 10, 3]) == "abc bc"
    assert (text.size, text.start, text.end, text.merges()) == (11, 2, 3, None)
    found = load_text(text.save(tmp_path / "text.model"))
    assert found == text == pickle.loads(pickle.dumps(text))


@pytest.mark.parametrize(
    ("line", "other"),
    [
        (0, "4 2"),
        (1, "1114112 4"),
        (5, "5 12 8"),
        (8, "1 0 2"),
        (8, "0 1 2 3"),
        (2, "97 12"),
        (3, "x 6"),
    ],
)
def test_damaged_models(line, other):
    lines = [*LINES[:line], other, *LINES[line + 1 :]]
    with pytest.raises(UserError, match="text.model"):
        YttmBPE("\n".join(lines).encode(), "text.model")


def test_pieces_cannot_grow_without_end():
    """Each rule doubles a piece: a small file would spell more than memory holds."""
    rules = [f"{i} {i} {i + 1}" for i in range(4, 60)]
    lines = [f"1 {len(rules)}", "97 4", *rules, "1 0 2 3"]
    with pytest.raises(UserError, match="no model of YouTokenToMe"):
        YttmBPE("\n".join(lines).encode(), "text.model")


def test_pieces_are_bounded_together():
    """Many long ones are as much as one without end."""
    rules = [f"{i} {i} {i + 1}" for i in range(4, 13)]
    rules += [f"13 12 {i}" for i in range(14, 14 + (1 << 24) // 768)]
    lines = [f"1 {len(rules)}", "97 4", *rules, "1 0 2 3"]
    with pytest.raises(UserError, match="no model of YouTokenToMe"):
        YttmBPE("\n".join(lines).encode(), "text.model")
