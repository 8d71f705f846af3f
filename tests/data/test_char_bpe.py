import json

import pytest

from cogjax.data.char_bpe import CharBPE
from cogjax.errors import UserError


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pieces": 5}, "is damaged"),
        ({"pieces": ["[UNK]", 5]}, "is damaged"),
        # Half of a surrogate pair, which no file of text can hold.
        ({"pieces": ["[UNK]", "\ud800"]}, "is damaged"),
        ({"merges": ["abc"]}, "is damaged"),
        ({"pieces": ["a"]}, r"has no \[UNK\], or a piece twice"),
        ({"pieces": ["[UNK]", "a", "a"]}, r"has no \[UNK\], or a piece twice"),
        ({"merges": [["x", "y"]]}, "merges to 'xy', which is no piece"),
    ],
)
def test_damaged_files(change, words):
    stored = {"char_bpe": 1, "pieces": ["[UNK]", "a", "a</w>"], "merges": []}
    assert CharBPE(json.dumps(stored).encode()).encode("Aa b") == [1, 2, 0]
    with pytest.raises(UserError, match=f"text.model {words}"):
        CharBPE(json.dumps(stored | change).encode(), "text.model")
