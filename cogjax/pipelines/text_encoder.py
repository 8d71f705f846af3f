"""Texts to vectors, for what is generated from them: the contract, T5 and MiniLM."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cogjax import model_folder
from cogjax.data.bert_text import BertText
from cogjax.data.t5_text import END, PAD, T5Text, pad_right
from cogjax.data.text import TextTokenizer
from cogjax.data.text_files import load_text
from cogjax.errors import UserError
from cogjax.interop import minilm
from cogjax.interop.networks import load_weights, packaged
from cogjax.interop.t5 import is_t5, read_t5
from cogjax.model import Component, Model, digest
from cogjax.models.bert import BertEncoder

_WORDS = {"t5": T5Text, "bert": BertText}
# Programs are made for these numbers of ids, times powers of two.
_SHORTEST = 16


class TextEncoding(NamedTuple):
    """tokens: [b, n, d], zeros at padding. mask: bool [b, n], False for padding, which
    is behind a text. pooled: float32 [b, d].
    """

    tokens: Array
    mask: Array
    pooled: Array


class TextEncoder(Protocol):
    """Texts -> vectors of their pieces and one of each text.

    width: channels of the vectors. digest: sha256 of all that they depend on.
    """

    width: int
    digest: str

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """Encodes b texts, on the devices; a text that is too long is cut."""

    def unread(self, text: str) -> str:
        """The end of a text that `encode` cuts off, "" if it reads all."""

    def unknown(self, text: str) -> str:
        """Why a text cannot be read, such as of another language; "" if it can."""


class NetworkTextEncoder:
    """A network's last states; pooled is their mean. A batch is split over `devices`.

    The network is T5's encoder or BERT's, (ids, mask) -> tokens, and 0 is padding.
    """

    def __init__(
        self,
        component: Component,
        text: TextTokenizer,
        devices: Sequence[jax.Device] = (),
        clean: Callable[[str], str] | None = None,
    ):
        """Puts the weights on the devices, by default on the first.

        clean: what is left of a text to be read, None for all of it.

        UserError if the table has no rows for the tokenizer's pieces.
        """
        self._text, self.config = _WORDS[component.kind](text), component.config
        self._network = component.network
        if self._text.vocab_size > self.config.vocab_size:
            raise UserError(
                f"the text encoder has {self.config.vocab_size} ids, its tokenizer "
                f"needs {self._text.vocab_size}: give it the one it was trained with"
            )
        self.width = self.config.width
        self._clean = clean or (lambda text: text)
        devices = list(devices) or jax.local_devices()[:1]
        mesh = Mesh(np.array(devices), ("data",))
        self._split = NamedSharding(mesh, PartitionSpec("data"))
        whole = NamedSharding(mesh, PartitionSpec())
        self._num_devices = len(devices)
        self._params = jax.device_put(component.params, whole)
        placed = dataclasses.replace(component, params=self._params)
        self._made_of = placed, text, clean is not None

    @functools.cached_property
    def digest(self) -> str:
        """sha256 of all that the vectors depend on: it reads every weight."""
        return _digest(*self._made_of)

    def encode(self, texts: Sequence[str]) -> TextEncoding:
        """Tokens in the config's dtype; n is the longest, rounded up."""
        encode = self._text.tokenizer.encode
        return self.encode_pieces([encode(self._clean(text)) for text in texts])

    def encode_pieces(self, texts: Sequence[Sequence[int]]) -> TextEncoding:
        """`encode` of texts as the tokenizer's ids, without their end."""
        rows = [self._text.ended(pieces, self.config.text_len) for pieces in texts]
        rows += [[END]] * (-len(rows) % self._num_devices)
        length = _rounded(max(map(len, rows)), self.config.text_len)
        ids = jax.device_put(pad_right(rows, length), self._split)
        found = compiled_encode(self._network, self._params, ids)
        if len(rows) == len(texts):
            return found
        return TextEncoding(*(part[: len(texts)] for part in found))

    def names(self, text: str) -> tuple[str, ...]:
        """The text of each of its tokens as `encode` gives them, "" for marks."""
        tokenizer, most = self._text.tokenizer, self.config.text_len
        pieces = tokenizer.encode(self._clean(text))
        marks = len(self._text.ended((), most))
        kept = pieces[: len(self._text.ended(pieces, most)) - marks]
        found = (tokenizer.decode([piece]) or "_" for piece in kept)
        return (*("",) * (marks - 1), *found, "")

    def num_ids(self, text: str) -> int:
        """Ids of all of a text, the end among them; `config.text_len` are read."""
        return self._text.num_ids(self._clean(text))

    def unread(self, text: str) -> str:
        """The end of a text behind the config's `text_len`, "" if it reads all."""
        return self._text.unread(self._clean(text), self.config.text_len)

    def unknown(self, text: str) -> str:
        """Why a text cannot be read, "" if it can."""
        return self._text.unknown(self._clean(text))


def load_text_encoder(
    source: str | os.PathLike | Model,
    dtype: str | None = None,
    devices: Sequence[jax.Device] = (),
) -> TextEncoder:
    """The text encoder of a model folder, of a folder of Hugging Face's, or "minilm".

    source: also a model of `read_text_encoder`, not to read it again. dtype: of the
    activations, None for the model's own. UserError if there is none, or one of another
    kind.
    """
    model = source if isinstance(source, Model) else read_text_encoder(source)
    return text_encoder_of(computing_in(model, dtype), devices)


def text_encoder_of(
    model: Model, devices: Sequence[jax.Device] = ()
) -> NetworkTextEncoder:
    """That of a model, which reads texts as `clean` of the model's layout leaves them.

    Who makes vectors for a model, and who draws from them, both have it from here.
    """
    own = model["text_encoder"], model.text
    return NetworkTextEncoder(*own, devices, cleaning_of(model))


def read_text_encoder(source: str | os.PathLike) -> Model:
    """The text encoder of `load_text_encoder`, on the host: a model of it alone.

    Its layout is that of the model that it is from, None for published weights.
    """
    if named := minilm.NAME.fullmatch(str(source)):
        folder = packaged(minilm.PACKAGE, f"{minilm.FOLDER}/config.json").parent
        return _read_bert(folder, named[1] and int(named[1]))
    if is_t5(source):
        config, params, text = read_t5(source)
        return Model("", {"text_encoder": Component(config, params)}, text=text)
    if minilm.is_bert(source):
        return _read_bert(Path(source))
    whole = model_folder.load_outline(source)
    found, text = whole["text_encoder"], whole.text
    if found.kind not in _WORDS or text is None:
        raise UserError(
            f"{source} has no T5 with a text tokenizer, but a {found.kind}: give "
            "another folder"
        )
    part = model_folder.load_component(source, "text_encoder")
    return Model("", {"text_encoder": part}, whole.layout, text)


def is_released(source: str | os.PathLike) -> bool:
    """Whether it names published weights, and no model folder of ours."""
    named = minilm.NAME.fullmatch(str(source))
    return bool(named) or is_t5(source) or minilm.is_bert(source)


def _read_bert(folder: Path, depth: int | None = None) -> Model:
    config = minilm.config_of(folder, depth)
    params = load_weights(BertEncoder(config), folder / "model.safetensors")
    part, text = Component(config, params), load_text(folder / "vocab.txt")
    return Model("", {"text_encoder": part}, text=text)


def computing_in(model: Model, dtype: str | None) -> Model:
    """The same with activations of its text encoder in a dtype, None for its own."""
    part = model["text_encoder"]
    config = dataclasses.replace(part.config, dtype=dtype or part.config.dtype)
    return model.with_component(
        "text_encoder", dataclasses.replace(part, config=config)
    )


def digest_of(model: Model) -> str:
    """sha256 of all that the vectors of a model's text encoder depend on."""
    return _digest(model["text_encoder"], model.text, cleaning_of(model) is not None)


def cleaning_of(model: Model) -> Callable[[str], str] | None:
    """What is left of a text for a model's text encoder to read; None for all of it."""
    return getattr(model.layout, "clean", None)


def _digest(component: Component, text: TextTokenizer, cleaned: bool) -> str:
    end = b"cleaned" if cleaned else b""
    found = digest(component).encode() + text.serialized + end
    return hashlib.sha256(found).hexdigest()


def vectors_of(
    tokens: np.ndarray, mask: np.ndarray, length: int
) -> dict[str, np.ndarray]:
    """Tokens float32 [b, n, d] and mask [b, n] as they are for `length` ids a text."""
    missing = (0, 0), (0, length - mask.shape[1])
    tokens = np.pad(tokens.astype(np.float32), (*missing, (0, 0)))
    return {"tokens": tokens, "mask": np.pad(mask, missing)}


def _rounded(length: int, most: int) -> int:
    """Few lengths for all texts: each is a program."""
    rounded = _SHORTEST
    while rounded < length:
        rounded *= 2
    return min(rounded, most)


@functools.partial(jax.jit, static_argnums=0)
def compiled_encode(network: nn.Module, params, ids: Array) -> TextEncoding:
    """Ids int32 [b, n], zeros behind a text, as vectors."""
    mask = ids != PAD
    tokens = network.apply({"params": params}, ids, mask)
    tokens = jnp.where(mask[..., None], tokens, 0)
    count = jnp.sum(mask, axis=1, keepdims=True)
    pooled = jnp.sum(tokens.astype(jnp.float32), axis=1) / count
    return TextEncoding(tokens, mask, pooled)
