"""The splits of a data set as codes of their images and piece ids of their texts."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cogjax.data import records
from cogjax.data.aspects import Shape, listed, name, of_names
from cogjax.data.codes import (
    CodedExample,
    CodedRecords,
    CodedSource,
    ImagedSource,
    Side,
    captions_of,
    questions_of,
)
from cogjax.data.images import stack_squares
from cogjax.data.manifest import DATA_SET
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.model import Component, digest
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.pipelines.tokenize import encode
from cogjax.stages.sections import DataConfig, check_contents
from cogjax.train.processes import say

_LOOKED_AT = 10_000  # images whose captions are counted at the start of a run


@dataclass(frozen=True)
class CodedSplits:
    """What a run reads: images that it encodes once, or codes as they are.

    folder: where codes are kept. sources: digest of both tokenizers, which is in the
    names of its files. layout: what sequences are made by, whose `text_len` pieces of a
    caption are learnt. images: of each example, 2 of pairs. halves: whether the codes
    of each image at half the size come before its own.
    """

    tokenizer: Component
    text: TextTokenizer
    data: DataConfig
    folder: Path
    sources: str
    layout: Any
    images: int = 1
    halves: bool = False

    def captions(self, split: str, images: bool = False) -> Sequence[Any]:
        """(piece ids of the captions, codes int32 [t]) of each image of data.path.

        images: also the pixels, uint8 [y, x, 3]. UserError for a data set of codes.
        """
        path, texts = self.data.path, functools.partial(captions_of, self.text)
        if images and records.read_manifest(path).kind == records.CODES:
            raise UserError(
                f"{path} holds codes and no pictures, which this task needs: set "
                "data.path to the data set that was encoded"
            )
        coded = self._open(path, split, "captions", texts)
        lengths = [len(text) for texts, _ in looked_at(coded) for text in texts]
        most, what = self.layout.text_len, f"captions of split '{split}'"
        say_cut(lengths, most, what, "model.text_len")
        if not images:
            return coded
        side = Side.of(records.read_manifest(path), self.tokenizer.config)
        return ImagedSource(coded, records.open_split(path, split), side)

    def questions(self, split: str) -> Sequence[Any]:
        """((question, answer) pairs of piece ids, codes) of each of data.questions."""
        texts = functools.partial(questions_of, self.text)
        return self._open(self.data.questions, split, "questions", texts)

    def _open(self, path: str, split: str, what: str, texts) -> Sequence[Any]:
        manifest = records.read_manifest(path)
        check_images(manifest, path, self.images)
        _check_shapes(path, self.tokenizer.config, self.layout)
        # A split to evaluate on may be empty.
        if split == self.data.split or manifest.counts.get(split):
            check_contents(manifest, path, split, what)
        if manifest.kind == records.CODES:
            if self.halves:
                raise UserError(
                    f"{path} holds codes of one size, and the model learns images at "
                    "two: set data.path to the images that were encoded"
                )
            self._check_tokenizer(path, manifest)
            return CodedRecords(records.open_split(path, split, CodedExample), texts)
        name = f"{split}-{manifest.fingerprint[:12]}-{self.sources}.safetensors"
        source, side = (
            records.open_split(path, split),
            Side.of(manifest, self.tokenizer.config),
        )
        cache = self.folder / name
        if not cache.exists():
            say(f"encoding {len(source)} images of split '{split}' once, into {cache}")
        return CodedSource.make(source, self._encode, side, texts, cache)

    def _check_tokenizer(self, path: str, manifest: records.Manifest) -> None:
        if manifest.info.get("tokenizer") != digest(self.tokenizer):
            raise UserError(
                f"{path} was encoded with another tokenizer than "
                f"{self.data.tokenizer or self.data.weights}: set data.tokenizer to "
                "that one, or encode again with `cogjax encode`"
            )

    @functools.cached_property
    def _encode(self):
        config = self.tokenizer.config
        arrays = jax.device_put((self.tokenizer.params, self.tokenizer.state))
        whole = functools.partial(encode, Component(config, *arrays))
        if not self.halves:
            return whole

        def both(images: np.ndarray) -> np.ndarray:
            small = stack_squares(images, config.image_size // 2)
            codes = whole(small), whole(images)
            return np.concatenate([x.reshape(len(x), -1) for x in codes], axis=1)

        return both


def check_images(manifest: records.Manifest, path: str, images: int) -> None:
    """UserError for pairs where single images are learnt, or the other way round."""
    held = manifest.info.get("images", 1)
    if held != images:
        found, wanted = (
            "pairs of images" if count == 2 else "single images"
            for count in (held, images)
        )
        raise UserError(
            f"{path} holds {found}, and the model learns {wanted}: set model.images of "
            "a DALL-E to 2 for a set of `cogjax data pairs`, and to 1 for others"
        )


def shapes_of(path: str, tokenizer: TokenizerConfig) -> tuple[Shape, ...]:
    """(rows, columns) of the codes of a data set, () of squares and of one to come."""
    if not path or not (Path(path) / DATA_SET.head).is_file():
        return ()
    manifest = records.read_manifest(path)
    if manifest.kind == records.CODES:
        images = manifest.info.get("images", 1)  # Pairs are one above the other.
        return tuple((rows // images, columns) for rows, columns in manifest.shapes)
    if not manifest.shapes:
        return ()
    side = Side.of(manifest, tokenizer)
    return of_names(name(side.codes(shape)) for shape in manifest.shapes)


def _check_shapes(path: str, tokenizer: TokenizerConfig, layout: Any) -> None:
    """UserError for images of a shape that the model has no sequences of."""
    square = (2 * (tokenizer.grid,),)
    known = getattr(layout, "shapes", ()) or square
    missing = set(shapes_of(path, tokenizer) or square) - set(known)
    if missing:
        raise UserError(
            f"{path} has images of {listed(sorted(missing))}, and the model learns "
            f"{listed(known)}"
        )


def looked_at(source: Sequence[Any]) -> Iterator[Any]:
    """All items, or 10,000 spread over a source that takes long to read."""
    step = -(-len(source) // _LOOKED_AT) or 1
    return (source[i] for i in range(0, len(source), step))


def say_cut(
    lengths: Sequence[int], most: int, what: str, setting: str, commands: int = 0
) -> None:
    """Counts texts that are longer than the `most` pieces that are learnt of them.

    setting: what to raise. commands: how many it counts beside the pieces.
    """
    long = sum(length > most for length in lengths)
    if long:
        say(
            f"{long} of {len(lengths)} {what} are cut to {most} pieces: all of the "
            f"longest needs {setting} {max(lengths) + commands}"
        )
