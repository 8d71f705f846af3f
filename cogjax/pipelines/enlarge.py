"""Images of twice the size: CogView's super-resolution (section 3.1 and its release).

    model = cogjax.load("cogview-sr")
    pixels = model.enlarge(images, "一只可爱的小猫", seed=0)

The network draws g x g codes that follow a text and the g/2 x g/2 codes of the same
image at half the size. So much is drawn at once. An image of g x g codes is drawn anew
as 2g x 2g in nine windows of g columns, each of which follows the g/2 x g/2 codes that
it enlarges. Windows overlap: what an earlier one has drawn is given to a later one, and
the rows at its lower end are left to those that see what is around them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from cogjax.data.images import stack_squares
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.pipelines.contracts import Generation, Progress
from cogjax.pipelines.tokenize import decode, encode, padded_batches
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.autoregressive import (
    compiled_advance,
    compiled_prefill,
    image_keys,
)


class Window(NamedTuple):
    """Slices [y, x] of codes: those that are enlarged, and those that are drawn."""

    part: tuple[slice, slice]
    drawn: tuple[slice, slice]


class Enlarger(TokensModel):
    """A model that draws the codes of larger images."""

    def enlarge(
        self,
        images: Any,
        texts: str | Sequence[str],
        *,
        size: int | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Images at twice their size: uint8 [n, size, size, 3].

        images: as of `Reader.score`, n of any size, made squares of half of `size`.
        texts: what each shows, or all. size: the model's own, which is drawn at once,
        or twice that, in windows; None is twice. seed: image i of a seed has draws of
        its own.

        UserError for an empty text, another number of texts and another size.
        """
        size = size or 2 * self.image_size
        if size not in (self.image_size, 2 * self.image_size):
            raise UserError(
                f"size is {size}, and this model draws images of {self.image_size} or "
                f"{2 * self.image_size} pixels a side"
            )
        small = stack_squares(images, size // 2)
        codes = self.codes_of(small)
        return self.show(self.enlarge_codes(codes, texts, seed=seed, progress=progress))

    def enlarge_codes(
        self,
        codes: np.ndarray,
        texts: str | Sequence[str],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """As `enlarge`, of code grids int [n, k, k], k = g or g / 2: int32 [n, 2k, 2k].

        The model has g codes a side. UserError also for other codes.
        """
        codes = self._checked(codes)
        pieces = [self.pieces(text) for text in self.one_for_each(codes, texts)]
        numbers = np.arange(len(codes))
        keys = image_keys(seed, 0, len(codes))
        return self._draw(codes, pieces, numbers, keys, progress)

    def enlarge_generated(
        self,
        result: Generation,
        model: Any,
        *,
        seed: int = 0,
        first: int = 0,
        progress: Progress | None = None,
    ) -> Generation:
        """What `model` has generated, each image at twice its size.

        Its codes are enlarged where both models have one codebook, otherwise those of
        its pixels. seed: draws belong to the number of an image among those of its
        prompt, counted from `first`. UserError as of `check_size`.
        """
        prompts, count, size, width = result.pixels.shape[:4]
        if width != size:
            raise UserError(
                f"images are {width} x {size} pixels, and squares are drawn"
            )
        self.check_size(size)
        if self._has_codes_of(model):
            codes = result.codes.reshape(-1, *result.codes.shape[2:])
        else:
            pixels = result.pixels.reshape(-1, *result.pixels.shape[2:])
            codes = self.codes_of(pixels)
        pieces = [self.pieces(text) for text in result.prompts for _ in range(count)]
        numbers = np.tile(np.arange(count), prompts)
        keys = image_keys(seed, first, count)
        large = self._draw(codes, pieces, numbers, keys, progress)
        pixels, large = (
            x.reshape(prompts, count, *x.shape[1:]) for x in (self.show(large), large)
        )
        return dataclasses.replace(result, pixels=pixels, codes=large)

    def check_size(self, size: int) -> None:
        """UserError unless the model enlarges images of so many pixels a side."""
        if size not in (self.image_size // 2, self.image_size):
            raise UserError(
                f"images are {size} pixels a side, and the model enlarges those of "
                f"{self.image_size // 2} and {self.image_size}"
            )

    def codes_of(self, images: np.ndarray) -> np.ndarray:
        """As `encode`, of images of any size that codes divide."""
        return encode(self._tokenizer, images, self.batch_size)

    def show(self, codes: np.ndarray) -> np.ndarray:
        """As `decode`, of grids of any side."""
        return decode(self._tokenizer, codes, self.batch_size)

    def _has_codes_of(self, model: Any) -> bool:
        """Whether the codes of another model mean the same: their vectors are equal."""
        if not isinstance(model, TokensModel):
            return False
        one, other = (x.model["tokenizer"].state["codebook"] for x in (self, model))
        return np.array_equal(one, other)

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        """As `check_codes`, of grids of half the side too."""
        codes, half = np.asarray(codes), self.grid // 2
        if codes.shape[1:] == (half, half):
            self.check_codes(np.tile(codes, (1, 2, 2)))
            return codes
        if codes.shape[1:] != (self.grid, self.grid):
            raise UserError(
                f"this model enlarges images of {half} x {half} and {self.grid} x "
                f"{self.grid} codes, got {' x '.join(map(str, codes.shape[1:]))}"
            )
        return self.check_codes(codes)

    def _draw(
        self,
        codes: np.ndarray,
        pieces: Sequence,
        numbers: np.ndarray,
        keys: Any,
        progress: Progress | None,
    ) -> np.ndarray:
        """Codes [n, 2k, 2k] of images [n], which have pieces of a text and a number.

        keys: of the numbers. The windows of a wave are drawn together; each has draws
        of its own.
        """
        count, side = len(codes), codes.shape[1]
        large = np.full((count, 2 * side, 2 * side), -1, np.int32)
        found = windows(side, self.grid)
        say = _counting(progress, count * len(found))
        for wave in waves(found, 2 * side):
            given = [codes[:, *found[i].part].reshape(count, -1) for i in wave]
            there = [large[:, *found[i].drawn].reshape(count, -1) for i in wave]
            texts = [*pieces] * len(wave)
            prompts = self.layout.enlarging_prompts(texts, np.concatenate(given))
            own = np.tile(numbers, len(wave)), np.repeat(wave, count)
            tokens = self._fill(prompts, there, keys, own, say)
            for i, each in zip(wave, tokens, strict=True):
                window = large[:, *found[i].drawn]
                large[:, *found[i].drawn] = each.reshape(window.shape)
        return large

    def _fill(
        self,
        prompts: Prompts,
        there: Sequence[np.ndarray],
        keys: Any,
        own: tuple[np.ndarray, np.ndarray],
        say: Callable[[int], None],
    ) -> list[np.ndarray]:
        """Codes int [n, m] of windows [n, m], where these have -1, after prompts.

        keys: of images. own: (number of the image, of the window) of each prompt. say:
        called with how many windows are drawn.
        """
        counts = [each.shape[1] for each in there]
        # All have one length: another would be another program.
        length = self.layout.image_len
        forced = np.concatenate(
            [
                np.pad(each, ((0, 0), (0, length - count)), constant_values=-1)
                for each, count in zip(there, counts, strict=True)
            ]
        )
        network, done = (self._generator, self._code_params), []
        settings = {"ids": self._code_ids, "sampler": self.model.sampler.numbers()}
        # Calls of one size, so that waves of one and of two windows share a program.
        calls = -(-len(forced) // self.batch_size)
        for rows in padded_batches(np.arange(len(forced)), -(-len(forced) // calls)):
            batch = Prompts(*(each[rows] for each in prompts))
            drawn = _window_keys(keys, *(each[rows] for each in own))
            state = compiled_prefill(*network, batch, drawn, forced[rows])
            _, tokens = compiled_advance(*network, state, max(counts), **settings)
            done.append(np.asarray(tokens))
            say(len(set(rows.tolist())))
        tokens = np.split(np.concatenate(done)[: len(forced)], len(there))
        return [each[:, :count] for each, count in zip(tokens, counts, strict=True)]


def _counting(progress: Progress | None, total: int) -> Callable[[int], None]:
    """A function that adds to what is done, and shows it."""
    done = 0

    def say(count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        if progress is not None:
            progress(done, total, "enlarging")

    say(0)
    return say


@jax.jit
def _window_keys(keys: jax.Array, images: jax.Array, windows: jax.Array) -> jax.Array:
    """A key for each window [b] of images, which have keys."""
    return jax.vmap(jax.random.fold_in)(keys[images], windows)


def windows(side: int, grid: int) -> list[Window]:
    """Those of an image of `side` codes a side, in the order in which they are drawn.

    One for half of `grid`, of which a window is. For `grid` itself, a multiple of 4,
    nine as those of `magnify` of the release, whose grid is 32.
    """
    if 2 * side == grid:
        every = slice(0, side), slice(0, side)
        return [Window(every, (slice(0, grid), slice(0, grid)))]
    short, long = grid // 2 + 2, grid - 2
    rows = (0, 0, short), (0, 1, long), (0, 2, long)
    rows += (1, 1, long), (1, 0, long), (1, 2, long)
    rows += (2, 0, grid), (2, 1, grid), (2, 2, grid)
    quarter, half, found = grid // 4, grid // 2, []
    for y, x, lines in rows:
        top, left = (slice(quarter * i, quarter * i + half) for i in (y, x))
        drawn = slice(half * y, half * y + lines), slice(half * x, half * x + grid)
        found.append(Window((top, left), drawn))
    return found


def owners(found: Sequence[Window], side: int) -> np.ndarray:
    """Which window draws each code: int [side, side]."""
    owner = np.full((side, side), -1)
    for i, window in enumerate(found):
        there = owner[window.drawn]
        owner[window.drawn] = np.where(there < 0, i, there)
    return owner


def waves(found: Sequence[Window], side: int) -> list[list[int]]:
    """Numbers of the windows that can be drawn together, wave by wave.

    A window draws all codes of its square that no earlier one has drawn. So no later
    one draws any of them, and what a window reads of the large image is by earlier ones
    alone: it depends on the owners of the codes in its square, and on nothing else.
    Those are not all that it overlaps. Window 3 of the release's nine overlaps window
    2, which has drawn its right half alone, where window 3 does not look: they are
    drawn together, and so are 4 and 5, left and right of window 3. Seven waves remain:

        0, 1, 2 3, 4 5, 6, 7, 8
    """
    owner, wave = owners(found, side), []
    for i, window in enumerate(found):
        read = {int(j) for j in np.unique(owner[window.drawn]) if j < i}
        wave.append(1 + max((wave[j] for j in read), default=-1))
    return [[i for i, at in enumerate(wave) if at == j] for j in range(max(wave) + 1)]
