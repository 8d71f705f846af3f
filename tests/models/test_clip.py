"""CLIP against float64 numpy, and its published layout in PyTorch; random weights."""

import dataclasses

import jax
import numpy as np
import pytest

from cogjax.interop.networks import load_weights
from cogjax.models.clip import CONFIGS, Clip, ClipConfig
from tests.programs import random_params
from tests.published import expected_tensors, random_tensors, relative_difference
from tests.reference import clip as statement
from tests.reference.numeric import double

SMALL = ClipConfig(32, 8, 128, 3, 24, 64, text_depth=2, vocab_size=50)
STEM = dataclasses.replace(SMALL, stem=(8, 24, 16), depth=1, text_depth=1)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vit-b-32", 151_277_313),
        ("vit-b-16", 149_620_737),
        ("vit-l-14", 427_616_513),
        ("vit-l-14-336", 427_944_193),
    ],
)
def test_parameters_are_those_of_the_published_network(name, count):
    tensors = expected_tensors(Clip(CONFIGS[name]))
    assert sum(map(np.prod, tensors.values())) == count
    assert tensors["visual.transformer.resblocks.11.attn.in_proj_weight"][0] % 3 == 0


def clip_tensors():
    rng = np.random.default_rng(0)
    tensors = random_tensors(rng, expected_tensors(Clip(SMALL)))
    tensors["token_embedding.weight"] = rng.normal(0, 1, (50, 64)).astype(np.float32)
    return tensors


def reference(torch, tensors, images, ids):
    """Both embeddings, with PyTorch's own layers of a transformer."""
    F = torch.nn.functional

    def norm(name, x):
        w, b = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return F.layer_norm(x, w.shape, w, b)

    def linear(name, x):
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def tower(prefix, x, depth, mask):
        for i in range(depth):
            n = f"{prefix}transformer.resblocks.{i}."
            attention = torch.nn.MultiheadAttention(x.shape[-1], x.shape[-1] // 64)
            start = n + "attn."
            own = {k: v for k, v in tensors.items() if k.startswith(start)}
            attention.load_state_dict({k[len(start) :]: v for k, v in own.items()})
            h = norm(n + "ln_1", x).transpose(0, 1)
            h = attention(h, h, h, need_weights=False, attn_mask=mask)[0]
            x = x + h.transpose(0, 1)
            h = linear(n + "mlp.c_fc", norm(n + "ln_2", x))
            x = x + linear(n + "mlp.c_proj", h * torch.sigmoid(1.702 * h))
        return x

    x = F.conv2d(images, tensors["visual.conv1.weight"], stride=SMALL.patch)
    x = x.flatten(2).transpose(1, 2)
    first = tensors["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + tensors["visual.positional_embedding"]
    x = tower("visual.", norm("visual.ln_pre", x), SMALL.depth, None)
    image = norm("visual.ln_post", x[:, 0]) @ tensors["visual.proj"]
    x = tensors["token_embedding.weight"][ids] + tensors["positional_embedding"]
    mask = torch.full((77, 77), float("-inf")).triu(1)
    x = norm("ln_final", tower("", x, SMALL.text_depth, mask))
    x = x[torch.arange(len(x)), ids.argmax(1)]
    return image, x @ tensors["text_projection"]


@pytest.mark.parametrize("config", [SMALL, STEM], ids=["patches", "stem"])
def test_towers_and_logits_equal_the_statement_in_float64(config):
    images = np.random.default_rng(3).normal(size=(3, 32, 32, 3)).astype(np.float32)
    ids = captions(np.random.default_rng(4))
    params = random_params(Clip(config), images[:1], ids[:1], std=0.1)
    params["logit_scale"] += np.float32(np.log(20))
    found = jax.jit(lambda *args: Clip(config).apply({"params": params}, *args))
    wanted = statement.logits(double(params), images.astype(np.float64), ids)
    assert wanted.std() > 1
    np.testing.assert_allclose(
        found(images, ids), wanted, atol=1e-5 * np.abs(wanted).max()
    )


def captions(rng):
    ids = np.zeros((3, 77), np.int32)
    for row, length in zip(ids, (3, 20, 77), strict=True):
        row[0], row[length - 1] = 48, 49
        row[1 : length - 1] = rng.integers(1, 48, length - 2)
    return ids


# torch.jit warns; OpenAI's files were written by it.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("archive", ["state dict", "TorchScript"])
def test_against_pytorch(tmp_path, archive):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    tensors = {k: torch.from_numpy(v) for k, v in clip_tensors().items()}
    notes = {"input_resolution": torch.tensor(32), "vocab_size": torch.tensor(50)}
    if archive == "TorchScript":
        torch.jit.save(as_script(torch, tensors | notes), tmp_path / "clip.pt")
    else:
        torch.save(tensors | notes, tmp_path / "clip.pt")
    params = load_weights(Clip(SMALL), tmp_path / "clip.pt")
    images = rng.normal(0, 1, (3, 32, 32, 3)).astype(np.float32)
    ids = captions(rng)
    with torch.no_grad():
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        wanted = reference(torch, tensors, nchw, torch.from_numpy(ids).long())
    for method, inputs, want in (
        ("encode_image", images, wanted[0]),
        ("encode_text", ids, wanted[1]),
    ):
        found = Clip(SMALL).apply({"params": params}, inputs, method=method)
        assert relative_difference(found, want) < 2e-5
    logits = Clip(SMALL).apply({"params": params}, images, ids)
    unit = [torch.nn.functional.normalize(x) for x in wanted]
    scale = tensors["logit_scale"].exp()
    assert relative_difference(logits, scale * unit[0] @ unit[1].T) < 2e-5


def as_script(torch, tensors):
    """A compiled module whose parts are named by the dots."""
    tree = torch.nn.Module()
    for name, value in tensors.items():
        node = tree
        *parts, leaf = name.split(".")
        for part in parts:
            if not hasattr(node, part):
                node.add_module(part, torch.nn.Module())
            node = getattr(node, part)
        node.register_buffer(leaf, value)
    return torch.jit.script(tree)


def test_text_ends_at_its_end_token():
    """What comes behind the end is not seen, nor is where it ends assumed."""
    shapes = jax.eval_shape(
        Clip(SMALL).init,
        jax.random.key(0),
        np.zeros((1, 32, 32, 3), np.float32),
        np.zeros((1, 77), np.int32),
    )["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32), shapes
    )
    ids = captions(rng)[1:2]
    changed = ids.copy()
    changed[0, 25:40] = 7
    encode = jax.jit(
        lambda ids: Clip(SMALL).apply({"params": params}, ids, method="encode_text")
    )
    np.testing.assert_allclose(encode(ids), encode(changed), rtol=1e-5, atol=1e-6)
    changed[0, 5] = (ids[0, 5] + 1) % 48
    assert np.abs(encode(ids) - encode(changed)).max() > 1e-3
