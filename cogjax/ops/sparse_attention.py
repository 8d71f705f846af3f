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

from cogjax.ops.attention import attention, hide
from cogjax.ops.block_attention import Far, attend_blocks, exponentials
from cogjax.ops.cache import Cache, CachePlan, insert, read
from cogjax.ops.fused_attention import Implementation, choose, splash_sparse
from cogjax.ops.masks import Pattern, image_mask, text_mask
from cogjax.ops.platform import platform
from cogjax.ops.precision import scale_query


def sparse_attention(
    query: Array,
    key: Array,
    value: Array,
    pattern: Pattern,
    num_text: int,
    *,
    image_first: bool = False,
    text_causal: bool = True,
    num_question: int = 0,
    num_asked: int = 1,
    text_visible: Array | None = None,
    alpha: float = 32.0,
    implementation: Implementation = "auto",
) -> Array:
    """PB-Relax attention over [text, image], or [image, text] with `image_first`.

    Equals `attention` under `text_to_image_mask` or `image_to_text_mask`.

    Args:
      query, key, value: [b, s, n, h]. The last positions of a causal image after text
        may be missing: a training input has no last token.
      num_text: text positions, at least 1; commands count as text.
      image_first: the image sees itself only, the text sees the image.
      text_causal: text before an image sees the text before it, otherwise all text.
      num_question: with `image_first` so many first text positions, a question, also
        see each other both ways. num_asked: so many questions with their answers in
        turn, num_text / num_asked positions each, none sees another.
      text_visible: bool [b, num_text]; False for text that no other position may see.
      alpha: relaxation constant, see `attention`.
      implementation: see `ops/fused_attention.py`; "auto" is "xla" with hidden
        text, questions.

    Returns:
      [b, s, n, h] in the dtype of `query`.

    Raises:
      ValueError: the sequence is not text and image, the kind is "full" where text
        comes first, or the implementation is not for this platform, cannot hide text
        or has no question.
    """
    num_image = query.shape[1] - num_text
    missing = pattern.length - num_image
    whole = image_first or not pattern.causal
    if num_text < 1 or missing < 0 or (missing and whole):
        raise ValueError(
            f"{query.shape[1]} positions are not {num_text} of text and an image of "
            f"{pattern.length}"
        )
    form = {"image_first": image_first, "text_causal": text_causal}
    if choose(implementation, query.dtype, sparse=True) == "splash":
        if text_visible is None and not num_question and num_asked == 1:
            return splash_sparse(query, key, value, pattern, num_text, **form)
        if implementation == "splash":
            raise ValueError("'splash' cannot hide text or ask: choose 'auto'")
    form |= {"num_question": num_question, "num_asked": num_asked}
    return _structured(
        query, key, value, pattern, num_text, text_visible, alpha, **form
    )


def _structured(
    query,
    key,
    value,
    pattern: Pattern,
    num_text: int,
    text_visible: Array | None,
    alpha: float,
    *,
    image_first: bool,
    text_causal: bool,
    num_question: int,
    num_asked: int,
) -> Array:
    """`sparse_attention` by blocks of rows, in XLA."""
    num_image = query.shape[1] - num_text
    missing = pattern.length - num_image
    cut = num_image if image_first else num_text
    first = [x[:, :cut] for x in (query, key, value)]
    last = [x[:, cut:] for x in (query, key, value)]
    text, image = (last, first) if image_first else (first, last)
    if image_first:
        form = (num_question, num_asked, text_visible)
        text_out = _texts(text, image[1:], *form, alpha)
        return jnp.concatenate([_image(image, None, pattern, alpha), text_out], axis=1)
    seen_by_all = 0 if text_causal else num_text
    mask = _text_mask(text_mask(num_text, seen_by_all), text_visible)
    text_out = attention(*text, mask, alpha=alpha)
    padded = [jnp.pad(x, ((0, 0), (0, missing), (0, 0), (0, 0))) for x in image]
    prefix = (text[1], text[2], text_visible)
    image_out = _image(padded, prefix, pattern, alpha)[:, :num_image]
    return jnp.concatenate([text_out, image_out], axis=1)


def cached_attention(
    query: Array,
    key: Array,
    value: Array,
    cache: Cache,
    plan: CachePlan,
    place: Array,
    *,
    prefix_visible: Array,
    alpha: float = 32.0,
) -> tuple[Array, Cache]:
    """One step of drawing: equals `sparse_attention` at these positions.

    Args:
      query, key, value: [b, u, n, h] at the positions `place .. place + u - 1` after
        the prefixes; u is 1, or at most the window of the plan.
      place: int scalar, or [b] if the plan has a window. prefix_visible: bool [p, t].

    Returns:
      ([b, u, n, h], cache with these keys).
    """
    cache = insert(cache, plan, key, value, place)
    keys, values = (x.astype(query.dtype) for x in read(cache, plan, place))
    batch, count, heads, _ = query.shape
    query = scale_query(query, alpha).swapaxes(1, 2)
    sees = _sees(plan, place, count)
    in_place = not plan.banks
    near = hide(_rows_times(query, keys, in_place), sees)
    far = _rows_times(
        _together(query, prefix_visible), cache.prefix_key.astype(query.dtype), in_place
    )
    far = _apart(hide(far, prefix_visible[:, None, None]), near)
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


def _text_mask(mask: np.ndarray, visible: Array | None) -> Array:
    """bool [1 or b, t, t] of the text among itself, without what is hidden."""
    if visible is None:
        return jnp.asarray(mask[None])
    return (jnp.asarray(mask) & visible[:, None]) | jnp.eye(len(mask), dtype=bool)


def _texts(
    texts, image, num_question: int, num_asked: int, visible: Array | None, alpha: float
) -> Array:
    """Texts behind an image (keys, values): each sees it, and itself."""
    batch, length = texts[0].shape[:2]
    one = length // num_asked
    arrays = (x.reshape(batch, num_asked, one, *x.shape[2:]) for x in texts)
    query, *near = (jnp.moveaxis(x, 3, 1) for x in arrays)
    if visible is not None:
        visible = visible.reshape(-1, one)
    mask = _text_mask(text_mask(one, num_question), visible)
    mask = mask.reshape(-1, 1, 1 if visible is None else num_asked, one, one)
    far = Far(*(x.swapaxes(1, 2) for x in image))
    out = attend_blocks(scale_query(query, alpha), *near, mask, far, alpha=alpha)
    return jnp.moveaxis(out, 1, 3).reshape(texts[0].shape)


def _image(image, prefix, pattern: Pattern, alpha: float) -> Array:
    """Image queries over their rows and a prefix (keys, values, visible or None)."""
    if pattern.kind == "full" and prefix is None:
        return attention(*image, jnp.asarray(image_mask(pattern)[None]), alpha=alpha)
    blocks = _blocks(pattern)
    # Heads first, once: the copies of rows are then in the order of the products.
    query, key, value = (_cut(x.swapaxes(1, 2), pattern) for x in image)
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
        near = (_rows(x, blocks, start, stop) for x in (key, value))
        mask = blocks.mask[start:stop]
        out.append(attend(query[:, :, start:stop], *near, mask, far))
    out = jnp.concatenate(out, axis=2) if len(out) > 1 else out[0]
    out = out.swapaxes(2, 3) if blocks.by_column else out
    return out.reshape(*out.shape[:2], -1, out.shape[-1]).swapaxes(1, 2)


class _Blocks(NamedTuple):
    """Static plan of a pattern. mask: bool [g, u, w]."""

    by_column: bool
    offsets: tuple[int, ...]
    wrap: bool
    mask: np.ndarray


@functools.lru_cache(maxsize=64)
def _blocks(pattern: Pattern) -> _Blocks:
    offsets, wrap = _offsets(pattern)
    by_column = pattern.kind == "column"
    places = np.arange(pattern.length).reshape(pattern.rows, pattern.cols)
    places = places.T if by_column else places
    rows = np.arange(len(places))[:, None] + np.array(offsets)
    there = np.full(rows.shape, True) if wrap else (0 <= rows) & (rows < len(places))
    keys = places[rows % len(places)]
    mask = image_mask(pattern)[places[:, :, None, None], keys[:, None]]
    mask &= there[:, None, :, None]
    return _Blocks(by_column, offsets, wrap, mask.reshape(*places.shape, -1))


def _offsets(pattern: Pattern) -> tuple[tuple[int, ...], bool]:
    """Rows of keys that a row of queries needs, relative to it; whether they wrap."""
    if pattern.kind == "full":
        raise ValueError("kind 'full' has no sparse form: use `attention`")
    radius = pattern.kernel // 2
    wrap = pattern.kind == "conv" and pattern.edge == "torus"
    if pattern.kind == "conv":
        # A band of the flat sequence runs over into the rows beside it.
        spill = -(-radius // pattern.cols) if pattern.edge == "raster" else 0
        before = radius + spill
    else:
        before = int(pattern.kind == "row" and pattern.row_extent == "raster")
    if wrap and 2 * before + 1 >= pattern.rows:
        return tuple(range(pattern.rows)), wrap
    before = min(before, pattern.rows - 1)
    after = 0 if pattern.causal and not wrap else before
    return tuple(range(-before, after + 1)), wrap


def _cut(x: Array, pattern: Pattern) -> Array:
    """[b, n, m, h] -> [b, n, g, u, h]."""
    x = x.reshape(*x.shape[:2], pattern.rows, pattern.cols, x.shape[-1])
    return x.swapaxes(2, 3) if pattern.kind == "column" else x


def _halo(x: Array, blocks: _Blocks) -> Array:
    """Blocks [b, n, g, u, h] with those before the first and behind the last."""
    around = (-blocks.offsets[0], blocks.offsets[-1])
    mode = "wrap" if blocks.wrap else "constant"
    return jnp.pad(x, ((0, 0), (0, 0), around, (0, 0), (0, 0)), mode=mode)


def _rows(x: Array, blocks: _Blocks, start: int, stop: int) -> Array:
    """The rows at all offsets beside the blocks: of `_halo` -> [b, n, g, w, h]."""
    span = range(len(blocks.offsets))
    return jnp.concatenate([x[:, :, start + i : stop + i] for i in span], axis=3)
