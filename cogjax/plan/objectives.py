"""What a step of an objective computes: its batches, and passes of the network.

An objective makes its task from a network, and says of one example what a plan counts:
how many positions go through the network, what is scored, and which keys are seen.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.models.image_lm_config import ImageLMConfig, image_to_text
from cogjax.ops.masks import LayerKind
from cogjax.ops.sequence import Sequence
from cogjax.plan.flops import count_flops, product_bytes
from cogjax.tasks.lm import LMTask

Shapes = dict[str, tuple[tuple[int, ...], Any]]


class Pass(NamedTuple):
    """One sequence through the network.

    length: of the inputs. scored: logits that the loss needs. held: logits that an
    estimate finds room for.
    """

    network: ImageLMConfig
    length: int
    scored: int
    held: int

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, over all layers."""
        sequence = self.network.sequence.first(self.length)
        return sum(_pairs(sequence, kind) for kind in self.network.layer_kinds)


class Beside(NamedTuple):
    """What an example takes outside of the transformer.

    flops: of its gradients, each needed product once. held: bytes that an estimate
    finds room for.
    """

    flops: float = 0.0
    held: float = 0.0


class Objective(Protocol):
    """What is trained, whatever the network; hashable, so that traces are kept.

    num_codes: ids below are image codes.
    """

    num_codes: int

    def task(self, network: ImageLMConfig) -> Any:
        """The task of `train/step.py`."""

    def example(self) -> Shapes:
        """(shape, dtype) of each array of an example."""

    def passes(self, network: ImageLMConfig) -> tuple[Pass, ...]:
        """What goes through the network for an example."""

    def beside(self, network: ImageLMConfig) -> Beside:
        """What an example takes beside that."""


@dataclass(frozen=True)
class NextToken:
    """`LMTask`: one sequence of `length` tokens, the last only a target."""

    num_codes: int
    length: int
    num_text: int = 0
    code_noise: float = 0.0
    image_start: int = 0

    def task(self, network: ImageLMConfig) -> LMTask:
        """The task."""
        return LMTask(
            network, self.num_codes, self.code_noise, self.num_text, self.image_start
        )

    def example(self) -> Shapes:
        """Ids and weights."""
        return {
            "ids": ((self.length,), jnp.int32),
            "weights": ((self.length,), jnp.float32),
        }

    def passes(self, network: ImageLMConfig) -> tuple[Pass, ...]:
        """One; with `num_text` text is scored among text, codes among codes."""
        length = self.length - 1
        held = scored = length * network.vocab_size
        if self.num_text:
            text = self.num_text - 1
            scored = text * (network.vocab_size - self.num_codes)
            scored += (length - text) * self.num_codes
        return (Pass(network, length, scored, held),)

    def beside(self, network: ImageLMConfig) -> Beside:
        """Nothing."""
        return Beside()


@dataclass(frozen=True)
class TwoWay:
    """`TwoWayTask`: text to image and image to text, a sequence each."""

    layout: TwoWayLayout

    @property
    def num_codes(self) -> int:
        """Of the image tokenizer."""
        return self.layout.vocab.num_codes

    def task(self, network: ImageLMConfig) -> TwoWayTask:
        """The task."""
        return TwoWayTask(network, self.layout.vocab)

    def example(self) -> Shapes:
        """Ids of both directions."""
        layout = self.layout
        return {
            "to_image": ((layout.num_text + layout.image_len,), jnp.int32),
            "to_text": ((layout.length,), jnp.int32),
        }

    def passes(self, network: ImageLMConfig) -> tuple[Pass, ...]:
        """Two: all codes are scored among codes, all text among text and commands."""
        layout, vocab = self.layout, self.layout.vocab
        codes = layout.image_len * vocab.num_codes
        text = layout.num_text * (vocab.size - vocab.text_start)
        length = layout.num_text + layout.image_len
        return (
            Pass(network, length - 1, codes, codes),
            Pass(image_to_text(network), length, text, text),
        )

    def beside(self, network: ImageLMConfig) -> Beside:
        """Nothing."""
        return Beside()


@dataclass(frozen=True)
class EndToEnd(TwoWay):
    """`EndToEndTask`: both directions, and the reconstruction of the picture.

    tokenizer: config of the image tokenizer.
    """

    tokenizer: Any
    settings: EndToEndConfig

    def task(self, network: ImageLMConfig) -> EndToEndTask:
        """The task."""
        vocab = self.layout.vocab
        return EndToEndTask(network, vocab, self.tokenizer, self.settings)

    def example(self) -> Shapes:
        """Also the picture."""
        size = self.tokenizer.image_size
        return super().example() | {"image": ((size, size, 3), jnp.uint8)}

    def passes(self, network: ImageLMConfig) -> tuple[Pass, ...]:
        """The last code is read too where the states at the codes are wanted."""
        to_image, to_text = super().passes(network)
        more = self.settings.reconstructor.states == "at"
        return to_image._replace(length=to_image.length + more), to_text

    def beside(self, network: ImageLMConfig) -> Beside:
        """The reconstructor, as traced: its kinds have no closed form in common.

        What its products give is held twice: the values and their gradients.
        """
        return _reconstruction(self, replace(network, remat="none"))


def batch_shapes(objective: Objective, size: int, sharding: Any = None) -> Any:
    """Shapes of a batch of so many examples."""
    return {
        name: jax.ShapeDtypeStruct((size, *shape), dtype, sharding=sharding)
        for name, (shape, dtype) in objective.example().items()
    }


@functools.lru_cache(maxsize=8)
def _reconstruction(objective: EndToEnd, network: ImageLMConfig) -> Beside:
    task = objective.task(network)
    params, state = jax.eval_shape(task.init, jax.random.key(0))
    params = {name: part for name, part in params.items() if name != "transformer"}
    layout, size = objective.layout, objective.tokenizer.image_size
    states = jax.ShapeDtypeStruct((1, layout.image_len, network.width), network.dtype)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)

    def loss(params, states, image, step):
        drawn, judged, _ = task.reconstruction(params, states, image, step)
        return drawn + judged

    args = params, states, image, state.get("step")
    # Stopped at the states, it needs no gradient of them.
    through = (0, 1) if objective.settings.end_to_end else 0
    flops = count_flops(jax.grad(loss, through), *args)
    return Beside(flops, 2 * product_bytes(loss, *args))


@functools.lru_cache(maxsize=16)
def _pairs(sequence: Sequence, kind: LayerKind) -> int:
    return int(sequence.mask(kind).sum())
