"""What a model can do."""

import pytest

from cogjax.errors import UserError
from cogjax.pipelines.contracts import Codec, Generator, Reader, expect


def test_what_a_model_can_do_is_a_type(nano_model):
    for kind in (Generator, Reader, Codec):
        assert expect(nano_model, kind) is nano_model
    with pytest.raises(UserError, match="this model does not read images"):
        expect(object(), Reader)
