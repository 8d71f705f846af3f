"""InceptionV3 against its published layout in PyTorch, with random weights."""

import jax
import numpy as np
import pytest

from cogjax.interop.networks import load_weights
from cogjax.models.inception import InceptionV3
from tests.published import expected_tensors, random_tensors, relative_difference

# Widths after each mixed block, and inside those of 17 x 17: figure 5 to 7, table 1.
WIDTHS = [256, 288, 288, 768, 768, 768, 768, 768, 1280, 2048, 2048]
INNER = {"Mixed_6b": 128, "Mixed_6c": 160, "Mixed_6d": 160, "Mixed_6e": 192}


@pytest.mark.parametrize(("variant", "classes"), [("fid", 1008), ("torchvision", 1000)])
def test_parameters_are_those_of_the_published_network(variant, classes):
    tensors = expected_tensors(InceptionV3(variant))
    trained = [v for k, v in tensors.items() if not k.split(".")[-1].startswith("runn")]
    # 27,161,264 with the head for training, which has 3,326,696; 2,049 a class.
    assert sum(map(np.prod, trained)) == 27_161_264 - 3_326_696 + 2049 * (
        classes - 1000
    )
    for name, inner in INNER.items():
        assert tensors[f"{name}.branch7x7dbl_3.conv.weight"] == (inner, inner, 1, 7)


@pytest.mark.parametrize(("side", "grid"), [(299, 8), (75, 1)])
def test_shapes(side, grid):
    def run(key, x):
        return InceptionV3().init_with_output(key, x)[0]

    images = jax.ShapeDtypeStruct((2, side, side, 3), np.float32)
    features, logits = jax.eval_shape(run, jax.random.key(0), images)
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)


class Reference:
    """What torchvision computes, with pytorch-fid's changes for "fid"."""

    def __init__(self, torch, tensors, variant):
        self.torch, self.F = torch, torch.nn.functional
        self.tensors, self.variant = tensors, variant

    def unit(self, name, x, padding=0, stride=1):
        parts = ("running_mean", "running_var", "weight", "bias")
        norm = [self.tensors[f"{name}.bn.{part}"] for part in parts]
        weight = self.tensors[f"{name}.conv.weight"]
        x = self.F.conv2d(x, weight, None, stride, padding)
        return self.F.relu(self.F.batch_norm(x, *norm, eps=0.001))

    def chain(self, name, x, *steps):
        for suffix, *how in steps:
            x = self.unit(f"{name}.{suffix}", x, *how)
        return x

    def average(self, x):
        counted = self.variant != "fid"
        return self.F.avg_pool2d(x, 3, 1, 1, count_include_pad=counted)

    def block_5(self, n, x):
        five = [["branch5x5_1"], ["branch5x5_2", 2]]
        three = [["branch3x3dbl_1"], ["branch3x3dbl_2", 1], ["branch3x3dbl_3", 1]]
        yield self.chain(n, x, ["branch1x1"])
        yield self.chain(n, x, *five)
        yield self.chain(n, x, *three)
        yield self.chain(n, self.average(x), ["branch_pool"])

    def block_6(self, n, x):
        row, column = (0, 3), (3, 0)
        single = [["branch7x7_1"], ["branch7x7_2", row], ["branch7x7_3", column]]
        double = [[f"branch7x7dbl_{i}", row if i % 2 else column] for i in range(2, 6)]
        yield self.chain(n, x, ["branch1x1"])
        yield self.chain(n, x, *single)
        yield self.chain(n, x, ["branch7x7dbl_1"], *double)
        yield self.chain(n, self.average(x), ["branch_pool"])

    def block_7(self, n, x):
        yield self.chain(n, x, ["branch1x1"])
        h = self.chain(n, x, ["branch3x3_1"])
        yield self.chain(n, h, ["branch3x3_2a", (0, 1)])
        yield self.chain(n, h, ["branch3x3_2b", (1, 0)])
        h = self.chain(n, x, ["branch3x3dbl_1"], ["branch3x3dbl_2", 1])
        yield self.chain(n, h, ["branch3x3dbl_3a", (0, 1)])
        yield self.chain(n, h, ["branch3x3dbl_3b", (1, 0)])
        last = self.variant == "fid" and n == "Mixed_7c"
        pooled = self.F.max_pool2d(x, 3, 1, 1) if last else self.average(x)
        yield self.chain(n, pooled, ["branch_pool"])

    def reduce_6(self, n, x):
        double = [["branch3x3dbl_1"], ["branch3x3dbl_2", 1], ["branch3x3dbl_3", 0, 2]]
        yield self.chain(n, x, ["branch3x3", 0, 2])
        yield self.chain(n, x, *double)
        yield self.F.max_pool2d(x, 3, 2)

    def reduce_7(self, n, x):
        long = [["branch7x7x3_1"], ["branch7x7x3_2", (0, 3)], ["branch7x7x3_3", (3, 0)]]
        yield self.chain(n, x, ["branch3x3_1"], ["branch3x3_2", 0, 2])
        yield self.chain(n, x, *long, ["branch7x7x3_4", 0, 2])
        yield self.F.max_pool2d(x, 3, 2)

    def __call__(self, x):
        x = self.unit("Conv2d_1a_3x3", x, 0, 2)
        x = self.unit("Conv2d_2b_3x3", self.unit("Conv2d_2a_3x3", x), 1)
        x = self.unit("Conv2d_3b_1x1", self.F.max_pool2d(x, 3, 2))
        x = self.F.max_pool2d(self.unit("Conv2d_4a_3x3", x), 3, 2)
        blocks = {f"Mixed_5{c}": self.block_5 for c in "bcd"}
        blocks |= {"Mixed_6a": self.reduce_6}
        blocks |= {f"Mixed_6{c}": self.block_6 for c in "bcde"}
        blocks |= {"Mixed_7a": self.reduce_7}
        blocks |= {f"Mixed_7{c}": self.block_7 for c in "bc"}
        widths = []
        for name, block in blocks.items():
            x = self.torch.cat(list(block(name, x)), 1)
            widths.append(x.shape[1])
        assert widths == WIDTHS
        features = x.mean((2, 3))
        fc = [self.tensors["fc.weight"], self.tensors["fc.bias"]]
        return features, self.F.linear(features, *fc)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fid", "torchvision"])
def test_against_pytorch(tmp_path, variant):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    network = InceptionV3(variant)
    tensors = random_tensors(rng, expected_tensors(network))
    tensors = {k: torch.from_numpy(v) for k, v in tensors.items()}
    unused = {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(1)}
    if variant == "torchvision":
        unused["AuxLogits.fc.bias"] = torch.zeros(1000)
    legacy = {"_use_new_zipfile_serialization": False}
    torch.save(tensors | unused, tmp_path / "w.pth", **legacy)
    params = load_weights(network, tmp_path / "w.pth")
    images = rng.uniform(-1, 1, (2, 107, 107, 3)).astype(np.float32)
    with torch.no_grad():
        nchw = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        wanted = Reference(torch, tensors, variant)(nchw)
    found = jax.jit(network.apply)({"params": params}, images)
    for ours, theirs in zip(found, wanted, strict=True):
        assert relative_difference(ours, theirs) < 2e-5
