"""Files that were made to harm, or are none of the kinds they seem to be."""

import pytest

from cogjax.errors import UserError
from cogjax.interop.source import open_source
from tests.importing import files
from tests.interop.test_torch_files import VALUES


def weights(folder):
    return files.state_dict(folder / "w.pt", {"a": VALUES})


# A few such lines, each of ten aliases of the one before, would fill any memory.
ALIASES = "a: &a [x]\n" + "b: &b [*a, *a]\n"
MERGES = "a: &a {x: 1}\n" + "b: {<<: [*a, *a]}\n"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ALIASES, r"w.yaml is damaged: it has the alias \*a"),
        (MERGES, r"w.yaml is damaged: it has the alias \*a"),
        ("a: !!bool x", "w.yaml is damaged"),
        ("a: !!int ''", "w.yaml is damaged"),
        ("a: !!timestamp x", "w.yaml is damaged"),
        ("a: !!python/object/apply:os.abort []", "w.yaml is damaged"),
    ],
)
def test_config_files_that_harm(tmp_path, config, words):
    weights(tmp_path)
    (tmp_path / "w.yaml").write_text(config)
    with pytest.raises(UserError, match=words):
        open_source([tmp_path])


def test_a_config_file_of_yaml_is_small(tmp_path):
    """PyYAML needs 15 s for 1 MB; such a file is none that anything reads."""
    weights(tmp_path)
    (tmp_path / "w.yaml").write_text("a: [" + "b," * 2**16 + "b]")
    assert not open_source([tmp_path]).configs
