"""What encoding texts offline would need of a pod: T5's encoder, as it runs.

Every chip has all weights in float32 and its share of the texts, as in
`pipelines/text_encoder.py`; nothing is sent.
"""

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from cogjax.config import section
from cogjax.errors import UserError
from cogjax.models.t5 import T5Config, T5Encoder, param_shapes
from cogjax.parallel.mesh import MeshConfig, make_mesh
from cogjax.pipelines.text_encoder import compiled_encode
from cogjax.plan.chips import Chip, parse_topology
from cogjax.plan.flops import count_flops, product_bytes
from cogjax.plan.hlo import traffic
from cogjax.plan.topology import can_compile, compile_or_size, tpus


@dataclass(frozen=True)
class EncodingReport:
    """Cost of `texts` texts at once, each as long as the encoder reads.

    Bytes are a chip's. how: "compiled", or "estimated" from shapes. flops: of all
    chips. seconds_*: at full rate; seconds is their maximum and seconds_serial their
    sum. mfu: FLOPs over what the chips could do in seconds. stored_bytes: of a text's
    vectors, in bfloat16.
    """

    how: str
    topology: str
    chips: int
    texts: int
    text_len: int
    parameters: int
    fits: bool
    hbm_bytes: float
    hbm_limit: float
    weight_bytes: float
    flops: float
    memory_bytes: float
    seconds_compute: float
    seconds_memory: float
    seconds: float
    seconds_serial: float
    mfu: float
    stored_bytes: float
    compile_seconds: float = 0.0


def plan_encoding(
    config: Mapping[str, Any], topology: str, texts: int, *, estimate: bool = False
) -> EncodingReport:
    """Plans encoding `texts` texts at once by the encoder of a config of task t5.

    Raises:
      UserError: for another task, an unknown topology, or texts that the chips do not
        divide.
    """
    task = config.get("task", {}).get("name")
    if task != "t5":
        raise UserError(
            "--encoding is for a config of task 't5', such as "
            f"experiments/imagen/text.py:paper, and this one is of {task!r}"
        )
    encoder = section(T5Config, config.get("model", {}), "model")
    chip, count = parse_topology(topology)
    if texts % count:
        raise UserError(
            f"{texts} texts cannot be split over the {count} chips of {topology}: take "
            "a multiple of the chips"
        )
    work = _Work(encoder, chip, topology, count, texts)
    guess = _estimate(work)
    if estimate or not can_compile(chip):
        return guess
    return _compile(work, guess)


class _Work(NamedTuple):
    """What is encoded by what."""

    config: T5Config
    chip: Chip
    topology: str
    count: int
    texts: int

    def shapes(self, texts: int) -> tuple[Any, jax.ShapeDtypeStruct]:
        """(parameters, ids) of so many texts."""
        ids = jax.ShapeDtypeStruct((texts, self.config.text_len), jnp.int32)
        return param_shapes(self.config), ids


def _estimate(work: _Work) -> EncodingReport:
    """From shapes alone: what a product gives is written once and read once."""
    config, (params, ids) = work.config, work.shapes(work.texts // work.count)
    given = product_bytes(_encoded(config), params, ids)
    found = _weights(work) + 2 * given, _weights(work) + 2 * given * config.depth
    return _report(work, *found)


def _compile(work: _Work, guess: EncodingReport) -> EncodingReport:
    """By the compiled program; by what the compiler said if it does not fit."""
    mesh = make_mesh(MeshConfig(work.count, 1, 1), tpus(work.topology))
    shardings = [NamedSharding(mesh, PartitionSpec(*x)) for x in ((), ("data",))]
    placed = [
        jax.tree.map(lambda x, w=where: x.update(sharding=w), part)
        for part, where in zip(work.shapes(work.texts), shardings, strict=True)
    ]
    start = time.monotonic()
    traced = compiled_encode.trace(T5Encoder(work.config), *placed)
    compiled = compile_or_size(traced.lower(lowering_platforms=("tpu",)))
    if isinstance(compiled, float):
        return replace(guess, fits=False, hbm_bytes=compiled)
    peak = compiled.memory_analysis().peak_memory_in_bytes
    found = _report(work, peak, traffic(compiled.as_text()).memory)
    seconds = time.monotonic() - start
    return replace(found, how="compiled", compile_seconds=seconds)


def _encoded(config: T5Config):
    return functools.partial(compiled_encode, T5Encoder(config))


def _weights(work: _Work) -> float:
    leaves = jax.tree.leaves(work.shapes(1)[0])
    return float(sum(leaf.size * leaf.dtype.itemsize for leaf in leaves))


def _report(work: _Work, peak: float, memory: float) -> EncodingReport:
    config, chip = work.config, work.chip
    flops = count_flops(_encoded(config), *work.shapes(work.texts))
    compute = flops / work.count / chip.flops
    seconds = max(compute, memory / chip.bandwidth)
    params, _ = work.shapes(1)
    return EncodingReport(
        how="estimated",
        topology=work.topology,
        chips=work.count,
        texts=work.texts,
        text_len=config.text_len,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        fits=bool(peak <= chip.hbm),
        hbm_bytes=float(peak),
        hbm_limit=float(chip.hbm),
        weight_bytes=_weights(work),
        flops=flops,
        memory_bytes=float(memory),
        seconds_compute=compute,
        seconds_memory=memory / chip.bandwidth,
        seconds=seconds,
        seconds_serial=compute + memory / chip.bandwidth,
        mfu=flops / work.count / chip.flops / seconds,
        stored_bytes=2.0 * config.width * config.text_len,
    )
