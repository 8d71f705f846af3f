"""T5's encoder under Hugging Face's names."""

from collections.abc import Mapping
from typing import Any

from cogjax.interop.rules import Rule, Shapes, copy, stacked
from cogjax.models.t5 import T5Config

# The table of pieces, and its other name.
TABLE = "shared.weight"
_TWIN = "encoder.embed_tokens.weight"
_LAYERS = {
    ("attention", "norm"): "0.layer_norm",
    ("attention", "query"): "0.SelfAttention.q",
    ("attention", "key"): "0.SelfAttention.k",
    ("attention", "value"): "0.SelfAttention.v",
    ("attention", "attn_out"): "0.SelfAttention.o",
    ("mlp", "norm"): "1.layer_norm",
    ("mlp", "mlp_gate"): "1.DenseReluDense.wi_0",
    ("mlp", "mlp_in"): "1.DenseReluDense.wi_1",
    ("mlp", "mlp_out"): "1.DenseReluDense.wo",
}


def rules_of(
    config: T5Config, wanted: Shapes, tensors: Mapping[str, Any]
) -> tuple[list[Rule], str]:
    """(rules, pattern of the names that are not needed).

    The table of pieces is there once or twice, and a decoder may be.
    """
    table = TABLE if TABLE in tensors else _TWIN
    names = {
        "token_embedding": table,
        "relative_bias": "encoder.block.0.layer.0.SelfAttention."
        "relative_attention_bias.weight",
        "final_norm/scale": "encoder.final_layer_norm.weight",
    }
    rules = [copy(leaf, name, wanted) for leaf, name in names.items()]
    for leaf in wanted.keys() - names.keys():
        branch, name, _ = leaf.removeprefix("layers/layers/").split("/")
        source = "encoder.block.{}.layer." + _LAYERS[branch, name] + ".weight"
        if name == "mlp_in" and not config.gated:
            source = source.replace("wi_1", "wi")
        num_inputs = 2 if name == "attn_out" else 1
        rules.append(stacked(wanted, leaf, source, config.depth, num_inputs))
    other = r"decoder\..*|lm_head\.weight"
    twin = _TWIN.replace(".", r"\.")
    return rules, other if table != TABLE else rf"{other}|{twin}"
