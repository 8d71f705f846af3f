"""Features of real images, kept in the user's cache by the digest of each image.

features/<extractor>/*.safetensors: "digests" uint8 [n, 32], "values" float16 [n, d]
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cogjax.compilation_cache import user_cache
from cogjax.data.output import Progress
from cogjax.errors import UserError
from cogjax.interop.safetensors import load_tree, save_tree

_CHUNK = 256


def kept_features(
    extractor: str,
    images: Sequence[bytes],
    extract: Callable[[Sequence[bytes]], np.ndarray],
    progress: Progress,
) -> np.ndarray:
    """Features float32 [n, d] of encoded images; a stopped run goes on.

    extractor: id of the network and its weights. extract: makes features of some.
    """
    folder = user_cache() / "features" / extractor.replace(":", "-")
    digests = [hashlib.sha256(image).digest() for image in images]
    known = dict(_kept(folder))
    missing = [i for i, digest in enumerate(digests) if digest not in known]
    for start in range(0, len(missing), _CHUNK):
        progress(start, len(missing), f"features of real images, {extractor}")
        chunk = missing[start : start + _CHUNK]
        values = np.asarray(extract([images[i] for i in chunk]), np.float16)
        rows = [digests[i] for i in chunk]
        known |= zip(rows, values.astype(np.float32), strict=True)
        name = hashlib.sha256(b"".join(rows)).hexdigest()[:24]
        tree = {"digests": np.array([list(x) for x in rows], np.uint8)}
        save_tree(folder / f"{name}.safetensors", {**tree, "values": values}, None)
    return np.stack([known[digest] for digest in digests])


def _kept(folder: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    """Digests and features of all files that can be read."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tree = load_tree(path)
        except UserError:
            continue  # Damaged: they are made again.
        yield from zip(map(bytes, tree["digests"]), tree["values"], strict=True)
