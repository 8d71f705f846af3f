"""Images of twice the size: CogView's super-resolution (section 3.2 and its release).

    model = cogjax.load("cogview-sr")
    pixels = model.enlarge(images, "一只可爱的小猫", seed=0)

An image of g x g codes is drawn anew as 2g x 2g codes in nine windows of g columns.
Each follows the text and the g/2 x g/2 codes that it enlarges. Windows overlap: what an
earlier one has drawn is given to a later one, and the rows at its lower end are left to
those that see what is around them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from cogjax.data.images import stack_squares
from cogjax.data.sequences import Prompts
from cogjax.pipelines.contracts import Progress
from cogjax.pipelines.tokenize import decode
from cogjax.pipelines.tokens_model import TokensModel
from cogjax.sampling.tokens.autoregressive import (
    compiled_advance,
    compiled_prefill,
    image_keys,
)


class Enlarger(TokensModel):
    """A `Codec` that draws the codes of larger images."""

    def enlarge(
        self,
        images: Any,
        texts: str | Sequence[str],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Images of twice the model's size: uint8 [n, 2s, 2s, 3].

        images: as of `Reader.score`, n of any size, made squares of the model's size s.
        texts: what each shows, or all. seed: image i of a seed has draws of its own.

        UserError for an empty text and another number of texts.
        """
        codes = self.encode(stack_squares(images, self.image_size))
        large = self.enlarge_codes(codes, texts, seed=seed, progress=progress)
        config = self._tokenizer.config
        config = dataclasses.replace(config, image_size=2 * config.image_size)
        tokenizer = dataclasses.replace(self._tokenizer, config=config)
        return decode(tokenizer, large, self.batch_size)

    def enlarge_codes(
        self,
        codes: np.ndarray,
        texts: str | Sequence[str],
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """As `enlarge`, of code grids int [n, g, g]: int32 [n, 2g, 2g]."""
        codes = self.check_codes(codes)
        pieces = [self.pieces(text) for text in self.one_for_each(codes, texts)]
        keys, grid = image_keys(seed, 0, len(codes)), self.grid
        large = np.full((len(codes), 2 * grid, 2 * grid), -1, np.int32)
        progress = progress or (lambda done, total, label: None)
        found = list(windows(grid))
        for i, (part, window) in enumerate(found):
            progress(i, len(found), "enlarging")
            given = codes[:, *part].reshape(len(codes), -1)
            there = large[:, *window]
            prompts = self.layout.enlarging_prompts(pieces, given)
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
            tokens = self._fill(prompts, there.reshape(len(codes), -1), own)
            large[:, *window] = tokens.reshape(there.shape)
        progress(len(found), len(found), "enlarging")
        return large

    def _fill(self, prompts: Prompts, forced: np.ndarray, keys: Any) -> np.ndarray:
        """Codes int [n, m] after prompts, where `forced` has -1."""
        count = forced.shape[1]
        # Of one length always: another is another program.
        missing = self.layout.image_len - count
        forced = np.pad(forced, ((0, 0), (0, missing)), constant_values=-1)
        network, done = (self._generator, self._code_params), []
        settings = {"ids": self._code_ids, "sampler": self.model.sampler.numbers()}
        for start in range(0, len(forced), self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch = Prompts(*(each[rows] for each in prompts))
            state = compiled_prefill(*network, batch, keys[rows], forced[rows])
            done.append(compiled_advance(*network, state, count, **settings)[1])
        return np.concatenate(done)[:, :count]


def windows(grid: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """(codes that are enlarged, codes that are drawn) of each window, [y, x] slices.

    As `magnify` of the release, whose grid is 32. A multiple of 4.
    """
    short, long = grid // 2 + 2, grid - 2
    rows = (0, 0, short), (0, 1, long), (0, 2, long)
    rows += (1, 1, long), (1, 0, long), (1, 2, long)
    rows += (2, 0, grid), (2, 1, grid), (2, 2, grid)
    quarter, half = grid // 4, grid // 2
    for y, x, lines in rows:
        part = (slice(quarter * i, quarter * i + half) for i in (y, x))
        window = slice(half * y, half * y + lines), slice(half * x, half * x + grid)
        yield tuple(part), window
