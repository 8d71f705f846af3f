"""Images to codes and back, batch by batch; or back from what predicts the codes."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.model import Component
from cogjax.models.image_lm import ImageLM
from cogjax.ops.quantize import best_codes
from cogjax.sampling.tokens.reconstruct import compiled_reconstruct


def encode(
    tokenizer: Component, images: np.ndarray, batch_size: int = 64
) -> np.ndarray:
    """Pixels uint8 [b, y, x, 3] -> best codes int32 [b, rows, columns].

    UserError for a tokenizer that only decodes.
    """
    _check_encodes(tokenizer)
    return _batched(compiled_encode, tokenizer, images, batch_size)


def make_encoder(
    tokenizer: Component, devices: Sequence[jax.Device]
) -> Callable[[np.ndarray], jax.Array]:
    """`encode` for many batches of one size, each split over this process's devices.

    The weights are put there once; the codes are returned before they are computed.
    The batch must be a multiple of the number of devices. UserError for a tokenizer
    that only decodes.
    """
    _check_encodes(tokenizer)
    mesh = Mesh(np.array(devices), ("data",))
    weights = jax.device_put(
        (tokenizer.params, tokenizer.state["codebook"]),
        NamedSharding(mesh, PartitionSpec()),
    )
    split = NamedSharding(mesh, PartitionSpec("data"))
    network = tokenizer.network
    return lambda images: compiled_encode(
        network, *weights, jax.device_put(images, split)
    )


def decode(tokenizer: Component, codes: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Codes int [b, rows, columns] -> pixels uint8 [b, y, x, 3]."""
    return _batched(compiled_decode, tokenizer, codes, batch_size)


def reconstruct(
    reconstructor: Component,
    network: ImageLM,
    params: Any,
    prompts: Prompts,
    codes: np.ndarray,
    batch_size: int = 64,
) -> np.ndarray:
    """Codes int [b, rows, columns] of a prompt each -> pixels uint8 [b, y, x, 3].

    By a reconstructor, from the states of the network (its parameters `params`) that
    predict the codes (`tokens/reconstruct.py`).
    """
    decoder = reconstructor.network
    rows = (*prompts, np.reshape(codes, (len(codes), -1)))
    batches = zip(*(padded_batches(row, batch_size) for row in rows), strict=True)
    weights = decoder, jax.device_put(reconstructor.params)
    done = [
        np.asarray(
            compiled_reconstruct(network, params, *weights, Prompts(*batch), last)
        )
        for *batch, last in batches
    ]
    return np.concatenate(done)[: len(codes)]


def _check_encodes(tokenizer: Component) -> None:
    if not getattr(tokenizer.config, "encodes", True):
        raise UserError(
            "this image tokenizer has a decoder alone, so it reads no images: import "
            "one with its encoder"
        )


def _batched(function, tokenizer: Component, rows, batch_size) -> np.ndarray:
    network = tokenizer.network
    weights = jax.device_put((tokenizer.params, tokenizer.state["codebook"]))
    done = [
        np.asarray(function(network, *weights, batch))
        for batch in padded_batches(rows, batch_size)
    ]
    return np.concatenate(done)[: len(rows)]


@functools.partial(jax.jit, static_argnums=0)
def compiled_encode(model, params, codebook, images):
    """Pixels uint8 [b, y, x, 3] -> best codes int32 [b, rows, columns]."""
    pixels = images.astype(jnp.float32) / 255
    z = model.apply({"params": params}, pixels, method="encode")
    logits = model.apply({"params": params}, z, codebook, method="code_logits")
    return best_codes(logits)


@functools.partial(jax.jit, static_argnums=0)
def compiled_decode(model, params, codebook, codes):
    """Codes int [b, rows, columns] -> pixels uint8 [b, y, x, 3]."""
    pixels = model.apply({"params": params}, codebook[codes], method="decode")
    return jnp.round(jnp.clip(pixels, 0, 1) * 255).astype(jnp.uint8)


def padded_batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cuts rows into equal batches; a last short one is filled with its first row.

    Fewer rows than `size` stay one batch of their own size: one compiled shape a call.
    """
    size = min(size, len(rows))
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        missing = size - len(batch)
        yield np.concatenate([batch, np.repeat(batch[:1], missing, 0)])
