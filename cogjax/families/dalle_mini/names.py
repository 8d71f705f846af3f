"""Names of tensors: those of Flax become those of min-dalle, and our leaves are theirs.

Each half has its own name in front, as its file has not.
"""

import re
from collections.abc import Iterator

from cogjax.errors import UserError
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import Rule, copy, joined
from cogjax.interop.source import Tensors
from cogjax.interop.stored import StoredTensor
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig

_MOST_LAYERS = 1024
# A table and a layer, which both files of min-dalle have.
_MIN_DALLE = {"embed_tokens.weight", "layers.0.glu.fc0.weight"}
_STACKED = re.compile(r"layers\.FlaxBart(?:En|De)coderLayers\.")
_FLAX_NAMES = (
    (r"^model\.", ""),
    (r"^lm_head\.", "decoder.lm_head."),
    (r"\.FlaxBart(?:En|De)coderLayer_(\d+)\.", r".\1."),
    (r"\.GLU_0\.LayerNorm_", ".glu.ln"),
    (r"\.GLU_0\.Dense_", ".glu.fc"),
    (r"\.FlaxBartAttention_0\.", ".self_attn."),
    (r"\.FlaxBartAttention_1\.", ".encoder_attn."),
    (r"\.LayerNorm_0\.", ".pre_self_attn_layer_norm."),
    (r"\.LayerNorm_1\.", ".self_attn_layer_norm."),
    (r"\.LayerNorm_2\.", ".pre_encoder_attn_layer_norm."),
    (r"\.LayerNorm_3\.", ".encoder_attn_layer_norm."),
    (r"\.(kernel|scale|embedding)$", ".weight"),
)
# Module of our layer: the release's modules that it holds, side by side.
_LAYER = {
    "pre_attn_norm": ("pre_self_attn_layer_norm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn_out": ("self_attn.out_proj",),
    "post_attn_norm": ("self_attn_layer_norm",),
    "pre_cross_norm": ("pre_encoder_attn_layer_norm",),
    "cross_query": ("encoder_attn.q_proj",),
    "cross_key_value": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_out": ("encoder_attn.out_proj",),
    "post_cross_norm": ("encoder_attn_layer_norm",),
    "mlp/norm": ("glu.ln0",),
    "mlp/mlp_in": ("glu.fc0", "glu.fc1"),
    "mlp/inner_norm": ("glu.ln1",),
    "mlp/mlp_out": ("glu.fc2",),
}
_AROUND = {
    "token_embedding": "embed_tokens.weight",
    "position_embedding": "embed_positions.weight",
    "embedding_norm/scale": "layernorm_embedding.weight",
    "embedding_norm/bias": "layernorm_embedding.bias",
    "final_norm/scale": "final_ln.weight",
    "final_norm/bias": "final_ln.bias",
    "head": "lm_head.weight",
}


def halves(tensors: Tensors) -> dict[str, StoredTensor]:
    """The tensors of a file under one kind of names; {} for a file of something else.

    min-dalle's are half of a model, which the lm_head tells; Flax's are of both halves.
    """
    if _MIN_DALLE <= tensors.keys():
        half = "decoder" if "lm_head.weight" in tensors else "encoder"
        return {f"{half}.{name}": x for name, x in tensors.items()}
    roots = {".".join(name.split(".")[:2]) for name in tensors}
    if roots <= {"model.encoder", "model.decoder", "lm_head.kernel"}:
        return dict(_of_flax(tensors))
    return {}


def _of_flax(tensors: Tensors) -> Iterator[tuple[str, StoredTensor]]:
    for name, tensor in tensors.items():
        for each, x in _layers(name, tensor):
            if each.endswith(".kernel") and len(x.shape) == 2:
                x = x.transposed(1, 0)
            for pattern, replacement in _FLAX_NAMES:
                each = re.sub(pattern, replacement, each)
            yield each, x


def _layers(name: str, tensor: StoredTensor) -> Iterator[tuple[str, StoredTensor]]:
    """A tensor of all layers as those of each; any other as it is."""
    found = _STACKED.search(name)
    if not found or not tensor.shape:
        yield name, tensor
        return
    if tensor.shape[0] > _MOST_LAYERS:
        raise UserError(f"{name} is of {tensor.shape[0]} layers: another model?")
    one = found[0].replace("Layers.", "Layer_{}.")
    for i in range(tensor.shape[0]):
        yield name.replace(found[0], one.format(i)), tensor.at(i)


def rules_of(config: EncoderDecoderConfig) -> Iterator[Rule]:
    """How tensors under min-dalle's names make the leaves."""
    wanted = leaves_of(config)
    for path in wanted:
        half, rest = path.split("/", 1)
        if rest in _AROUND:
            yield copy(path, f"{half}.{_AROUND[rest]}", wanted)
            continue
        module, _, leaf = rest.removeprefix("layers/layers/").rpartition("/")
        end = "bias" if leaf == "bias" else "weight"
        names = [f"{half}.layers.{{}}.{x}.{end}" for x in _LAYER[module]]
        # Both axes of heads are inputs of what is behind attention.
        num_inputs = 2 if module in ("attn_out", "cross_out") else 1
        yield joined(wanted, path, names, config.depth, num_inputs)
