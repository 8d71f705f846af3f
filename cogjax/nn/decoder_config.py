"""Settings of a stack of `Block`s, whatever it is for."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from cogjax.config import check_ranges
from cogjax.nn.stack import Remat
from cogjax.ops.fused_attention import Implementation

# Not in the digests of models that are older.
_new = partial(field, metadata={"new": True})


@dataclass(frozen=True)
class DecoderConfig:
    """What the vocabulary does not decide; the defaults are the paper's 4B model.

    width: channels of the residual stream. depth: number of layers. heads: of
    attention. dropout: share of activations left out in training. sandwich: a norm
    behind each branch too. alpha: PB-Relax attention constant (1: off). norm_scope: see
    `ops/precision.py`. embedding_gradient: factor on the embedding's gradient (1: off;
    the paper uses 0.1). dtype: of the activations; parameters are float32.
    gradient_scale: what keeps float16 gradients in range: "loss" is one factor on the
    loss, "resblock" DALL-E's on each residual branch, and float32 between them and in
    the head. remat, unroll: see `nn/stack.py`. implementation: of attention, see
    `ops/fused_attention.py`, also for where "xla" takes its place. window: above 0 a
    position attends to `window_times` blocks of so many positions and to `num_pivots`
    others (`ops/pivot_attention.py`, for long sequences). window_times: blocks of
    `window`. num_pivots: positions beside them. norm: LayerNorm, or "rms" (T5's and
    Llama's). norm_epsilon: under the root of both. mlp: "gelu" by tanh, "exact_gelu" by
    erf, "swiglu" (Shazeer 2020, arXiv 2002.05202). use_bias: of dense layers.
    """

    width: int = 2560
    depth: int = 48
    heads: int = 40
    dropout: float = 0.1
    alpha: float = 32.0
    norm_scope: Literal["token", "sample", "tensor", "none"] = "token"
    sandwich: bool = True
    embedding_gradient: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_scale: Literal["loss", "resblock"] = "loss"
    remat: Remat = "none"
    unroll: int = 1
    implementation: Implementation = "auto"
    window: int = 0
    window_times: int = 6
    num_pivots: int = 768
    norm: Literal["layer", "rms"] = _new(default="layer")
    norm_epsilon: float = _new(default=1e-5)
    mlp: Literal["gelu", "exact_gelu", "swiglu"] = _new(default="gelu")
    use_bias: bool = _new(default=True)

    def __post_init__(self):
        check_ranges(
            self,
            width=(1, 2**16),
            depth=(1, 1024),
            heads=(1, 2**16),
            dropout=(0, 0.99),
            alpha=(1, 1e6),
            embedding_gradient=(0, 1e6),
            unroll=(1, 1024),
            window=(0, 2**20),
            window_times=(1, 2**20),
            num_pivots=(1, 2**20),
            norm_epsilon=(0, 1),
        )
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads
