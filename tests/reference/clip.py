"""CLIP's towers (Radford et al. 2021; OpenAI's code) in float64 numpy."""

import numpy as np

from tests.reference.numeric import Array, layer_norm
from tests.reference.unet import conv, group_norm

HEAD_DIM = 64


def norm(x: Array, p: dict) -> Array:
    return layer_norm(x, p["scale"], p["bias"], 1e-5)


def block(x: Array, p: dict, sees: Array) -> Array:
    """One layer of [t, d]; sees: bool [t, t]."""
    length, width = x.shape
    qkv = norm(x, p["ln_1"]) @ p["in_proj"]["kernel"] + p["in_proj"]["bias"]
    out = np.empty_like(x)
    for head in range(width // HEAD_DIM):
        own = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
        q, k, v = (part[:, own] for part in np.split(qkv, 3, axis=1))
        scores = np.where(sees, q @ k.T / np.sqrt(HEAD_DIM), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, own] = weights / weights.sum(-1, keepdims=True) @ v
    x = x + out @ p["out_proj"]["kernel"] + p["out_proj"]["bias"]
    h = norm(x, p["ln_2"]) @ p["c_fc"]["kernel"] + p["c_fc"]["bias"]
    h = h / (1 + np.exp(-1.702 * h))
    return x + h @ p["c_proj"]["kernel"] + p["c_proj"]["bias"]


def layers(x: Array, p: dict, sees: Array) -> Array:
    """All layers, whose parameters are stacked."""

    def of(tree, i):
        return {k: of(v, i) if isinstance(v, dict) else v[i] for k, v in tree.items()}

    for i in range(len(p["ln_1"]["scale"])):
        x = block(x, of(p, i), sees)
    return x


def encode_image(p: dict, image: Array) -> Array:
    """Normalised pixels [y, x, 3] -> [e]."""
    levels = sum(name.startswith("stem_norm_") for name in p)
    for level in range(levels):
        image = conv(image[None], p[f"stem_{level}"], 2)
        norms = p[f"stem_norm_{level}"]
        image = np.maximum(group_norm(image, norms, image.shape[-1] // 8), 0)[0]
    kernel = p["conv1"]["kernel"]
    side, rows = len(kernel), len(image) // len(kernel)
    patches = [
        np.einsum("yxc,yxcd->d", image[y : y + side, x : x + side], kernel)
        for y in range(0, side * rows, side)
        for x in range(0, side * rows, side)
    ]
    x = np.stack([p["class_embedding"], *patches]) + p["positional_embedding"]
    all_of_it = np.ones((len(x), len(x)), bool)
    x = layers(norm(x, p["ln_pre"]), p["blocks"]["layers"], all_of_it)
    return norm(x[0], p["ln_post"]) @ p["proj"]


def encode_text(p: dict, ids: Array) -> Array:
    """Ids [t] -> [e], of the end, whose id is the highest."""
    x = p["token_embedding"]["embedding"][ids] + p["positional_embedding"][: len(ids)]
    x = layers(x, p["blocks"]["layers"], np.tri(len(ids), dtype=bool))
    return norm(x[list(ids).index(max(ids))], p["ln_final"]) @ p["text_projection"]


def logits(p: dict, images: Array, ids: Array) -> Array:
    """[images, captions]: cosines times the scale, at most 100."""
    towers = (
        np.stack([encode_image(p["visual"], image) for image in images]),
        np.stack([encode_text(p["text"], row) for row in ids]),
    )
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in towers)
    return min(np.exp(p["logit_scale"]), 100.0) * a @ b.T
