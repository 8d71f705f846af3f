"""Row, column and convolutional attention without n x n scores.

Image queries are cut into blocks, a row of the grid each (a column for kind "column").
The keys of a block are the text and a few whole rows, at the same distances from every
block: slices of a padded grid, so that the gradient is slices and sums too. Which of
these keys a query sees is read from `ops/masks.py`, for every kind and edge rule.

    scores = [q . k_text | q . k_rows]     one softmax over both

DALL-E (Ramesh et al. 2021, appendix B); ERNIE-ViLG (2021, section 3.1). Letters: `g`
block, `u` query in it, `w` image key of it, `m` image position.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.ops.attention import attention, hide, of_length, without_padding
from cogjax.ops.block_attention import Far, attend_blocks, exponentials
from cogjax.ops.cache import Cache, CachePlan, insert, read
from cogjax.ops.masks import Grid, LayerKind, image_mask
from cogjax.ops.platform import platform
from cogjax.ops.precision import scale_query
from cogjax.ops.sequence import Segment, Sequence
from cogjax.ops.window_cache import WindowPlan


def has_blocks(sequence: Sequence) -> bool:
    """Whether `sparse_attention` has a form for it: text, image or image, texts."""
    first, *rest = sequence.segments
    if first.grid is not None:
        return _texts_of(sequence) is not None
    return len(rest) == 1 and rest[0].grid is not None and rest[0].sees == (0,)


def sparse_attention(
    query: Array,
    key: Array,
    value: Array,
    sequence: Sequence,
    kind: LayerKind,
    visible: Array | None = None,
    alpha: float = 32.0,
) -> Array:
    """PB-Relax attention over [text, image] or [image, texts], by blocks of rows.

    Equals `attention` under `sequence.mask(kind)`.

    Args:
      query, key, value: [b, s, n, h].
      sequence: of `text_to_image` or `image_to_text`, or the `first` of one.
      visible: bool [b, v] of the first v positions; False for text that no other
        position may see. What is behind them is visible.
      alpha: relaxation constant, see `attention`.

    Returns:
      [b, s, n, h] in the dtype of `query`.

    Raises:
      ValueError: the sequence is neither, or has other positions than `query`; the kind
        is "full" where text comes first.
    """
    if not has_blocks(sequence) or query.shape[1] != sequence.length:
        raise ValueError(
            f"{query.shape[1]} positions are not text and an image of {sequence}"
        )
    cut = sequence.starts[1]
    first, last = sequence.segments[:2]
    before = [x[:, :cut] for x in (query, key, value)]
    behind = [x[:, cut:] for x in (query, key, value)]
    if sequence.starts_with_image:
        form = _texts_of(sequence)
        if visible is not None:
            visible = of_length(visible, sequence.length)[:, cut:]
        text_out = _texts(behind, before[1:], form, visible, alpha)
        image_out = _image(before, None, first, kind, alpha)
        return jnp.concatenate([image_out, text_out], axis=1)
    if visible is not None:
        visible = of_length(visible, cut)  # of the text
    text_out = attention(*before, without_padding(first.mask(), visible), alpha=alpha)
    missing = last.grid[0] * last.grid[1] - last.length
    padded = [jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0))) for x in behind]
    prefix = (before[1], before[2], visible)
    image_out = _image(padded, prefix, last, kind, alpha)[:, : last.length]
    return jnp.concatenate([text_out, image_out], axis=1)


def cached_attention(
    query: Array,
    key: Array,
    value: Array,
    cache: Cache,
    place: Array,
    *,
    prefix_visible: Array,
    alpha: float = 32.0,
) -> tuple[Array, Cache]:
    """One step of sampling: equals `sparse_attention` at these positions.

    With the cache of a window it equals `three_region_attention`.

    Args:
      query, key, value: [b, u, n, h] at the positions `place .. place + u - 1` after
        the prefixes; u is 1, or at most the window of the cache's plan.
      place: int scalar, or [b] if the plan has a window. prefix_visible: bool [p, t].

    Returns:
      ([b, u, n, h], cache with these keys).
    """
    cache = insert(cache, key, value, place)
    keys, values = (x.astype(query.dtype) for x in read(cache, place))
    count = query.shape[1]
    query = scale_query(query, alpha).swapaxes(1, 2)  # [b, n, u, h]
    in_place = not cache.plan.banks
    near = _rows_times(query, keys, in_place)  # [b, n, u, w]
    far = _rows_times(
        _together(query, prefix_visible), cache.prefix_key.astype(query.dtype), in_place
    )
    if isinstance(cache.plan, WindowPlan):
        far = _apart(far, near)
        near, far = _windowed(near, far, cache, place, prefix_visible, alpha)
    else:
        near = hide(near, _sees(cache.plan, place, count))
        far = _apart(hide(far, prefix_visible[:, None, None]), near)  # [b, n, u, t]
    (near, far), total = exponentials([near, far], alpha)
    out = _rows_times(near, values, in_place)
    far = _together(far, prefix_visible)
    far = _rows_times(far, cache.prefix_value.astype(query.dtype), in_place)
    out = (out + _apart(far, out)) / total.astype(out.dtype)
    return out.swapaxes(1, 2), cache


def _sees(plan: CachePlan, place: Array, count: int) -> Array:
    """bool [u, w], or [b, 1, u, w] if sequences are at places of their own."""
    if not jnp.ndim(place):
        return plan.sees(place + jnp.arange(count))
    return jax.vmap(lambda one: plan.sees(one + jnp.arange(count)))(place)[:, None]


def _windowed(
    near: Array, far: Array, cache: Cache, place: Array, real: Array, alpha: float
) -> tuple[Array, Array]:
    """Scores of the slots and of the prefix, [b, n, u, w] and [b, n, u, t], as seen.

    real: bool [p, t'], which tokens of the prefixes are no padding.
    """
    plan, times = cache.plan, len(near) // len(real)
    places = jnp.reshape(place, (-1, 1)) + jnp.arange(near.shape[2])  # [b or 1, u]
    prefixes = jnp.sum(real, axis=1), cache.prefix_held, cache.prefix_pivot
    if len(places) > 1:  # Each row is at a place of its own.
        prefixes, times = tuple(x.repeat(times, axis=0) for x in prefixes), 1
    seen = plan.sees(places, prefixes[0]), plan.sees_prefix(places, *prefixes)
    if times > 1:
        seen = jax.tree.map(lambda x: x.repeat(times, axis=0), seen)
    return tuple(
        plan.scores(scores, one, alpha)
        for scores, one in zip((near, far), seen, strict=True)
    )


def _together(x: Array, prefixes: Array) -> Array:
    """Sequences of one prefix as queries of one product: [b,n,u,i] -> [p,n,b/p u,i]."""
    x = x.reshape(len(prefixes), -1, *x.shape[1:]).swapaxes(1, 2)
    return x.reshape(*x.shape[:2], -1, x.shape[-1])


def _apart(x: Array, like: Array) -> Array:
    """Undoes `_together`: [p, n, b/p u, i] -> [b, n, u, i] with b and u of `like`."""
    batch, heads, count, _ = like.shape
    x = x.reshape(len(x), heads, -1, count, x.shape[-1]).swapaxes(1, 2)
    return x.reshape(batch, heads, count, -1)


def _rows_times(x: Array, y: Array, in_place: bool) -> Array:
    """[b, n, u, i] times [..., i, j] -> [b, n, u, j].

    y: [b, n, i, j], or without b if it is 1; in_place: it is no slice of more.
    """
    shape = x.shape
    x = x.reshape(*y.shape[:-2], *shape[2:])
    many = shape[0] * shape[1] >= 32
    if shape[2] == 1 and many and in_place and platform() == "cpu":
        # Many small products of one row: XLA's CPU products read what is not in the
        # cache at a quarter of the speed of a loop. `cogjax bench decode --batch 8`
        out = jnp.sum(x.swapaxes(-1, -2) * y, axis=-2)
    else:
        out = jnp.einsum("...ui,...ij->...uj", x, y)
    return out.reshape(*shape[:3], -1)


def _texts_of(sequence: Sequence) -> tuple[Sequence, int] | None:
    """(one text behind an image among itself, how many of its form there are).

    None if there are no texts, or if they are of several forms.
    """
    grid, texts = sequence.segments[0].grid, sequence.segments[1:]
    if not texts:
        return None
    question = 0 if texts[0].causal else texts[0].length
    size = min(1 + bool(question), len(texts))
    answer = texts[size - 1].length if texts[size - 1].causal else 0
    count = len(texts) // size
    if sequence != Sequence.image_to_text(grid, answer, question, count):
        return None
    one = [Segment(question, "all")] if question else []
    if answer:
        one.append(Segment(answer, sees=tuple(range(len(one)))))
    return Sequence(tuple(one)), count


def _texts(texts, image, form, visible: Array | None, alpha: float) -> Array:
    """Texts behind an image (keys, values): each sees it, and itself."""
    sequence, count = form
    batch, one = texts[0].shape[0], sequence.length
    arrays = (x.reshape(batch, count, one, *x.shape[2:]) for x in texts)
    query, *near = (jnp.moveaxis(x, 3, 1) for x in arrays)  # [b, n, count, one, h]
    if visible is not None:
        visible = visible.reshape(-1, one)  # [b count, one]
    mask = without_padding(sequence.mask(), visible)  # [b count or 1, one, one]
    mask = mask.reshape(-1, 1, 1 if visible is None else count, one, one)
    far = Far(*(x.swapaxes(1, 2) for x in image))
    out = attend_blocks(scale_query(query, alpha), *near, mask, far, alpha=alpha)
    return jnp.moveaxis(out, 1, 3).reshape(texts[0].shape)


def _image(image, prefix, segment: Segment, kind: LayerKind, alpha: float) -> Array:
    """Image queries over their rows and a prefix (keys, values, visible or None)."""
    if kind.name == "full" and prefix is None:
        return attention(*image, jnp.asarray(segment.mask(kind)[None]), alpha=alpha)
    blocks = _blocks(kind, segment.grid, segment.causal)
    # Heads first, once: the copies of rows are then in the order of the products.
    cut = functools.partial(_cut, grid=segment.grid, by_column=blocks.by_column)
    query, key, value = (cut(x.swapaxes(1, 2)) for x in image)  # [b, n, g, u, h]
    query = scale_query(query, alpha)
    key, value = (_halo(x, blocks) for x in (key, value))
    far = None
    if prefix is not None:
        *text, visible = prefix
        visible = None if visible is None else visible[:, None, None, None]
        far = Far(*(x.swapaxes(1, 2) for x in text), visible)
    attend = functools.partial(attend_blocks, alpha=alpha)
    size = query.shape[2]
    if len(blocks.offsets) > 3:
        # Many rows of keys a block: a part of the blocks at a time, computed again for
        # the gradient, bounds the copies.
        attend, size = jax.checkpoint(attend), max(1, size // 4)
    out = []
    for start in range(0, query.shape[2], size):
        stop = min(start + size, query.shape[2])
        near = (_rows(x, blocks, start, stop) for x in (key, value))  # [b, n, g, w, h]
        mask = blocks.mask[start:stop]
        out.append(attend(query[:, :, start:stop], *near, mask, far))
    out = jnp.concatenate(out, axis=2) if len(out) > 1 else out[0]
    out = out.swapaxes(2, 3) if blocks.by_column else out
    return out.reshape(*out.shape[:2], -1, out.shape[-1]).swapaxes(1, 2)


class _Blocks(NamedTuple):
    """Static plan of an image's blocks. mask: bool [g, u, w]."""

    by_column: bool
    offsets: tuple[int, ...]
    wrap: bool
    mask: np.ndarray


@functools.lru_cache(maxsize=64)
def _blocks(kind: LayerKind, grid: Grid, causal: bool) -> _Blocks:
    offsets, wrap = _offsets(kind, grid, causal)
    by_column = kind.name == "column"
    places = np.arange(grid[0] * grid[1]).reshape(grid)
    places = places.T if by_column else places  # [g, u]
    rows = np.arange(len(places))[:, None] + np.array(offsets)  # [g, offsets]
    there = np.full(rows.shape, True) if wrap else (0 <= rows) & (rows < len(places))
    keys = places[rows % len(places)]  # [g, offsets, u]
    mask = image_mask(kind, grid, causal=causal)
    mask = mask[places[:, :, None, None], keys[:, None]]  # [g, u, offsets, u]
    mask &= there[:, None, :, None]
    return _Blocks(by_column, offsets, wrap, mask.reshape(*places.shape, -1))


def _offsets(kind: LayerKind, grid: Grid, causal: bool) -> tuple[tuple[int, ...], bool]:
    """Rows of keys that a row of queries needs, relative to it; whether they wrap."""
    if kind.name == "full":
        raise ValueError("kind 'full' has no sparse form: use `attention`")
    (rows, cols), radius = grid, kind.kernel // 2
    wrap = kind.name == "conv" and kind.edge == "torus"
    if kind.name == "conv":
        # A band of the flat sequence runs over into the rows beside it.
        spill = -(-radius // cols) if kind.edge == "raster" else 0
        before = radius + spill
    else:
        before = int(kind.name == "row" and kind.row_extent == "raster")
    if wrap and 2 * before + 1 >= rows:
        return tuple(range(rows)), wrap
    before = min(before, rows - 1)
    after = 0 if causal and not wrap else before
    return tuple(range(-before, after + 1)), wrap


def _cut(x: Array, grid: Grid, by_column: bool) -> Array:
    """[b, n, m, h] -> [b, n, g, u, h]."""
    x = x.reshape(*x.shape[:2], *grid, x.shape[-1])
    return x.swapaxes(2, 3) if by_column else x


def _halo(x: Array, blocks: _Blocks) -> Array:
    """Blocks [b, n, g, u, h] with those before the first and behind the last."""
    around = (-blocks.offsets[0], blocks.offsets[-1])
    mode = "wrap" if blocks.wrap else "constant"
    return jnp.pad(x, ((0, 0), (0, 0), around, (0, 0), (0, 0)), mode=mode)


def _rows(x: Array, blocks: _Blocks, start: int, stop: int) -> Array:
    """The rows at all offsets beside the blocks: of `_halo` -> [b, n, g, w, h]."""
    span = range(len(blocks.offsets))
    return jnp.concatenate([x[:, :, start + i : stop + i] for i in span], axis=3)
