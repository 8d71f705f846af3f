"""Sparse attention and int8 weights as the TPU compiler sees them, without a TPU.

    python -m venv tpu && tpu/bin/pip install . libtpu
    TPU_SKIP_MDS_QUERY=1 tpu/bin/python experiments/bench/tpu_compile.py

1. Attention of DALL-E 12B's layers (62 heads of 64, 256 text and 32 x 32 image tokens,
   bfloat16, forward and backward), four layers of a kind or a mix, by blocks in XLA
   and by splash, against the dense masked form: FLOPs, scratch memory, bytes accessed,
   and whether there is an n x n array. The FLOPs inside of splash are not counted.
2. A decode step of a 1.3B network (24 layers, 2048 wide, 8 images of one prompt) with
   weights in bfloat16 and int8: bytes of its arguments, weights and caches, and the
   compiler's count of all accesses, on-chip copies included.
"""

import argparse
import re
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import for_inference, make_cache, scoring
from cogjax.ops.attention import attention, causal_attention
from cogjax.ops.fused_attention import splash_masked
from cogjax.ops.masks import LayerKind, sparse_kinds
from cogjax.ops.sequence import Sequence
from cogjax.ops.sparse_attention import sparse_attention
from cogjax.parallel.mesh import MeshConfig, make_mesh

TEXT, GRID, HEADS, HEAD_DIM = 256, 32, 62, 64
SEQUENCE = Sequence.text_to_image(TEXT, (GRID, GRID))
MIXES = {
    "full": ("full",) * 4,
    "row": ("row",) * 4,
    "column": ("column",) * 4,
    "conv": ("conv",) * 4,
    "row, column, row, row": ("row", "column", "row", "row"),
    "row, column, row, conv": ("row", "column", "row", "conv"),
}


def layers(form: str, kinds: tuple[str, ...], query, key, value):
    """Attention of one layer after the other, each on the last one's output."""
    for name in kinds:
        kind = LayerKind(name)
        if form == "dense":
            mask = jnp.asarray(SEQUENCE.mask(kind))[None]
            query = attention(query, key, value, mask)
        elif name == "full":
            query = causal_attention(query, key, value, implementation=form)
        else:
            attend = splash_masked if form == "splash" else sparse_attention
            query = attend(query, key, value, sequence=SEQUENCE, kind=kind)
    return jnp.sum(jnp.square(query.astype(jnp.float32)))


def compiled(function, device, *shapes, donated=()):
    """Ahead-of-time executable for one device of the topology."""
    sharding = SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
    )
    with jax.set_mesh(make_mesh(MeshConfig(), [device])):
        traced = jax.jit(function, donate_argnums=donated).trace(*shapes)
        return traced.lower(lowering_platforms=("tpu",)).compile()


def attention_table(device, batch: int) -> None:
    """Prints both forms against dense for each mix of kinds."""
    shape = (batch, TEXT + GRID**2, HEADS, HEAD_DIM)
    arrays = (jax.ShapeDtypeStruct(shape, jnp.bfloat16),) * 3
    print(f"attention, batch {batch}, forward and backward: a form / dense")
    for name, kinds in MIXES.items():
        base = None
        for form in ("dense", "xla", "splash"):
            grad = jax.grad(partial(layers, form, kinds), (0, 1, 2))
            exe = compiled(grad, device, *arrays)
            square = re.search(r"\[(\d+,)*(1024,1024|1280,1280)\]", exe.as_text())
            cost = exe.cost_analysis()
            found = {
                "GFLOP": cost["flops"] / 1e9,
                "temp GB": exe.memory_analysis().temp_size_in_bytes / 1e9,
                "accessed GB": cost["bytes accessed"] / 1e9,
            }
            base = base or found
            ratios = ", ".join(
                f"{key} {value:.2f} = {value / base[key]:.3f}"
                for key, value in found.items()
            )
            has = "an" if square else "no"
            print(f"  {name}, {form}: {ratios}; {has} n x n array", flush=True)


def decode_table(device, batch: int) -> None:
    """Prints the bytes of a decode step for each weight format."""
    config = ImageLMConfig(
        width=2048,
        depth=24,
        heads=32,
        mlp_dim=8192,
        vocab_size=8192 + 16384,
        max_positions=TEXT + GRID**2,
        sequence=SEQUENCE,
        kinds=sparse_kinds(24),
        dtype="bfloat16",
    )

    def step(params, ids, cache, place):
        return ImageLM(config).apply(
            {"params": scoring(params, (0, 8192))},
            ids,
            place + jnp.zeros_like(ids),
            jnp.ones((1, TEXT), bool),
            cache,
            place=place,
        )

    cache = jax.eval_shape(partial(make_cache, config, 1, TEXT, batch, GRID**2))
    ids = jax.ShapeDtypeStruct((batch, 1), jnp.int32)
    place = jax.ShapeDtypeStruct((), jnp.int32)
    found, held = {}, {}
    for weights in ("bfloat16", "int8"):
        pack = partial(for_inference, weights=weights)
        params = jax.eval_shape(pack, param_shapes(config))
        exe = compiled(step, device, params, ids, cache, place, donated=2)
        found[weights] = exe.cost_analysis()["bytes accessed"]
        held[weights] = exe.memory_analysis().argument_size_in_bytes
        print(
            f"decode step, batch {batch}, {weights}: arguments "
            f"{held[weights] / 1e9:.3f} GB, accessed {found[weights] / 1e9:.3f} GB",
            flush=True,
        )
    for name, count in (("arguments", held), ("accessed", found)):
        print(f"int8 / bfloat16, {name}: {count['int8'] / count['bfloat16']:.3f}")


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--batch", type=int, default=4)
    args = parser.parse_args()
    devices = topologies.get_topology_desc(args.topology, platform="tpu").devices
    attention_table(devices[0], args.batch)
    decode_table(devices[0], 8)


if __name__ == "__main__":
    main()
