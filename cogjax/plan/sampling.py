"""What drawing images would need of a pod: the decode loop, as training is planned.

A step is one token of every image: all weights and all caches are read once, so its
time is that of memory rather than of products. Reading the prompts is left out.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from cogjax.errors import UserError
from cogjax.parallel.mesh import MeshConfig, make_abstract_mesh, make_mesh
from cogjax.plan.chips import parse_topology
from cogjax.plan.drawing import Drawing, drawing_of, own_cache
from cogjax.plan.flops import count_flops
from cogjax.plan.hlo import traffic
from cogjax.plan.pairs import token_weights
from cogjax.plan.topology import Pod, can_compile, compile_or_size, tpus
from cogjax.plan.training import local_bytes
from cogjax.plan.workload import Workload
from cogjax.sampling.tokens.autoregressive import (
    DecodeState,
)
from cogjax.sampling.tokens.sharding import packed_shardings, state_shardings

WEIGHTS = "bfloat16"


@dataclass(frozen=True)
class SamplingReport:
    """Cost of a token of all images; bytes are a chip's, FLOPs of all chips together.

    how: "compiled", or "estimated" from shapes. tokens: of an image. fits: the peak is
    within the chip's memory. seconds_*: at full rate; token_seconds is their maximum,
    as if all overlapped, and token_seconds_serial their sum. images_per_second is that
    of all chips and of token_seconds.
    """

    how: str
    topology: str
    chips: int
    mesh: dict[str, int]
    images: int
    tokens: int
    parameters: int
    fits: bool
    hbm_bytes: float
    hbm_limit: float
    weight_bytes: float
    cache_bytes: float
    flops: float
    memory_bytes: float
    network_bytes: dict[str, float]
    seconds_compute: float
    seconds_memory: float
    seconds_network: float
    token_seconds: float
    token_seconds_serial: float
    images_per_second: float
    compile_seconds: float = 0.0


def plan_sampling(
    config: Mapping[str, Any],
    topology: str,
    images: int,
    *,
    estimate: bool = False,
    mesh: MeshConfig | None = None,
) -> SamplingReport:
    """Plans drawing `images` at once, each of a prompt of its own, weights bfloat16.

    mesh: None is the split into data and tensor that is estimated to be the fastest of
    those that fit; the config's is for training. topology, estimate: see `plan`.

    Raises:
      UserError: for an unknown topology, or if no mesh divides images and network.
    """
    chip, count = parse_topology(topology)
    drawing = drawing_of(Workload.of(config), images)
    meshes = [mesh] if mesh else _meshes(count)
    guesses = []
    for sizes in meshes:
        # One that was asked for says why it does not divide; of many, some do.
        with contextlib.suppress(*(() if mesh else (UserError,))):
            where = make_abstract_mesh(sizes, count)
            guess = _estimate(drawing, Pod(where, chip, topology))
            guesses.append((sizes, guess))
    if not guesses:
        raise UserError(
            f"{images} images cannot be split over the {count} chips of {topology}: "
            f"take a multiple of the chips, or fewer chips"
        )
    best, guess = min(guesses, key=lambda x: (not x[1].fits, x[1].token_seconds_serial))
    if estimate or not can_compile(chip):
        return guess
    pod = Pod(make_mesh(best, tpus(topology)), chip, topology)
    return _compile(drawing, pod, guess)


def _meshes(count: int) -> list[MeshConfig]:
    divisors = (t for t in range(1, count + 1) if count % t == 0)
    return [MeshConfig(count // tensor, 1, tensor) for tensor in divisors]


def _placed(drawing: Drawing, mesh) -> tuple[Any, DecodeState]:
    """Shardings of the weights and of the state."""
    ways = mesh.shape["data"] * mesh.shape["fsdp"]
    if drawing.images % ways:
        raise UserError(
            f"{drawing.images} images do not divide over data x fsdp devices, {ways}"
        )
    params = packed_shardings(drawing.params, mesh)
    return params, state_shardings(drawing.state, mesh)


def _compile(drawing: Drawing, pod: Pod, guess) -> SamplingReport:
    """The report of the compiled loop; of what the compiler said if it does not fit."""
    placed, start = _placed(drawing, pod.mesh), time.monotonic()
    stop_at = jax.ShapeDtypeStruct((), jnp.int32)
    run = jax.jit(
        drawing.draw,
        in_shardings=(*placed, None),
        out_shardings=placed[1],
        donate_argnums=1,
    )
    with jax.set_mesh(pod.mesh):
        traced = run.trace(drawing.params, drawing.state, stop_at)
        compiled = compile_or_size(traced.lower(lowering_platforms=("tpu",)))
        if isinstance(compiled, float):
            return replace(guess, fits=False, hbm_bytes=compiled)
        flops = count_flops(drawing.draw, drawing.params, drawing.state, stop_at)
    tokens = drawing.work.planned.image_len
    # What is done once is shared by the tokens of an image.
    total = traffic(compiled.as_text(), unknown=tokens)
    sent = {kind: size / tokens for kind, size in total.network.items()}
    peak = compiled.memory_analysis().peak_memory_in_bytes
    found = _report(drawing, pod, flops, peak, total.memory / tokens, sent)
    seconds = time.monotonic() - start
    return replace(found, how="compiled", compile_seconds=seconds)


def _estimate(drawing: Drawing, pod: Pod) -> SamplingReport:
    """The report from shapes alone: weights and caches read once, sums of branches."""
    network, codes = drawing.model.config, drawing.work.planned.num_codes
    mesh, is_tpu = pod.mesh, pod.chip.is_tpu
    params, state = _placed(drawing, mesh)
    tensor, ways = mesh.shape["tensor"], mesh.shape["data"] * mesh.shape["fsdp"]
    rows = drawing.rows / ways
    head = codes * network.width * 2 / tensor
    blocks = local_bytes(*map(drawing.layers, (drawing.params, params)))
    logits = rows * codes * 4
    # In and out of the products, norms and sums of a layer, in 16 bit.
    passed = network.depth * rows * network.width * 2
    padding = _padding(network, tensor) if is_tpu else 1.0
    memory = blocks + head + 3 * logits + 30 * passed
    memory += padding * sum(
        _read(layer, where)
        for layer, where in zip(drawing.state.cache, state.cache, strict=True)
    )
    # Two sums and the gathered heads of a layer, and the logits.
    sent = {
        "all-reduce": 2 * 2 * passed * (1 - 1 / tensor),
        "all-gather": (3 * passed + logits) * (1 - 1 / tensor),
    }
    sent = {kind: size for kind, size in sent.items() if size}
    held = local_bytes(drawing.params, params) + local_bytes(drawing.state, state)
    peak = held + head + 4 * logits
    if is_tpu:
        # The loop has caches of its own, in tiles.
        peak += padding * local_bytes(drawing.state.cache, state.cache)
    flops = token_flops(drawing)
    return _report(drawing, pod, flops, peak, memory, sent)


def _padding(network, tensor: int) -> float:
    """How much larger a cache is in a TPU's tiles of 8 heads and 128 of their sizes."""
    heads = network.heads / tensor
    tiles = math.ceil(heads / 8) * 8 * math.ceil(network.head_dim / 128) * 128
    return tiles / (heads * network.head_dim)


def read_bytes(drawing: Drawing) -> float:
    """Bytes of weights and caches that a token of all images reads, on one device."""
    held = jax.tree.leaves(drawing.layers(drawing.params))
    codes, width = drawing.work.planned.num_codes, drawing.model.config.width
    itemsize = min(leaf.dtype.itemsize for leaf in jax.tree.leaves(drawing.scored))
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in held)
    caches = sum(map(_read_whole, drawing.state.cache))
    return float(whole + itemsize * codes * width + caches)


def _read_whole(layer: Any) -> float:
    """As `_read`, on one device."""
    own = own_cache(layer)
    image = sum(x.size * x.dtype.itemsize for x in (own.key, own.value))
    total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(layer))
    return total - image + image / max(own.plan.banks, 1)


def _read(layer: Any, where: Any) -> float:
    """Bytes of a layer's cache that a token reads: one bank of a column's."""
    own, places = own_cache(layer), own_cache(where)
    image = local_bytes((own.key, own.value), (places.key, places.value))
    prefix = local_bytes(layer, where) - image
    return prefix + image / max(own.plan.banks, 1)


def token_flops(drawing: Drawing) -> float:
    """2 x parameters of products and attention to what is read, a token of all."""
    network, work = drawing.model.config, drawing.work
    num_codes, prompt_len = work.planned.num_codes, work.planned.prompt_len
    products = network.depth * token_weights(network) + network.width * num_codes
    keys = sum(own_cache(x).key.shape[-1] + prompt_len for x in drawing.state.cache)
    return 2.0 * drawing.rows * (products + 2 * keys * network.width)


def _report(drawing: Drawing, pod: Pod, flops, peak, memory, sent) -> SamplingReport:
    """sent: bytes by collective; all of a token."""
    mesh, chip, topology = pod
    params, state = _placed(drawing, mesh)
    seconds = (
        flops / mesh.size / chip.flops,
        memory / chip.bandwidth,
        sum(sent.values()) / chip.link,
    )
    tokens = drawing.work.planned.image_len
    return SamplingReport(
        how="estimated",
        topology=topology,
        chips=mesh.size,
        mesh=dict(mesh.shape),
        images=drawing.images,
        tokens=tokens,
        parameters=sum(x.size for x in jax.tree.leaves(drawing.params)),
        fits=bool(peak <= chip.hbm),
        hbm_bytes=float(peak),
        hbm_limit=float(chip.hbm),
        weight_bytes=local_bytes(drawing.params, params),
        cache_bytes=local_bytes(drawing.state.cache, state.cache),
        flops=float(flops),
        memory_bytes=float(memory),
        network_bytes=sent,
        seconds_compute=seconds[0],
        seconds_memory=seconds[1],
        seconds_network=seconds[2],
        token_seconds=max(seconds),
        token_seconds_serial=sum(seconds),
        images_per_second=drawing.images / tokens / max(seconds),
    )
