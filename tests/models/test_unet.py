import dataclasses
import functools

import flax.linen as nn
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from cogjax.model import Component, digest
from cogjax.models import efficient_unet, unet
from cogjax.nn import unet as blocks
from cogjax.nn.unet import Text
from tests.programs import random_params
from tests.reference import unet as reference
from tests.reference.numeric import double

TINY = unet.UNetConfig(
    image_size=8,
    width=4,
    multipliers=(1, 2),
    res_blocks=1,
    attention=(4,),
    head_dim=2,
    embed=8,
    text_dim=6,
    groups=2,
)
# One level: half the time to compile, where the network is not what is tested.
FLAT = dataclasses.replace(TINY, multipliers=(1,), attention=())
TINY_SR = efficient_unet.EfficientUNetConfig(
    image_size=8,
    small_size=4,
    widths=(4, 8),
    blocks=(1, 2),
    heads=2,
    embed=8,
    text_dim=6,
    groups=2,
)
RNG = np.random.default_rng(0)
Z, SMALL = (np.float32(RNG.normal(size=(2, 8, 8, 3))) for _ in range(2))
LEVELS, SMALL_LEVELS = np.float32([-3, 2.5]), np.float32([1, -6])
TOKENS = np.float32(RNG.normal(size=(2, 5, 6)))
MASK = np.array([[True] * 5, [True, True, False, False, False]])
TEXT = Text(TOKENS, MASK)
BASE, SR = (Z, LEVELS, TEXT), (Z, LEVELS, TEXT, SMALL, SMALL_LEVELS)


def inputs_of(net):
    return SR if net.config.small_size else BASE


@functools.cache
def params_of(net):
    return random_params(net, *inputs_of(net))


@functools.partial(jax.jit, static_argnums=0)
def run(net, params, *args):
    return net.apply({"params": params}, *args)


@pytest.mark.parametrize(
    "change", [{}, {"conditioning": "pooled"}, {"small_size": 4}], ids=str
)
def test_base_unet_is_the_papers(change):
    config = dataclasses.replace(TINY, **change)
    net = unet.UNet(config)
    params = params_of(net)
    beside = (SMALL, SMALL_LEVELS) if config.small_size else ()
    inputs = (*map(np.float64, (Z, LEVELS)), *TEXT, *beside)
    wanted = reference.unet(config, double(params), *inputs)
    found = run(net, params, *BASE, *beside)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize(
    "attention, skip_scale", [("both", "residual"), ("text", "long"), ("none", "none")]
)
def test_efficient_unet_is_the_papers(attention, skip_scale):
    config = dataclasses.replace(TINY_SR, attention=attention, skip_scale=skip_scale)
    net = efficient_unet.EfficientUNet(config)
    params = params_of(net)
    wanted = reference.efficient_unet(
        config,
        double(params),
        *map(np.float64, (Z, LEVELS)),
        *TEXT,
        SMALL,
        SMALL_LEVELS,
    )
    found = run(net, params, *SR)
    assert wanted.std() > 0.1
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_digests_of_older_models_stay():
    """As they were before a text could be pooled and a base could enlarge."""
    found = digest(Component(unet.UNetConfig(), {}))
    assert found == "fbaa329661668fce328cb9ee51ebd2ba5ec731864eaf2216e32ee36d18786601"


@pytest.mark.parametrize(
    "net", [unet.UNet(TINY), efficient_unet.EfficientUNet(TINY_SR)]
)
def test_matrices_are_the_kernels_within(net):
    """For Muon: all that map features to features, convolutions by their windows."""
    params = params_of(net)
    chosen = {}
    for path, leaf in flatten_dict(params).items():
        *_, layer, name = path
        if name != "kernel" or path[0] in ("in", "out", "level", "small_level"):
            continue
        inputs = {4: 3, 2: 1}.get(leaf.ndim, 2 if layer == "out" else 1)
        axes = tuple(range(leaf.ndim))
        chosen[path] = axes[:inputs], axes[inputs:]
    found = flatten_dict(blocks.matrix_axes(params))
    assert {path: each for path, each in found.items() if each} == chosen
    names = {path[-2] for path in chosen}
    convolutions = (
        {"conv_in", "conv_out", "skip"}
        if "mid.block_0" in params
        else {"conv_0", "conv_1", "skip"}
    )
    assert names >= convolutions | {"film", "query", "text_key", "out"}
    assert found["pool", "out", "kernel"] == ((0, 1), (2,))


def test_padding_of_the_text_is_not_read():
    net = unet.UNet(TINY)
    other = np.where(MASK[..., None], TOKENS, 100).astype(np.float32)
    found = run(net, params_of(net), Z, LEVELS, Text(other, MASK))
    np.testing.assert_allclose(found, run(net, params_of(net), *BASE), atol=1e-5)
    heard = run(net, params_of(net), Z, LEVELS, Text(TOKENS + 1 * (TOKENS > 0), MASK))
    assert np.abs(heard - found).max() > 1e-2


def operations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for each in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(each, "jaxpr", each)
                if hasattr(inner, "eqns"):
                    yield from operations(inner)


@pytest.mark.parametrize(
    "net", [unet.UNet(TINY), efficient_unet.EfficientUNet(TINY_SR)]
)
def test_norms_and_softmax_of_half_precision_are_in_float32(net):
    net = net.clone(config=dataclasses.replace(net.config, dtype="bfloat16"))
    args = inputs_of(net)
    traced = jax.make_jaxpr(net.apply)({"params": params_of(net)}, *args)
    kinds = {name: set() for name in ("rsqrt", "exp", "conv_general_dilated")}
    for eqn in operations(traced.jaxpr):
        if eqn.primitive.name in kinds:
            kinds[eqn.primitive.name].add(eqn.outvars[0].aval.dtype.name)
    assert kinds["rsqrt"] == kinds["exp"] == {"float32"}
    assert "bfloat16" in kinds["conv_general_dilated"]
    assert traced.out_avals[0].dtype == np.float32


class Affine(nn.Module):
    """Group normalisation without its statistics, which are of a whole image."""

    groups: int

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
        return x * scale + self.param("bias", nn.initializers.zeros, x.shape[-1:])


def test_the_inside_of_a_crop_is_that_of_the_image(monkeypatch):
    """A network without attention over the image, as it is trained on crops."""
    for module in (efficient_unet, blocks):
        monkeypatch.setattr(module, "GroupNorm", Affine)
    config = dataclasses.replace(TINY_SR, attention="text", blocks=(1, 1))
    net = efficient_unet.EfficientUNet(config)
    params = random_params(net, *SR, std=0.2)
    z, small = np.float32(RNG.normal(size=(2, 2, 88, 88, 3)))
    cut = lambda x: x[:, 8:80, 8:80]  # noqa: E731
    apply = jax.jit(net.apply)

    def drawn(z, small):
        return apply({"params": params}, z, LEVELS, TEXT, small, SMALL_LEVELS)

    whole, crop = cut(np.asarray(drawn(z, small))), drawn(cut(z), cut(small))
    # 31 pixels from an edge nothing of it is seen.
    inside = (slice(None), slice(32, 40), slice(32, 40))
    scale = np.abs(whole).max()
    np.testing.assert_allclose(crop[inside], whole[inside], atol=1e-5 * scale)
    assert np.abs(crop - whole)[:, 0].max() > 1e-3 * scale


def test_an_untrained_network_predicts_nothing():
    """The last convolutions of blocks and network start at zero."""
    net = unet.UNet(TINY)
    started = jax.jit(net.init)(jax.random.key(0), *BASE)["params"]
    assert not np.any(run(net, started, *BASE))


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (unet.UNetConfig, {"image_size": 30}, "does not halve 3 times"),
        (unet.UNetConfig, {"width": 40}, "no multiple of groups"),
        (unet.UNetConfig, {"head_dim": 48, "groups": 1}, "no multiple of head_dim"),
        (unet.UNetConfig, {"res_blocks": 0}, "res_blocks is 0, expected 1 to"),
        (unet.UNetConfig, {"image_size": -64}, "image_size is -64, expected 1 to"),
        (unet.UNetConfig, {"attention": (7,)}, "attention is at"),
        (unet.UNetConfig, {"embed": 96}, "embed 96 is no multiple of head_dim"),
        (efficient_unet.EfficientUNetConfig, {"blocks": (1, 2)}, "differ"),
        (efficient_unet.EfficientUNetConfig, {"small_size": 300}, "above image_size"),
        (efficient_unet.EfficientUNetConfig, {"heads": 3}, "no multiple of heads"),
    ],
)
def test_sizes_that_make_no_network_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**settings)
