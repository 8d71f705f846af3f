"""A model that encodes a text, and generates images code by code from that."""

from typing import Any

from cogjax.model import Component
from cogjax.models.encoder_decoder import EncoderDecoder
from cogjax.models.encoder_decoder_inference import for_inference, scoring
from cogjax.ops.packed import WeightFormat
from cogjax.pipelines.decoder import DecoderPipeline
from cogjax.sampling.tokens.encoder_decoder import (
    compiled_code_losses,
    compiled_prefill,
)


class EncoderDecoderPipeline(DecoderPipeline):
    """Generates and scores as `DecoderPipeline` does; it writes no text."""

    _read_prompts = staticmethod(compiled_prefill)
    _losses_of_codes = staticmethod(compiled_code_losses)

    def _make_network(self, transformer: Component, weights: WeightFormat) -> tuple:
        """As of `TokensModel`, with an encoder."""
        network = EncoderDecoder(transformer.config)
        return network, for_inference(transformer.params, weights)

    def _scoring_codes(self, params: Any) -> Any:
        return scoring(params, self.num_codes)
