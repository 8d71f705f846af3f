import pickle

import pytest

from cogjax.data.class_names import ClassNames
from cogjax.data.text_files import load_text
from cogjax.errors import UserError

NAMES = ["tench, Tinca tinca", "", "crane", "Crane"]


def test_a_class_by_number_and_name(tmp_path):
    """The first of two with one name; the file is read as what it is."""
    classes = ClassNames.of(NAMES)
    asked = {"0": 0, " 3 ": 3, "TENCH": 0, "tinca  tinca": 0, "crane": 2, "1": 1}
    asked["tench, tinca tinca"] = 0
    assert ClassNames.of(["\ud800 \n x"]).decode([0]) == "? x"
    assert {text: classes.encode(text) for text in asked} == {
        text: [i] for text, i in asked.items()
    }
    assert classes.decode([0, 1]) == "tench, Tinca tinca, 1"
    found = load_text(classes.save(tmp_path / "text.model"))
    assert found == classes == pickle.loads(pickle.dumps(classes))
    assert (found.size, found.merges()) == (4, None)


@pytest.mark.parametrize("text", ["4", "-1", "1.5", "²", "99999999999", "a cat", ""])
def test_what_is_no_class(text):
    with pytest.raises(UserError, match="is no number from 0 to 3 and no name"):
        ClassNames.of(NAMES).encode(text)
    with pytest.raises(UserError, match="is no number from 0 to 1$"):
        ClassNames.of(["", ""]).encode(text if text != "-1" else "x")


@pytest.mark.parametrize(
    "data",
    [b"#classes x\n", b"#classes 2\na\n", b"#classes -1", b"#classes 1\n\xff\n"],
)
def test_damaged_files(data):
    with pytest.raises(UserError, match="text.model"):
        ClassNames(data, "text.model")
