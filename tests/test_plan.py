"""Plans: the estimate here, the compiled one where libtpu is installed."""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import re
import subprocess
import sys

import jax
import pytest

from cogjax import config as configs
from cogjax.cli import main
from cogjax.errors import UserError
from cogjax.ops.masks import image_mask
from cogjax.parallel.mesh import MeshConfig, make_abstract_mesh
from cogjax.plan import sampling, topology
from cogjax.plan import training as planning
from cogjax.plan.drawing import drawing_of
from cogjax.plan.flops import count_flops
from cogjax.plan.pairs import count_pairs
from cogjax.plan.sampling import plan_sampling
from cogjax.plan.workload import Workload

SMALL = (
    "--config.model.depth=4",
    "--config.model.width=256",
    "--config.model.heads=4",
    "--config.train.batch_size=64",
)
FAMILIES = {"cogview": 3_928_849_920, "dalle": 12_195_290_880, "ernie_vilg": 9.8e9}


STEPS = FAMILIES | {"ernie_vilg:end_to_end": 9.86e9}


def path(step):
    """Config of a family, or of "family:argument"."""
    family, colon, argument = step.partition(":")
    return f"experiments/{family}/paper.py{colon}{argument}"


def load(step, *words):
    return configs.load(path(step), list(words))


@functools.cache
def estimate(step):
    """The report of a paper's step on v5p:4x4x8."""
    return planning.plan(load(step), "v5p:4x4x8", estimate=True)


@pytest.mark.parametrize("family", STEPS)
def test_papers_fit_and_their_flops_agree(family):
    """The closed form against the trace: within 5 %."""
    report = estimate(family)
    assert report.parameters == pytest.approx(STEPS[family], rel=0.01)
    assert report.fits and report.how == "estimated" and report.chips == 128
    assert report.counted_flops == pytest.approx(report.flops, rel=0.05)
    assert report.step_seconds == max(
        report.seconds_compute, report.seconds_memory, report.seconds_network
    )
    assert 0.5 < report.mfu < 1


def test_lora_is_planned_with_its_frozen_base():
    """Moments and average are of A and B; the weights are held once."""
    report = planning.plan(
        load("cogview", "--config.lora.rank=8"), "v5p:4x4x8", estimate=True
    )
    whole = estimate("cogview")
    # 48 layers of 2560: qkv 4, attention's output 2, MLP 5 and 5 widths an A and B.
    assert report.parameters == 48 * 8 * 16 * 2560
    assert 0.25 < report.state_bytes / whole.state_bytes < 0.27
    assert report.optimizer_bytes < 0.01 * whole.optimizer_bytes
    assert report.flops == whole.flops and report.fits
    assert report.counted_flops == pytest.approx(report.flops, rel=0.05)


def test_a_masked_model_is_planned_but_for_its_sampling(capsys):
    """All codes are inputs and scored among codes: fewer products than code by code."""
    config = load("cogview") | {"task": {"name": "masked"}}
    report = planning.plan(config, "v5p:4x4x8", estimate=True)
    assert report.parameters == estimate("cogview").parameters
    assert report.counted_flops == pytest.approx(report.flops, rel=0.05)
    with pytest.raises(UserError, match="all at once, and only code by code is"):
        plan_sampling(config, "v5p:4x4x8", 256, estimate=True)


# The papers' steps on v5p:4x4x8, estimated: other objectives must not change them.
FIGURES = {
    "cogview": {
        "flops": 1.629042625216512e17,
        "counted_flops": 1.6485671321468928e17,
        "hbm_bytes": 53956917784.0,
        "memory_bytes": 828765417008.0,
        "step_seconds_serial": 4.169436818962158,
        "tokens_per_day": 156366710406.78308,
    },
    "dalle": {
        "flops": 9.634240899632333e16,
        "counted_flops": 9.654789075055411e16,
        "hbm_bytes": 34961485456.0,
        "memory_bytes": 424143016496.0,
        "step_seconds_serial": 2.8773186318130795,
        "tokens_per_day": 51754803108.48242,
    },
}


@pytest.mark.parametrize("family", FIGURES)
def test_figures_of_one_direction_stay(family):
    report = estimate(family)
    assert {name: getattr(report, name) for name in FIGURES[family]} == FIGURES[family]


def test_both_directions_are_counted():
    """ERNIE-ViLG's step in closed form: tokens, scored logits and keys that are seen.

    128 positions of text and 32 x 32 codes. In its row or column a code sees 16.5 codes
    on average, and 32 on both sides; the last layer's window is counted by its mask.
    """
    work = Workload.of(load("ernie_vilg"))
    to_image, to_text = work.cost.passes
    assert (to_image.length, to_text.length) == (1151, 1152)
    assert work.tokens == 6144 * (1151 + 1152)
    assert to_image.scored == 1024 * 8192
    assert to_text.scored == 128 * (32_000 + 27)
    window, grid = work.network.kinds[-1], (32, 32)
    sources = 128 * 128 + 1023 * 128
    # The last code is only a target, and would have seen 32.
    whole = sources + 1024 * 33 // 2 - 32
    last = sources + image_mask(window, grid)[:-1].sum()
    assert count_pairs(to_image.network, to_image.length) == 47 * whole + last
    targets = 128 * 1024 + 128 * 129 // 2
    last = targets + image_mask(window, grid, causal=False).sum()
    pairs = count_pairs(to_text.network, to_text.length)
    assert pairs == 47 * (1024 * 32 + targets) + last


@pytest.mark.parametrize(
    ("words", "more"), [((), 0), (("--config.task.reconstructor.states=at",), 1)]
)
def test_a_reconstructor_is_counted_beside_the_transformer(words, more):
    """The map of two layers, three transposed convolutions as products, and 1 x 1."""
    work = Workload.of(load("ernie_vilg:end_to_end", *words))
    both = work.cost.passes
    assert both[0].length == 1151 + more and both[1].length == 1152
    forward = 2 * 1024 * (4096 * 4096 + 4096 * 256) + 2 * 256**2 * 512 * 3
    for side, width in ((32, 256), (64, 512), (128, 512)):
        forward += 2 * (side + 1) ** 2 * (4 * width) * (4 * 512)
    extra = work.extra
    assert extra.flops == 3 * forward
    # 4 of the maps that are 512 wide, or nearly: two of products, two of gradients.
    assert extra.live_bytes == pytest.approx(2 * 4 * 512 * 256**2 * 1.4, rel=0.1)
    assert work.task.batch_spec(2)["image"].shape == (2, 256, 256, 3)


def test_an_ablation_has_dalles_decoder():
    work = Workload.of(load("ernie_vilg:ablation"))
    sizes = work.network.depth, work.network.width, work.network.heads
    assert sizes == (24, 1024, 16)
    assert work.task.config.reconstructor.kind == "dvae"
    config = load("ernie_vilg:end_to_end", "--config.task.pixels=logit_laplace")
    with pytest.raises(UserError, match="section 'task': pixels 'logit_laplace'"):
        Workload.of(config)


def test_compressed_gradients_are_counted():
    """64 layers of kernels [d, 3d], [d, d], [d, 4d] and [4d, d], in 16 bits."""
    exact, found = estimate("dalle"), estimate("dalle:powersgd")
    width, rank, depth = 3968, 896, 64
    inside = 12 * width**2 * depth
    rest = 4 * (found.parameters - inside)
    assert exact.summed_bytes == found.exact_bytes == 4 * found.parameters
    assert found.summed_bytes == 2 * 16 * rank * width * depth + rest
    assert found.error_bytes == 2 * inside
    # Errors, and Q of each kernel, over the 8 chips of a worker.
    query = 4 * (3 + 1 + 4 + 1) * width * rank * depth
    more = found.state_bytes - exact.state_bytes
    assert more == pytest.approx((found.error_bytes + query) / 8, rel=0.01)
    less = found.network_bytes["all-reduce"] / exact.network_bytes["all-reduce"]
    assert less == pytest.approx(found.summed_bytes / found.exact_bytes)


def test_one_worker_compresses_nothing():
    config = load("dalle:powersgd", "--config.mesh.data=1", "--config.mesh.fsdp=128")
    with pytest.raises(UserError, match="mesh.data.*there is one"):
        planning.plan(config, "v5p:4x4x8", estimate=True)


def test_settings_of_a_family_are_planned():
    words = ["--config.model.attention=full", "--config.model.text_len=63"]
    config = load("ernie_vilg", *words)
    work = Workload.of(config)
    assert {kind.name for kind in work.network.layer_kinds} == {"full"}
    assert work.planned.prompt_len == 64 and work.planned.image_len == 1024
    report = planning.plan(config, "v5p:4x4x8", estimate=True)
    # Dense attention computes what the mask of a causal image then hides.
    assert report.flops < report.counted_flops < 1.08 * report.flops


def test_state_is_split_as_the_mesh_says():
    """float32 weights, EMA and two moments over fsdp x tensor, little beside."""
    for words, ways in (
        ((), 32),
        (("--config.mesh.fsdp=8", "--config.mesh.tensor=4"), 32),
        (("--config.mesh.fsdp=4", "--config.mesh.tensor=2"), 8),
    ):
        report = planning.plan(load("cogview", *words), "v5p:2x4x4", estimate=True)
        assert report.state_bytes == pytest.approx(
            16 * report.parameters / ways, rel=0.02
        )
    words = ("--config.mesh.data=8", "--config.mesh.fsdp=4")
    report = planning.plan(load("cogview", *words), "v5p:2x4x4", estimate=True)
    assert report.state_bytes == pytest.approx(4 * report.parameters, rel=0.01)
    assert report.network_bytes["all-reduce"] > 0


def test_moments_of_16_bits_are_half_the_bytes():
    full = planning.plan(
        load("dalle", "--config.optim.moments=float32"), "v5p:4x4x8", estimate=True
    )
    half = estimate("dalle")
    assert full.optimizer_bytes == pytest.approx(2 * half.optimizer_bytes, rel=1e-5)
    saved = full.optimizer_bytes - half.optimizer_bytes
    assert (
        full.state_bytes - half.state_bytes == saved == full.hbm_bytes - half.hbm_bytes
    )
    # Two moments of 2 bytes, over 8 shards.
    assert half.optimizer_bytes == pytest.approx(4 * half.parameters / 8, rel=0.01)


def test_too_large_does_not_fit():
    words = ("--config.train.batch_size=256", "--config.mesh.fsdp=4")
    report = planning.plan(load("dalle", *words), "v5e:2x2", estimate=True)
    assert not report.fits
    with pytest.raises(UserError, match="nothing fits v5e:2x2: at least"):
        planning.search(load("dalle", *words), "v5e:2x2")


@pytest.mark.parametrize(
    ("room", "verdict"), [(1.31, ": fits"), (1.29, ": MAY NOT FIT"), (0.9, "DOES NOT")]
)
def test_an_estimate_needs_room(monkeypatch, capsys, room, verdict):
    """Its memory may be a fifth too low, and its MFU is a bound."""
    chip, count = planning.parse_topology("v5p:4x4x8")
    small = dataclasses.replace(chip, hbm=estimate("cogview").hbm_bytes * room)
    monkeypatch.setattr(planning, "parse_topology", lambda _: (small, count))
    command = ["plan", "--config", "experiments/cogview/paper.py", "--estimate"]
    assert main([*command, "--topology", "v5p:4x4x8"]) == 0
    printed = capsys.readouterr().out
    assert verdict in printed and "MFU: at most" in printed


def test_nothing_fits_without_room(monkeypatch):
    """The line does not say that what is smaller than the chip does not fit it."""
    config, chip = load("cogview"), planning.parse_topology("v5e:2x2")[0]
    monkeypatch.setattr(planning, "parse_topology", lambda _: (chip, 4))
    with pytest.raises(UserError) as refused:
        planning.search(config, "v5e:2x2")
    least, room, _ = map(float, re.findall(r"\d+\.\d", str(refused.value)))
    assert room == pytest.approx(1.3 * least, rel=0.01)
    tight = dataclasses.replace(chip, hbm=1e9 * (least + room) / 2)
    monkeypatch.setattr(planning, "parse_topology", lambda _: (tight, 4))
    with pytest.raises(UserError, match=f"with room {room}, of"):
        planning.search(config, "v5e:2x2")


def test_search_finds_what_fits_fastest_first():
    found = planning.search(load("cogview"), "v5e:16x16")
    times = [report.step_seconds_serial for report in found]
    assert times == sorted(times) and all(report.fits for report in found)
    # 3968 is not split 256 ways: such meshes are passed over.
    assert planning.search(load("dalle"), "v6e:16x16")[0].fits
    # The batch in one part does not fit 16 GB.
    assert not planning.plan(load("cogview"), "v5e:16x16", estimate=True).fits


@pytest.mark.parametrize(
    ("topology", "words", "message"),
    [
        ("v5p", (), "topology 'v5p' is unknown: expected CHIP:SIZES"),
        ("v9:2x2", (), "chips are v4, v5e, v5p, v6e, a100"),
        ("v5p:0x2", (), "has no chips"),
        ("v5p:2x2x2", ("--config.mesh.fsdp=3",), "does not cover 8 devices"),
        ("v5p:2x4x4", ("--config.train.batch_size=48",), "must be a multiple of"),
        (
            "v5e:4x4",
            ("--config.mesh.fsdp=1", "--config.mesh.tensor=16"),
            "does not divide 40 of",
        ),
        (
            "v5e:4x4",
            ("--config.task.name=vq",),
            "task 'vq' is not planned: only transf",
        ),
    ],
)
def test_what_cannot_be_planned(topology, words, message):
    with pytest.raises(UserError, match=message):
        planning.plan(load("cogview", *words), topology, estimate=True)


def test_command(tmp_path, capsys):
    out = tmp_path / "plan.json"
    command = ["plan", "--config", "experiments/cogview/paper.py", *SMALL]
    more = ["--topology", "h100:8", "--search", "--json", str(out)]
    assert main([*command, *more]) == 0
    found = json.loads(out.read_text())
    assert {"fits", "mfu", "step_seconds", "hbm_bytes"} <= found.keys()
    printed = capsys.readouterr().out
    assert "estimated for h100:8, 8 chips" in printed and ": fits" in printed
    assert f"{found['parameters']:,}" in printed


def test_drawing_reads_weights_and_caches():
    """CogView cut to 4 layers, 16 images: bytes of a chip in closed form."""
    report = plan_sampling(load("cogview", SMALL[0]), "h100:8", 16, estimate=True)
    ways = report.mesh["tensor"]
    assert report.mesh["data"] * ways == 8 and report.tokens == 1024
    places = 1089 * 2560
    weights = 2 * ((report.parameters - places) / ways + places)
    assert report.weight_bytes == pytest.approx(weights, rel=0.01)
    # Keys and values of 64 tokens of text and 1,024 codes, 4 layers of 2560.
    caches = 16 * (64 + 1024) * 4 * 2 * 2560 * 2 / 8
    assert report.cache_bytes == caches
    # All but the tables is read, of the token table the codes, and activations.
    read = weights - 2 * ((58240 - 8192) * 2560 / ways + places) + caches
    assert read < report.memory_bytes < 1.1 * read
    assert report.token_seconds == report.seconds_memory
    assert report.images_per_second == 16 / 1024 / report.token_seconds
    guided = load("cogview", SMALL[0]) | {"sample": {"sampler": {"guidance": 3.0}}}
    both = plan_sampling(guided, "h100:8", 16, estimate=True)
    assert both.cache_bytes * both.mesh["data"] * both.mesh["tensor"] == 16 * caches


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_of_drawing_agree_with_the_trace(family):
    work = Workload.of(load(family, *SMALL[:3]))
    drawing = drawing_of(work, 2)
    until = jax.ShapeDtypeStruct((), "int32")
    counted = count_flops(drawing.draw, drawing.params, drawing.state, until)
    assert sampling.token_flops(drawing) == pytest.approx(counted, rel=0.05)


def test_a_tpu_pads_caches_and_may_not_hold_them():
    config = load("cogview", SMALL[0])
    few, many = (
        plan_sampling(config, "v5e:2x4", n, estimate=True, mesh=MeshConfig(1, 1, 8))
        for n in (64, 1024)
    )
    assert few.fits and not many.fits
    # 5 heads of 64 a chip are stored as 8 of 128, beside the caches that came in.
    assert few.hbm_bytes > few.weight_bytes + 4.2 * few.cache_bytes
    with pytest.raises(UserError, match="3 images cannot be split over the 128 chips"):
        plan_sampling(config, "v5p:4x4x8", 3, estimate=True)
    with pytest.raises(UserError, match="does not divide 40 of"):
        sizes = MeshConfig(1, 1, 16)
        plan_sampling(config, "v5e:4x4", 3, estimate=True, mesh=sizes)


def test_command_for_drawing(tmp_path, capsys):
    out = tmp_path / "plan.json"
    command = ["plan", "--config", "experiments/dalle/paper.py", *SMALL[:3]]
    more = ["--topology", "v5e:2x2", "--estimate", "--json", str(out)]
    assert main([*command, *more, "--sampling", "4"]) == 0
    found = json.loads(out.read_text())
    assert {"fits", "token_seconds", "images_per_second", "hbm_bytes"} <= found.keys()
    printed = capsys.readouterr().out
    assert "estimated for v5e:2x2, 4 chips" in printed and ": fits" in printed
    assert "4 images of 1024 tokens" in printed
    assert main([*command, *more, "--sampling", "4", "--search"]) == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
def test_drawing_compiled_for_a_pod(capfd):
    """As wide as the paper's: how a TPU lays out caches depends on the heads of a chip.

    4 layers do not fit into fast memory; fewer would, and their weights be read once.
    """
    config, mesh = load("cogview", SMALL[0]), MeshConfig(1, 1, 8)
    report = plan_sampling(config, "v5e:2x4", 32, mesh=mesh)
    guess = plan_sampling(config, "v5e:2x4", 32, mesh=mesh, estimate=True)
    assert report.how == "compiled" and report.fits
    assert report.flops == pytest.approx(guess.flops, rel=0.05)
    assert report.hbm_bytes == pytest.approx(guess.hbm_bytes, rel=0.2)
    assert report.memory_bytes == pytest.approx(guess.memory_bytes, rel=0.2)
    for kind in ("all-reduce", "all-gather"):
        sent, guessed = report.network_bytes[kind], guess.network_bytes[kind]
        assert sent == pytest.approx(guessed, rel=0.5)
    assert "all-to-all" not in report.network_bytes
    assert not capfd.readouterr().err


# What libtpu 0.0.42 makes of 4 layers of 256 on v5e:2x4, 1 x 4 x 2, a step.
COUNTS = {"all-gather": 228, "all-reduce": 45, "collective-permute": 109}


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
def test_a_step_that_the_compiler_finds_too_large():
    """The size is the compiler's, the rest is estimated, and nothing is computed."""
    words = (*SMALL[:1], "--config.model.width=1024", "--config.model.heads=16")
    words += ("--config.train.batch_size=512", "--config.mesh.fsdp=4")
    config = load("cogview", *words, "--config.model.remat=none")
    report = planning.plan(config, "v5e:2x2")
    guess = planning.plan(config, "v5e:2x2", estimate=True)
    assert not report.fits and report.hbm_bytes != guess.hbm_bytes
    assert report.hbm_bytes > report.hbm_limit
    assert report.step_seconds == guess.step_seconds


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
@pytest.mark.parametrize(
    ("step", "depth", "tensor"),
    [("cogview", 4, 2), ("ernie_vilg", 2, 1), ("ernie_vilg:end_to_end", 2, 1)],
)
def test_compiled_for_a_pod(tmp_path, step, depth, tensor):
    """In a process of its own: libtpu says what it has against a program, if asked.

    Over two ways of tensor parallelism libtpu still moves the losses of ERNIE-ViLG's
    codes from all to all (docs/planning.md).
    """
    words = (*SMALL[1:], f"--config.model.depth={depth}")
    words += (f"--config.mesh.fsdp={8 // tensor}", f"--config.mesh.tensor={tensor}")
    command = f"-m cogjax.cli plan --config {path(step)} --topology v5e:2x4 --json"
    out = tmp_path / "plan.json"
    run = subprocess.run(
        [sys.executable, *command.split(), out, *words],
        env=os.environ | {"TPU_STDERR_LOG_LEVEL": "1", "TPU_MIN_LOG_LEVEL": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(out.read_text())
    guess = planning.plan(load(step, *words), "v5e:2x4", estimate=True)
    assert report["how"] == "compiled" and report["fits"]
    assert report["state_bytes"] == guess.state_bytes
    assert report["executed_flops"] == pytest.approx(guess.executed_flops, rel=0.2)
    assert "tpu_spmd_partitioner" in run.stderr
    assert "full rematerialization" not in run.stderr
    assert "all-to-all" not in report["network_calls"]
    if step == "cogview" and importlib.metadata.version("libtpu").startswith("0.0.42"):
        assert report["network_calls"] == COUNTS


@pytest.mark.parametrize("family", STEPS)
@pytest.mark.parametrize("words", [(), ("--config.mesh.tensor=2",)])
def test_nothing_large_is_whole_on_every_chip(family, words):
    """Weights, moments and averages above 1 MB are all split over fsdp."""
    work = Workload.of(load(family, *words))
    mesh = make_abstract_mesh(work.run.mesh, 128)
    state, shardings = planning._state(work, mesh)
    for leaf, where in zip(
        jax.tree.leaves(state), jax.tree.leaves(shardings), strict=True
    ):
        part = math.prod(where.shard_shape(leaf.shape))
        if part * leaf.dtype.itemsize >= 2**20:
            assert leaf.size >= part * mesh.shape["fsdp"]


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("RESOURCE_EXHAUSTED: ... Used 20.5G of 15.75G hbm. Exceeded by 4.75G", 20.5),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
            "for HLO temporaries (82.66G) exceeds available HBM (15.75G).",
            82.66,
        ),
    ],
)
def test_both_ways_of_not_fitting_are_understood(message, size):
    assert topology.compile_or_size(Refused(message)) == size * 2**30


def test_other_complaints_of_the_compiler_are_not_swallowed():
    with pytest.raises(jax.errors.JaxRuntimeError, match="vmem"):
        topology.compile_or_size(Refused("Used 20G of 16G vmem"))


class Refused:
    """A lowered program that the compiler complains about."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)
