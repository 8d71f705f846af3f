"""A masked model: it generates all codes of an image together, in few steps.

    model = cogjax.load("runs/masked/export")
    model.generate("a red apple, 3D", num_images=4, steps=8).images[0].show()

It reads nothing: captions, answers and scores need a model that predicts text.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.attention import Attentive
from cogjax.pipelines.enlarge import Enlarger
from cogjax.pipelines.request import Request
from cogjax.pipelines.tokens import TokensPipeline
from cogjax.pipelines.tokens_generator import TokensGenerator, numbers_of
from cogjax.sampling.tokens.masked import (
    CHOICE_TEMPERATURE,
    STEPS,
    Unmasking,
    compiled_sample_masked,
    sample_masked,
)


class MaskedPipeline(TokensGenerator, Attentive):
    """A `Generator` and `Codec` whose codes are sampled by `sampling/tokens/masked`."""

    def settings(self, request: Request) -> dict[str, Any]:
        """What a request amounts to with the defaults, JSON-able."""
        return super().settings(request) | self._unmasking(request)

    def _check(self, request: Request, preview, rerank_by) -> None:
        """UserError for what this model cannot do."""
        super()._check(request, preview, rerank_by)
        most = self.layout.image_len
        if request.fillings is not None:
            raise UserError(
                "fillings are compared by the codes behind them, and a masked model "
                "fills a hole from all sides: leave it out"
            )
        if request.speculate:
            raise UserError(
                "speculate drafts codes in turn, which a masked model does not sample: "
                "leave it out, fewer steps are faster"
            )
        if request.decode == "hidden":
            raise UserError(
                "decode 'hidden' needs a model trained end to end, which no masked "
                "model is: choose 'codes'"
            )
        if request.steps is not None and request.steps > most:
            raise UserError(f"steps is {request.steps}, expected 1 to {most}")

    def _unmasking(self, request: Request) -> dict[str, Any]:
        """Number of steps and temperature of the choice among codes."""
        steps, choice = request.steps, request.choice_temperature
        return {
            "steps": min(STEPS, self.layout.image_len) if steps is None else steps,
            "choice_temperature": CHOICE_TEMPERATURE if choice is None else choice,
        }

    def _sample(
        self, pieces, keys, forced, request: Request, preview: bool
    ) -> Iterator[tuple[np.ndarray, int]]:
        """All codes at once."""
        del preview
        sampler = self._sampler(request)
        unmasking = Unmasking.of(
            self.layout.vocab.command("[MASK]"),
            masked=np.sum(forced < 0, axis=1),
            **self._unmasking(request),
        )
        tokens = compiled_sample_masked(
            self._generator,
            self._code_params,
            self.prompts(pieces, self._beside(request))[0],
            keys,
            forced,
            unmasking=unmasking,
            sampler=sampler.numbers(),
        )
        yield np.asarray(tokens), forced.shape[1]

    def _shared_numbers(self, request: Request) -> dict[str, np.ndarray]:
        choice = np.float32(self._unmasking(request)["choice_temperature"])
        return super()._shared_numbers(request) | {"choice_temperature": choice}

    def _sample_row(
        self, request: Request, params: Any, prompt, key, forced, shared: Mapping
    ) -> Array:
        """As of `TokensGenerator`, in as many steps as the request says."""
        # For each number of masked codes; the noise is in proportion.
        every = Unmasking.of(
            self.layout.vocab.command("[MASK]"),
            masked=np.arange(forced.shape[1] + 1),
            steps=self._unmasking(request)["steps"],
            choice_temperature=1,
        )
        left = jnp.asarray(every.left)[:, jnp.sum(forced < 0, axis=1)]
        noise = every.noise * shared["choice_temperature"]
        return sample_masked(
            self._generator,
            params,
            prompt,
            key,
            forced,
            unmasking=every._replace(left=left, noise=noise),
            sampler=numbers_of(shared),
        )


def of_layout(
    model: Model, weights: WeightFormat = "float32"
) -> TokensPipeline | MaskedPipeline | Enlarger:
    """The pipeline of a model whose layout says whether it is masked, or enlarges."""
    kind = TokensPipeline
    if model.layout is not None and model.layout.masked:
        kind = MaskedPipeline
    elif model.layout is not None and model.layout.enlarges:
        kind = Enlarger
    return kind(model, weights=weights)
