"""VGG16 and LPIPS against PyTorch with random weights, and properties of a distance."""

import jax
import numpy as np
import pytest

from cogjax.interop.networks import load_weights
from cogjax.models.vgg import Vgg16Lpips, lpips_distance
from tests.published import expected_tensors, random_tensors, relative_difference

# Indices of torchvision's convolutions, "M" where it pools.
LAYERS = [0, 2, "M", 5, 7, "M", 10, 12, 14, "M", 17, 19, 21, "M", 24, 26, 28]


def test_parameters_are_those_of_the_published_network():
    tensors = expected_tensors(Vgg16Lpips())
    heads = {k: v for k, v in tensors.items() if k.startswith("lin")}
    assert sum(map(np.prod, heads.values())) == 1472
    assert sum(map(np.prod, tensors.values())) == 14_714_688 + 1472


def test_distance_by_hand():
    # One place, two channels: (3, 4) and (0, 2) become (0.6, 0.8) and (0, 1).
    a, b = np.float32([[[[3, 4]]]]), np.float32([[[[0, 2]]]])
    weights = [np.float32([1, 10])]
    distance = lpips_distance([a], [b], weights)
    np.testing.assert_allclose(distance, [0.36 + 10 * 0.04], rtol=1e-6)
    np.testing.assert_array_equal(lpips_distance([a], [7 * a], weights) < 1e-12, True)
    np.testing.assert_array_equal(lpips_distance([0 * a], [0 * a], weights), 0)


def reference(torch, tensors, x):
    F = torch.nn.functional
    shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]
    x = (x - shift) / scale
    levels = []
    for index in [*LAYERS, "M"]:
        if index == "M":
            levels.append(x)
            x = F.max_pool2d(x, 2, 2)
        else:
            name = f"features.{index}"
            parts = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
            x = F.relu(F.conv2d(x, *parts, padding=1))
    return levels


def test_against_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    tensors = random_tensors(rng, expected_tensors(Vgg16Lpips()))
    tensors = {k: torch.from_numpy(v) for k, v in tensors.items()}
    heads = {k: v.abs() for k, v in tensors.items() if k.startswith("lin")}
    trunk = {k: v for k, v in tensors.items() if k not in heads}
    torch.save(trunk | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg16.pth")
    torch.save(heads, tmp_path / "vgg.pth")
    files = [tmp_path / "vgg16.pth", tmp_path / "vgg.pth"]
    params = load_weights(Vgg16Lpips(), files)
    images = rng.uniform(-1, 1, (2, 2, 37, 33, 3)).astype(np.float32)
    ours = [Vgg16Lpips().apply({"params": params}, x) for x in images]
    with torch.no_grad():
        nchw = torch.from_numpy(images.transpose(0, 1, 4, 2, 3).copy())
        theirs = [reference(torch, tensors, x) for x in nchw]
        total = 0
        for i, pair in enumerate(zip(*theirs, strict=True)):
            a, b = (x / (x.square().sum(1, True).sqrt() + 1e-10) for x in pair)
            weighted = torch.nn.functional.conv2d(
                (a - b) ** 2, heads[f"lin{i}.model.1.weight"]
            )
            total = total + weighted.mean((1, 2, 3))
    for (levels, _), wanted in zip(ours, theirs, strict=True):
        for level, want in zip(levels, wanted, strict=True):
            assert relative_difference(level.transpose(0, 3, 1, 2), want) < 2e-5
    distance = jax.jit(lpips_distance)(ours[0][0], ours[1][0], ours[0][1])
    assert relative_difference(distance, total) < 2e-5
