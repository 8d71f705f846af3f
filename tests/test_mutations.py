import pytest

from tests.mutation_list import MUTATIONS
from tests.mutations import ROOT, locate


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.why)
def test_every_mutation_has_its_place(mutation):
    """Code that moved is found out here, not by `.ci/run`."""
    assert (ROOT / locate(mutation)).is_file()
