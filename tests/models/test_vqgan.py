"""The published networks' sizes and names, and what the small ones compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cogjax.families.vqgan.presets import TOKENIZERS
from cogjax.interop.tree import flatten
from cogjax.models.vqgan import VQGAN, Attention, Block, VQGANConfig
from cogjax.nn.layers import GroupNorm
from tests.reference import tokenizers as reference
from tests.reference.numeric import double

TINY = VQGANConfig(
    image_size=8,
    width=4,
    multipliers=(1, 2),
    res_blocks=1,
    attention=(4,),
    z_dim=6,
    code_dim=5,
    codebook_size=7,
    groups=2,
)
RNG = np.random.default_rng(0)


def shapes(config):
    size = config.image_size
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    net = VQGAN(config)
    params = jax.eval_shape(net.init, jax.random.key(0), images)["params"]
    z = jax.eval_shape(
        lambda p, x: net.apply({"params": p}, x, method="encode"), params, images
    )
    back = jax.eval_shape(
        lambda p, x: net.apply({"params": p}, x, method="decode"), params, z
    )
    return params, z, back


def random_params(config):
    return jax.tree.map(
        lambda x: RNG.normal(0, 0.2, x.shape).astype(np.float32), shapes(config)[0]
    )


def count(tree):
    leaves = jax.tree.leaves(tree)
    return sum(leaf.size for leaf in leaves), len(leaves)


@pytest.mark.parametrize(
    ("name", "encoder", "decoder", "grid"),
    [
        ("f16", (29_298_176, 144), (42_449_795, 194), 16),
        ("f8", (26_345_728, 126), (38_316_163, 168), 32),
    ],
)
def test_published_networks_have_the_published_sizes(name, encoder, decoder, grid):
    config = TOKENIZERS[name]
    params, z, back = shapes(config)
    assert count(params["encoder"]) == encoder
    assert count(params["decoder"]) == decoder
    assert z.shape == (1, grid, grid, 256)
    assert back.shape == (1, 256, 256, 3)
    tensors = {path.replace("/", "."): x.shape for path, x in flatten(params).items()}
    # (level, widths) of the only shortcuts; `up` counts from the highest resolution.
    found = {
        path.removesuffix(".nin_shortcut.kernel"): shape[2:]
        for path, shape in tensors.items()
        if path.endswith("nin_shortcut.kernel")
    }
    levels = {"f16": (2, 4, 3, 1), "f8": (2, 3, 2, 1)}[name]
    assert found == {
        f"encoder.down.{levels[0]}.block.0": (128, 256),
        f"encoder.down.{levels[1]}.block.0": (256, 512),
        f"decoder.up.{levels[2]}.block.0": (512, 256),
        f"decoder.up.{levels[3]}.block.0": (256, 128),
    }
    attention = {p.rsplit(".", 2)[0] for p in tensors if ".attn." in p}
    level = len(config.multipliers) - 1
    assert attention == {
        *(f"encoder.down.{level}.attn.{i}" for i in range(2)),
        *(f"decoder.up.{level}.attn.{i}" for i in range(3)),
    }
    assert tensors["encoder.mid.attn_1.proj_out.kernel"] == (1, 1, 512, 512)
    assert tensors["encoder.down.0.downsample.conv.kernel"] == (3, 3, 128, 128)
    assert tensors["decoder.up.1.upsample.conv.kernel"][3] == 128
    gumbel = ("quantize.proj.kernel" in tensors, config.form)
    assert gumbel in ((True, "gumbel"), (False, "nearest"))


@pytest.mark.parametrize("name", ["emoji", "nano"])
def test_our_presets_fit_together(name):
    config = TOKENIZERS[name]
    _, z, back = shapes(config)
    assert z.shape == (1, config.grid, config.grid, config.code_dim)
    assert back.shape == (1, config.image_size, config.image_size, 3)


def test_pixels_are_mapped_both_ways():
    """A decoder of zeros draws grey, and black goes in as -1."""
    params, net = random_params(TINY), VQGAN(TINY)
    zeros = jax.tree.map(np.zeros_like, params)
    z = jnp.zeros((1, 4, 4, 5))

    @jax.jit
    def draw(params):
        parts = net.apply({"params": params}, z, method="decode_parts")
        return *parts, net.apply({"params": params}, z, method="decode")

    np.testing.assert_array_equal(draw(zeros)[2], 0.5)
    hidden, raw, drawn = draw(params)
    np.testing.assert_allclose(drawn, (raw + 1) / 2, rtol=1e-6)
    last = params["decoder"]["conv_out"]
    # At the middle of the picture, where no padding is.
    window = np.einsum("ijc,ijcd->d", hidden[0, 2:5, 3:6], last["kernel"])
    np.testing.assert_allclose(raw[0, 3, 4], window + last["bias"], rtol=1e-4)


def test_norm_and_attention_equal_numpy():
    x = RNG.normal(3, 2, (2, 3, 5, 8)).astype(np.float32)
    groups = x.reshape(2, 15, 4, 2).astype(np.float64)
    mean, std = groups.mean((1, 3), keepdims=True), groups.std((1, 3), keepdims=True)
    want = ((groups - mean) / std).reshape(x.shape)
    ones, zeros = np.ones(8, np.float32), np.zeros(8, np.float32)
    got = jax.jit(GroupNorm(4).apply)({"params": {"scale": ones, "bias": zeros}}, x)
    np.testing.assert_allclose(got, want, atol=1e-5)
    kernels = {k: RNG.normal(0, 0.5, (8, 8)) for k in ("q", "k", "v", "proj_out")}
    params = {k: {"kernel": w[None, None], "bias": zeros} for k, w in kernels.items()}
    params["norm"] = {"scale": ones, "bias": zeros}
    flat = want.reshape(2, 15, 8)
    q, k, v = (flat @ kernels[name] for name in "qkv")
    scores = np.exp(np.einsum("btd,bsd->bts", q, k) / np.sqrt(8))
    mixed = np.einsum("bts,bsd->btd", scores / scores.sum(-1, keepdims=True), v)
    want = x + (mixed @ kernels["proj_out"]).reshape(x.shape)
    got = jax.jit(Attention(4).apply)({"params": params}, x)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_codes_of_both_forms():
    codebook = RNG.normal(size=(7, 5)).astype(np.float32)
    z = RNG.normal(size=(2, 4, 4, 5)).astype(np.float32)
    net, params = VQGAN(TINY), {"params": random_params(TINY)}
    logits = net.apply(params, z, codebook, method="code_logits")
    distances = np.square(z[..., None, :] - codebook).sum(-1)
    np.testing.assert_array_equal(logits.argmax(-1), distances.argmin(-1))
    gumbel = dataclasses.replace(TINY, form="gumbel")
    params = random_params(gumbel)
    logits = VQGAN(gumbel).apply({"params": params}, z, codebook, method="code_logits")
    proj = params["quantize.proj"]
    np.testing.assert_allclose(logits, z @ proj["kernel"][0, 0] + proj["bias"], 1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 9}, "does not halve 1 times"),
        ({"groups": 3}, "width 4 is no multiple of groups 3"),
        ({"res_blocks": 0}, "res_blocks is 0, expected 1"),
    ],
)
def test_impossible_shapes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("size", [(8, 8), (4, 16)], ids=["square", "oblong"])
@pytest.mark.parametrize("half", ["encode", "decode"])
def test_network_equals_the_statement_in_float64(half, size):
    """At another size too: attention belongs to levels, not to sides of an image."""
    net, params = VQGAN(TINY), random_params(TINY)
    scale, width = (1, 3) if half == "encode" else (2, TINY.code_dim)
    places = [side // scale for side in size]
    x = np.random.default_rng(1).uniform(size=(2, *places, width)).astype("float32")
    found = jax.jit(lambda x: net.apply({"params": params}, x, method=half))(x)
    wanted = getattr(reference, f"vqgan_{half}")(TINY, double(params), x)
    assert wanted.std() > 0.01
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def torch_tensors(params):
    """Parameters as PyTorch keeps them, by the release's names."""
    import torch

    names = {"kernel": "weight", "scale": "weight", "bias": "bias"}
    found = {}
    for path, leaf in flatten(params).items():
        layer, _, leaf_name = path.rpartition("/")
        value = leaf.transpose(3, 2, 0, 1) if leaf.ndim == 4 else leaf
        name = f"{layer.replace('/', '.')}.{names[leaf_name]}"
        found[name] = torch.tensor(value)
    return found


def test_blocks_and_network_equal_torch():
    """The encoder said once more in PyTorch, with the release's names and layers."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    params = random_params(TINY)
    w = torch_tensors(params)

    def conv(x, name, **kwargs):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], **kwargs)

    def norm(x, name):
        scale, bias = w[f"{name}.weight"], w[f"{name}.bias"]
        return F.group_norm(x, TINY.groups, scale, bias, eps=1e-6)

    def block(x, name):
        h = conv(F.silu(norm(x, f"{name}.norm1")), f"{name}.conv1", padding=1)
        h = conv(F.silu(norm(h, f"{name}.norm2")), f"{name}.conv2", padding=1)
        skip = f"{name}.nin_shortcut"
        return h + (conv(x, skip) if f"{skip}.weight" in w else x)

    def attention(x, name):
        h = norm(x, f"{name}.norm")
        q, k, v = (conv(h, f"{name}.{part}").flatten(2) for part in "qkv")
        scores = torch.softmax(q.transpose(1, 2) @ k * q.shape[1] ** -0.5, dim=-1)
        h = (v @ scores.transpose(1, 2)).reshape(x.shape)
        return x + conv(h, f"{name}.proj_out")

    def middle(x, side):
        x = attention(block(x, f"{side}.mid.block_1"), f"{side}.mid.attn_1")
        return block(x, f"{side}.mid.block_2")

    images = RNG.uniform(size=(2, 8, 8, 3)).astype(np.float32)
    x = torch.tensor(images).permute(0, 3, 1, 2) * 2 - 1
    x = block(conv(x, "encoder.conv_in", padding=1), "encoder.down.0.block.0")
    x = conv(F.pad(x, (0, 1, 0, 1)), "encoder.down.0.downsample.conv", stride=2)
    x = attention(block(x, "encoder.down.1.block.0"), "encoder.down.1.attn.0")
    x = F.silu(norm(middle(x, "encoder"), "encoder.norm_out"))
    z = conv(conv(x, "encoder.conv_out", padding=1), "quant_conv")
    encode = jax.jit(lambda p: VQGAN(TINY).apply(p, images, method="encode"))
    got = encode({"params": params})
    np.testing.assert_allclose(got, z.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-4)

    x = conv(conv(z, "post_quant_conv"), "decoder.conv_in", padding=1)
    x = middle(x, "decoder")
    for i in range(2):
        x = attention(block(x, f"decoder.up.1.block.{i}"), f"decoder.up.1.attn.{i}")
    x = F.interpolate(x, scale_factor=2.0, mode="nearest")
    x = conv(x, "decoder.up.1.upsample.conv", padding=1)
    for i in range(2):
        x = block(x, f"decoder.up.0.block.{i}")
    x = conv(F.silu(norm(x, "decoder.norm_out")), "decoder.conv_out", padding=1)
    got = VQGAN(TINY).apply({"params": params}, got, method="decode_parts")[1]
    np.testing.assert_allclose(got, x.permute(0, 2, 3, 1), rtol=1e-3, atol=1e-3)


def test_a_block_without_weights_is_its_skip():
    x = RNG.normal(size=(1, 4, 4, 4)).astype(np.float32)
    shapes = jax.eval_shape(Block(4, 2).init, jax.random.key(0), x)["params"]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape), shapes)
    np.testing.assert_array_equal(Block(4, 2).apply({"params": zeros}, x), x)
