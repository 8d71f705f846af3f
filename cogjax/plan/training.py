"""What a training run would need of a pod.

The real step is compiled ahead of time for the topology by `libtpu`, without a TPU.
The compiler says what memory a chip needs; what is moved is read from the program
(`plan/hlo.py`), what is computed from the trace (`plan/flops.py`), and the time
is the longest of computing, reading memory and sending, each at the chip's full rate.
"""

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax

from cogjax.errors import UserError
from cogjax.parallel.mesh import (
    MeshConfig,
    batch_sharding,
    check_batch,
    make_abstract_mesh,
    make_mesh,
)
from cogjax.parallel.powersgd import Sent, count_bytes
from cogjax.plan.chips import Chip, parse_topology
from cogjax.plan.flops import count_flops
from cogjax.plan.hlo import traffic
from cogjax.plan.pairs import count_pairs, count_visited, count_weights
from cogjax.plan.topology import Pod, can_compile, compile_or_size, tpus
from cogjax.plan.workload import Workload, gradient_flops, state_shapes
from cogjax.train.compression import (
    Compression,
    make_compression,
    state_shardings,
)
from cogjax.train.loop import make_step
from cogjax.train.optim import make_optimizer, make_schedule

# Compiled peaks were 0.64 to 1.27 of what was estimated (docs/planning.md).
ESTIMATE_MARGIN = 1.3


@dataclass(frozen=True)
class Report:
    """Cost of one update on a topology; bytes and FLOPs are a chip's unless said.

    optimizer_bytes: of state_bytes, those of the moments. how: "compiled", or
    "estimated" from shapes. flops: of the model, all chips, each needed product once;
    counted_flops: the same of the trace. executed_flops: with what is computed again,
    and blocks that a kernel skips. attention_visited: share of all blocks of scores
    that a TPU's kernel does not skip, 0 without one. fits: the peak is within the
    chip's memory, an estimate with `ESTIMATE_MARGIN` on top. network_bytes,
    network_calls: by collective, none of the latter in an estimate. summed_bytes: of
    gradients that the workers of mesh.data sum, all chips of one together; exact_bytes:
    without compression; error_bytes: of the errors that a worker keeps, in state_bytes
    too. seconds_*: at full rate; step_seconds is their maximum, as if all overlapped,
    and step_seconds_serial their sum. mfu: model FLOPs over what the chips could do in
    step_seconds. tokens_per_day: of transformers, 0 for U-Nets.
    """

    how: str
    topology: str
    chips: int
    mesh: dict[str, int]
    remat: str
    batch_size: int
    accumulate: int
    parameters: int
    fits: bool
    hbm_bytes: float
    hbm_limit: float
    state_bytes: float
    optimizer_bytes: float
    flops: float
    counted_flops: float
    executed_flops: float
    attention_visited: float
    memory_bytes: float
    network_bytes: dict[str, float]
    network_calls: dict[str, float]
    summed_bytes: float
    exact_bytes: float
    error_bytes: float
    seconds_compute: float
    seconds_memory: float
    seconds_network: float
    step_seconds: float
    step_seconds_serial: float
    mfu: float
    tokens_per_day: float
    days: float
    compile_seconds: float = 0.0


def plan(config: Mapping[str, Any], topology: str, *, estimate: bool = False) -> Report:
    """Plans one update of a resolved config.

    topology: such as "v5p:4x4x8"; GPUs, as "h100:64", are estimated, and so is all
    with `estimate` or without libtpu.

    Raises:
      UserError: for an unknown topology, or a mesh or batch that does not fit it.
    """
    chip, count = parse_topology(topology)
    work = Workload.of(config)
    mesh = _mesh(work, topology, chip, count, estimate)
    pod = Pod(mesh, chip, topology)
    if isinstance(mesh, jax.sharding.AbstractMesh):
        return _estimate(work, pod)
    return _compile(work, pod)


def search(config: Mapping[str, Any], topology: str) -> list[Report]:
    """Estimates of the five fastest plans that fit: meshes, remat, accumulation.

    UserError if none fits.
    """
    chip, count = parse_topology(topology)
    start, found = Workload.of(config), []
    for tensor in (1, 2, 4, 8, 16):
        if count % tensor or _undivided(start, tensor):
            continue
        for work in _rematerialised(start):
            for accumulate in (1, 2, 4, 8, 16, 32):
                for data in (d for d in (1, 2, 4, 8, 16) if count // tensor % d == 0):
                    sizes = MeshConfig(data, count // tensor // data, tensor)
                    if start.run.train.batch_size % (accumulate * count // tensor):
                        continue
                    tried = work.split(sizes, accumulate)
                    pod = Pod(make_abstract_mesh(sizes, count), chip, topology)
                    # A mesh may not divide an axis of a parameter.
                    with contextlib.suppress(UserError):
                        found.append(_estimate(tried, pod))
    fitting = sorted((r for r in found if r.fits), key=lambda r: r.step_seconds_serial)
    if not fitting:
        least = min((r.hbm_bytes for r in found), default=math.inf)
        raise UserError(
            f"nothing fits {topology}: at least {least / 1e9:.1f} GB a chip are "
            f"estimated, with room {least * ESTIMATE_MARGIN / 1e9:.1f}, of "
            f"{chip.hbm / 1e9:.1f}: take more chips or a smaller batch"
        )
    return fitting[:5]


def _undivided(work: Workload, tensor: int) -> bool:
    """Whether heads are not split so many ways; U-Nets are split over images alone."""
    return tensor > 1 and (not work.cost.passes or work.network.heads % tensor > 0)


def _rematerialised(work: Workload) -> list[Workload]:
    """The same with what may be computed again; a U-Net keeps all."""
    if not work.cost.passes:
        return [work]
    policies = "none", "dots_with_no_batch_dims_saveable", "nothing_saveable"
    return [work.with_remat(policy) for policy in policies]


def _mesh(work: Workload, topology: str, chip: Chip, count: int, estimate: bool):
    """Mesh of described TPUs, or of nothing where there is only an estimate."""
    if estimate or not can_compile(chip):
        mesh = make_abstract_mesh(work.run.mesh, count)
    else:
        mesh = make_mesh(work.run.mesh, tpus(topology))
    check_batch(mesh, work.run.train.batch_size // work.run.train.accumulate)
    return mesh


def _state(work: Workload, mesh):
    """(shapes of the training state, where they live on a mesh)."""
    state = state_shapes(work.plain, work.run.optim, _compression(work, mesh))
    return state, state_shardings(state, mesh, work.task.param_axes)


def _compression(work: Workload, mesh) -> Compression | None:
    """How its gradients are sent; UserError if it does not fit the mesh."""
    return make_compression(work.run.optim.powersgd, work.plain, mesh)


def _summed(work: Workload, mesh) -> Sent:
    """What its workers sum."""
    compression = _compression(work, mesh)
    matrices = dict(compression.matrices) if compression else {}
    params = state_shapes(work.plain, work.run.optim, None).params
    return count_bytes(work.run.optim.powersgd, matrices, params)


def _compile(work: Workload, pod: Pod) -> Report:
    """The report of the compiled step; of what the compiler said if it does not fit."""
    mesh = pod.mesh
    state, shardings = _state(work, mesh)
    schedule = make_schedule(work.run.optim, work.run.train.steps)
    tx = make_optimizer(work.run.optim, schedule, work.task.matrix_axes)
    compression = _compression(work, mesh)
    step = make_step(
        work.task, tx, schedule, work.run.train, (shardings, mesh), compression
    )
    start = time.monotonic()
    with jax.set_mesh(mesh):
        where = batch_sharding(mesh)
        batch = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            work.task.batch_spec(work.run.train.batch_size),
        )
        lowered = step.trace(state, batch).lower(lowering_platforms=("tpu",))
        compiled = compile_or_size(lowered)
        executed = count_flops(step, state, batch)
    seconds = time.monotonic() - start
    if isinstance(compiled, float):
        report = _estimate(work, pod)
        return replace(report, fits=False, hbm_bytes=compiled)
    moved = traffic(compiled.as_text())
    peak = compiled.memory_analysis().peak_memory_in_bytes
    return replace(
        _report(work, pod, (state, shardings), executed, peak, moved),
        how="compiled",
        compile_seconds=seconds,
    )


def _estimate(work: Workload, pod: Pod) -> Report:
    """The report from shapes alone: usual kernels, everything split as named."""
    sizes = dict(pod.mesh.shape)
    state, shardings = _state(work, pod.mesh)
    tensor, fsdp = sizes["tensor"], sizes["fsdp"]
    learnt, held = state.params, [state.state[name] for name in work.task.frozen]
    count, merged = (
        sum(x.size for x in jax.tree.leaves(tree)) for tree in (learnt, held)
    )
    count += merged
    flow = _activity(work, sizes)
    parts, again = work.run.train.accumulate, work.remat != "none"
    each = fsdp * tensor
    # What LoRA makes of a frozen base is there once more, and so are its gradients.
    gradients, summed = (
        4 * (count + merged) / each,
        _summed(work, pod.mesh).compressed / each,
    )
    kept_state = local_bytes(state, shardings)
    weights = 2 * count / tensor
    times = parts * max(1, len(work.cost.passes))
    reads = (3 if again else 2) * times
    network_bytes = {
        "all-gather": flow.odd * reads * weights * (1 - 1 / fsdp)
        + (2 * reads + 2) * flow.stream * tensor * (1 - 1 / tensor),
        "reduce-scatter": times * weights * (1 - 1 / fsdp),
        "all-reduce": 2 * summed * (1 - 1 / sizes["data"]),
    }
    memory = 2 * kept_state + reads * weights + flow.moved
    moved = memory, {k: v for k, v in network_bytes.items() if v}, {}
    executed = model_flops(work) * (4 / 3 if again else 1)
    extra = work.extra.live_bytes * work.run.train.batch_size / sizes["data"] / fsdp
    peak = kept_state + gradients + flow.live + extra / parts + weights / flow.depth
    report = _report(work, pod, (state, shardings), executed, peak, moved)
    return replace(report, fits=peak * ESTIMATE_MARGIN <= pod.chip.hbm)


class _Activity(NamedTuple):
    """Estimated bytes of a chip.

    stream: of the residuals of all layers, in an update. live: of activations that are
    in memory at once. moved: read and written of them, in an update. depth: layers that
    are gathered one by one. odd: 2 where shards do not fill a TPU's tiles: these are
    gathered by sums, at twice the cost.
    """

    stream: float
    live: float
    moved: float
    depth: int
    odd: int


def _activity(work: Workload, sizes: Mapping[str, int]) -> _Activity:
    """What passes through the transformer need; a U-Net's needs are its `extra`."""
    parts, batch = work.run.train.accumulate, work.run.train.batch_size
    ways, tensor = sizes["data"] * sizes["fsdp"], sizes["tensor"]
    if not work.cost.passes:
        # What products give is written and read once in each direction. The weights of
        # a level of convolutions are a tenth of all, or more.
        moved = 3 * work.extra.live_bytes * batch / ways
        return _Activity(0.0, 0.0, moved, 10, 1)
    network = work.network
    # In 16 bit and a layer: the residual, or also what its products read and write.
    kept = {"none": 34, "nothing_saveable": 1}.get(network.remat, 10)
    stream = network.depth * network.width * 2 * work.tokens / ways / tensor
    activations = (kept * stream + 30 * stream / network.depth) / parts
    live = sum(one.live for one in work.cost.passes) * batch / ways
    logits = 10 * live / parts / tensor
    odd = 2 if network.width // sizes["fsdp"] % 16 else 1
    moved = 60 * stream + logits * parts
    return _Activity(stream, activations + logits, moved, network.depth, odd)


def _report(work: Workload, pod: Pod, state, executed, peak, moved) -> Report:
    """state: (shapes, shardings). moved: (bytes of memory, of the network, calls)."""
    (mesh, chip, topology), (state, shardings) = pod, state
    memory, network_bytes, calls = moved
    chips, summed = mesh.size, _summed(work, mesh)
    model = model_flops(work)
    compute = executed / chips / chip.flops
    seconds = (
        compute,
        memory / chip.bandwidth,
        sum(network_bytes.values()) / chip.link,
    )
    longest = max(seconds)
    return Report(
        how="estimated",
        topology=topology,
        chips=chips,
        mesh=dict(mesh.shape),
        remat=work.remat,
        batch_size=work.run.train.batch_size,
        accumulate=work.run.train.accumulate,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        fits=bool(peak <= chip.hbm),
        hbm_bytes=float(peak),
        hbm_limit=float(chip.hbm),
        state_bytes=local_bytes(state, shardings),
        optimizer_bytes=local_bytes(state.opt_state, shardings.opt_state),
        flops=model,
        counted_flops=gradient_flops(work.plain) * work.run.train.batch_size,
        executed_flops=float(executed),
        attention_visited=_visited(work, chip),
        memory_bytes=float(memory),
        network_bytes=dict(network_bytes),
        network_calls=dict(calls),
        summed_bytes=float(summed.compressed),
        exact_bytes=float(summed.exact),
        error_bytes=float(summed.error),
        seconds_compute=seconds[0],
        seconds_memory=seconds[1],
        seconds_network=seconds[2],
        step_seconds=longest,
        step_seconds_serial=sum(seconds),
        mfu=model / chips / chip.flops / longest,
        tokens_per_day=work.tokens / longest * 86400,
        days=work.run.train.steps * longest / 86400,
    )


def _visited(work: Workload, chip: Chip) -> float:
    """Share of the blocks of attention that a kernel computes, 0 without one."""
    own = getattr(work.network, "implementation", "xla") if work.cost.passes else "xla"
    kernel = chip.is_tpu and own in ("auto", "splash")
    return count_visited(work.cost.passes) if kernel else 0.0


def local_bytes(tree: Any, shardings: Any) -> float:
    """Bytes of a tree of shapes on one chip."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    return float(
        sum(
            math.prod(where.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf, where in pairs
        )
    )


def model_flops(work: Workload) -> float:
    """6 x parameters of products x tokens, attention to seen keys, and the extra."""
    total = 0
    for one in work.cost.passes:
        pairs = count_pairs(one.network, one.length)
        total += count_weights(one) + (one.scored + 2 * pairs) * one.network.width
    return work.run.train.batch_size * (6.0 * total + work.extra.flops)
