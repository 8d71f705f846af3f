"""Imagen's U-Nets in float64 numpy, from the paper (appendix B and its figures).

Parameters are named as the networks name them; nothing of cogjax is used.
"""

import numpy as np

from tests.reference.numeric import layer_norm

GROUP_EPSILON, LAYER_EPSILON = 1e-6, 1e-5


def swish(x):
    return x / (1 + np.exp(-x))


def conv(x, p, stride=1):
    """Correlation with zero padding, output of a `stride`-th of the size."""
    kernel, side = p["kernel"], p["kernel"].shape[0]
    size = -(-x.shape[1] // stride)
    total = max((size - 1) * stride + side - x.shape[1], 0)
    low = total // 2
    pad = (low, total - low)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    out = np.zeros((len(x), size, size, kernel.shape[-1]))
    for i in range(size):
        for j in range(size):
            y, z = i * stride, j * stride
            out[:, i, j] = np.einsum(
                "byxc,yxcd->bd", x[:, y : y + side, z : z + side], kernel
            )
    return out + p["bias"]


def dense(x, p, axes=1):
    kernel = p["kernel"]
    return np.tensordot(x, kernel, axes) + p["bias"]


def group_norm(x, p, groups):
    found = np.empty_like(x)
    size = x.shape[-1] // groups
    for b in range(len(x)):
        for g in range(groups):
            part = x[b, ..., g * size : (g + 1) * size]
            spread = np.sqrt(part.var() + GROUP_EPSILON)
            found[b, ..., g * size : (g + 1) * size] = (part - part.mean()) / spread
    return found * p["scale"] + p["bias"]


def attend(q, k, v, mask):
    """q [t, n, h], k and v [s, n, h], mask [s], of one image."""
    weights = attention_weights(q, k, mask)
    return np.einsum("nts,snh->tnh", weights, v)


def attention_weights(q, k, mask):
    """[n, t, s] of `attend`, 0 where there is no key."""
    out = np.zeros((q.shape[1], len(q), len(k)))
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[mask, head].T / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[head][:, mask] = weights / weights.sum(-1, keepdims=True)
    return out


def norm(x, p):
    return layer_norm(x, p["scale"], p["bias"], LAYER_EPSILON)


def level_embedding(log_snr, p, features=128):
    rates = np.exp(np.linspace(np.log(0.1), np.log(100), features))
    angles = log_snr[:, None] * rates
    x = np.concatenate([np.sin(angles), np.cos(angles)], -1)
    return dense(swish(dense(x, p["in"])), p["out"])


def text_pool(tokens, mask, p):
    rows = []
    for row, seen in zip(tokens, mask, strict=True):
        x = norm(row, p["norm"])
        mean = x[seen].mean(0, keepdims=True)
        q, k, v = (
            dense(a, p[name]) for a, name in ((mean, "query"), (x, "key"), (x, "value"))
        )
        found = attend(q, k, v, seen)[0]
        rows.append(norm(dense(found, p["out"], 2), p["norm_out"]))
    return np.stack(rows)


def film(x, embedding, p, groups):
    kernel, bias = p["film"]["kernel"][0, 0], p["film"]["bias"]
    told = swish(embedding) @ kernel + bias
    scale, shift = np.split(told[:, None, None], 2, -1)
    return group_norm(x, p["norm"], groups) * (1 + scale) + shift


def halve(x):
    b, y, z, c = x.shape
    return x.reshape(b, y // 2, 2, z // 2, 2, c).mean((2, 4))


def double(x):
    return x.repeat(2, 1).repeat(2, 2)


def res_block(x, embedding, p, groups, change=None):
    h = swish(group_norm(x, p["norm"], groups))
    if change:
        h, x = change(h), change(x)
    h = conv(h, p["conv_in"])
    h = conv(swish(film(h, embedding, p["film"], groups)), p["conv_out"])
    return h + (conv(x, p["skip"]) if "skip" in p else x)


def text_attention(x, tokens, mask, p, groups, over="both"):
    h = group_norm(x, p["norm"], groups)
    out = []
    for image, row, seen in zip(h, tokens, mask, strict=True):
        places = image.reshape(-1, image.shape[-1])
        q = dense(places, p["query"])
        if over == "image":
            k, v = dense(places, p["key"]), dense(places, p["value"])
            seen = np.ones(len(places), bool)
        else:
            words = norm(row, p["text_norm"])
            k, v = dense(words, p["text_key"]), dense(words, p["text_value"])
        if over == "both":
            k = np.concatenate([dense(places, p["key"]), k])
            v = np.concatenate([dense(places, p["value"]), v])
            seen = np.concatenate([np.ones(len(places), bool), seen])
        found = attend(q, k, v, seen)
        out.append(found.reshape(*image.shape[:2], -1))
    return x + conv(np.stack(out), p["out"])


def unet(config, p, z, log_snr, tokens, mask, *beside):
    """The base U-Net's prediction; beside: a small image and its log-SNRs, or none."""
    g, over = config.groups, {"sequence": "both", "pooled": "image"}
    e = level_embedding(log_snr, p["level"]) + text_pool(tokens, mask, p["pool"])

    def block(name, x, change=None):
        return res_block(x, e, p[name], g, change)

    def attention(name, x):
        kind = over[config.conditioning]
        return text_attention(x, tokens, mask, p[f"{name}.attention"], g, kind)

    def level_block(name, x):
        x = block(f"{name}.block", x)
        return attention(name, x) if x.shape[1] in config.attention else x

    if beside:
        z = np.concatenate([z, beside[0]], -1)
        e = e + level_embedding(beside[1], p["small_level"])
    x = conv(z, p["in"])
    skips, last = [x], len(config.multipliers) - 1
    for level in range(last + 1):
        for i in range(config.res_blocks):
            x = level_block(f"down.{level}.{i}", x)
            skips.append(x)
        if level < last:
            x = block(f"down.{level}.halve", x, halve)
            skips.append(x)
    x = block("mid.block_0", x)
    x = attention("mid", x)
    x = block("mid.block_1", x)
    for level in range(last, -1, -1):
        for i in range(config.res_blocks + 1):
            x = np.concatenate([x, skips.pop()], -1)
            x = level_block(f"up.{level}.{i}", x)
        if level:
            x = block(f"up.{level}.double", x, double)
    return conv(swish(group_norm(x, p["norm_out"], g)), p["out"])


def efficient_unet(config, p, z, log_snr, tokens, mask, small, small_log_snr):
    """The Efficient U-Net's prediction."""
    g, last = config.groups, len(config.widths) - 1
    e = level_embedding(log_snr, p["level"]) + text_pool(tokens, mask, p["pool"])
    e += level_embedding(small_log_snr, p["small_level"])
    residual = 1 / np.sqrt(2) if config.skip_scale == "residual" else 1
    long = 1 / np.sqrt(2) if config.skip_scale == "long" else 1

    def level_blocks(name, x, level):
        x = film(x, e, p[f"{name}.combine"], g)
        for i in range(config.blocks[level]):
            q, h = p[f"{name}.block_{i}"], x
            for j in range(2):
                h = conv(swish(group_norm(h, q[f"norm_{j}"], g)), q[f"conv_{j}"])
            x = (conv(x, q["skip"]) + h) * residual
        if level == last and config.attention != "none":
            part = p[f"{name}.attention"]
            x = text_attention(x, tokens, mask, part, g, config.attention)
        return x

    x = conv(np.concatenate([z, small], -1), p["in"])
    skips = []
    for level in range(last + 1):
        name = f"down.{level}"
        x = level_blocks(name, conv(x, p[f"{name}.conv"], 2), level)
        skips.append(x)
    for level in range(last, -1, -1):
        name = f"up.{level}"
        x = level_blocks(name, x + long * skips[level], level)
        x = conv(double(x), p[f"{name}.conv"])
    return conv(x, p["out"])
