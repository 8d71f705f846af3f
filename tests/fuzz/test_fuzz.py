"""A few damaged files for each reader; many more with `python -m tests.fuzz`."""

import pytest

from tests.fuzz.harness import fuzz
from tests.fuzz.readers import IMPORTED, READERS

# Those that trace a network or read through Orbax take a tenth of a second a case.
FEW = {
    "model folder": 12,
    "model config": 6,
    "format 1": 12,
    "T5 folder": 12,
    "checkpoint": 6,
    **{f"import of {name}": 10 for name in IMPORTED},
}


# Threads of Orbax outlive a read that has failed, and complain that it is over.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_right(tmp_path, name):
    n = FEW.get(name, 25)
    found = fuzz(READERS[name](), n, 1, tmp_path)
    assert not found.failures
    assert found.counts["refused"] + found.counts["accepted"] == n


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_many_damaged_files_are_refused_or_right(tmp_path, name):
    found = fuzz(READERS[name](), 500, 2, tmp_path)
    assert not found.failures
