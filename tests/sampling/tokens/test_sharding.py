"""Drawing with weights and caches split over a mesh: the tokens of one device."""

import functools
import re

import jax
import numpy as np
import pytest

from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.models.image_lm import ImageLM
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import for_inference, scoring
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    advance,
    image_keys,
    prefill,
)
from cogjax.sampling.tokens.sharding import packed_shardings, state_shardings
from tests.programs import random_params

KINDS = ("row", "column")
CONFIG = ImageLMConfig(
    vocab_size=128,
    width=32,
    depth=2,
    heads=4,
    mlp_dim=64,
    max_positions=15,
    dropout=0.0,
    sequence=Sequence.text_to_image(6, (3, 3)),
    kinds=tuple(LayerKind(name) for name in KINDS),
)
LM = ImageLM(CONFIG)


@functools.cache
def packed(weights="float32"):
    return for_inference(random_params(LM), weights)


@functools.cache
def start(images):
    """(packed parameters, state after the prompts)."""
    prompts = np.random.default_rng(0).integers(64, 128, (4, 6), np.int32)[:images]
    forced = np.full((images, 9), -1)
    prompts = Prompts(prompts, np.zeros(images, np.int32))
    run = jax.jit(lambda params, *args: prefill(LM, scoring(params, (0, 64)), *args))
    return packed(), run(packed(), prompts, image_keys(0, 0, images), forced)


def draw(params, state):
    params, ids = scoring(params, (0, 64)), OutputIds(np.ones(64, bool))
    return advance(LM, params, state, 9, ids=ids, sampler=Sampler().numbers())


@functools.cache
def tokens_of_one_device():
    return np.asarray(jax.jit(draw)(*start(4)).tokens)


@functools.cache
def compiled(images, sizes):
    """(compiled loop, parameters and state on the mesh)."""
    params, state = start(images)
    mesh = make_mesh(MeshConfig(*sizes), jax.devices()[: int(np.prod(sizes))])
    placed = packed_shardings(params, mesh), state_shardings(state, mesh)
    with jax.set_mesh(mesh):
        step = jax.jit(draw, in_shardings=placed, out_shardings=placed[1])
        return step.lower(params, state).compile(), jax.device_put(
            (params, state), placed
        )


@pytest.mark.parametrize(("images", "sizes"), [(4, (2, 1, 4)), (1, (1, 1, 2))])
def test_tokens_are_those_of_one_device(images, sizes):
    want = tokens_of_one_device()[:images]
    step, arrays = compiled(images, sizes)
    got = step(*arrays)
    np.testing.assert_array_equal(got.tokens, want)
    layer = got.cache[1].key
    assert layer.addressable_shards[0].data.size * np.prod(sizes) == layer.size


def test_a_layer_sums_twice_and_gathers_no_weights():
    """One position: it must not be split over the tensor group as a sequence is."""
    step, _ = compiled(4, (2, 1, 4))
    text = step.as_text()
    sums = re.findall(
        r"= (f32\[[\d,]*32[\d,]*\])\S* all-reduce\(.*ImageLM/blocks", text
    )
    assert len(sums) == 2 * CONFIG.depth
    assert not re.findall(r"all-reduce\(.*_norm/", text)
    gathered = re.findall(r"= \w+\[([\d,]+)\]\S* all-gather\(.*ImageLM/blocks", text)
    # Queries, keys and values of the sequences, never a kernel of 32 x 96.
    sizes = [np.prod([int(n) for n in dims.split(",")]) for dims in gathered]
    assert max(sizes, default=0) <= 4 * 96
    assert "all-to-all" not in text


def test_int8_has_scales_beside_its_rows():
    params = packed("int8")
    mesh = make_mesh(MeshConfig(1, 1, 8))
    with pytest.raises(UserError, match=r"mesh\.tensor is 8: it does not divide 4 of"):
        packed_shardings(params, mesh)
    placed = packed_shardings(params, make_mesh(MeshConfig(2, 1, 4)))
    kernel = placed["blocks"]["layers"][0]["mlp_in"]["kernel"]
    assert kernel.rows.shard_shape((64, 32)) == (16, 32)
    assert kernel.scale.shard_shape((64,)) == (16,)
