"""What a model can do."""

import pytest

from cogjax.errors import UserError
from cogjax.pipelines.contracts import Codec, Embedder, Generator, Reader, expect


def test_what_a_model_can_do_is_a_type(nano_model):
    for kind in (Generator, Reader, Codec):
        assert expect(nano_model, kind) is nano_model
    with pytest.raises(UserError, match="this model does not read images"):
        expect(object(), Reader)


def test_only_a_clip_compares_by_vectors(nano_model, toy_clip):
    assert expect(toy_clip, Embedder) is toy_clip
    with pytest.raises(UserError, match="this model does not compare images and texts"):
        expect(nano_model, Embedder)
    with pytest.raises(UserError, match="this model does not generate images"):
        expect(toy_clip, Generator)
