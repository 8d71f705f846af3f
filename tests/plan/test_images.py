"""Plans of Imagen: stages in pixels, and texts that are encoded offline."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

from cogjax import config as configs
from cogjax.cli import main
from cogjax.errors import UserError
from cogjax.models.t5 import CONFIGS, param_shapes
from cogjax.plan import training as planning
from cogjax.plan.encoding import plan_encoding
from cogjax.plan.sampling import plan_sampling
from cogjax.plan.workload import Workload, gradient_flops

NO_TEXT = ("--config.data.text=", "--config.data.below=")
FLAT = ("attention=none", "widths=64,128", "blocks=1,1")
FLAT = tuple(f"--config.model.{size}" for size in FLAT)
FEW = ("--config.model.depth=4", "--config.model.dtype=bfloat16")


def stage(spec, *words):
    return configs.load(f"experiments/imagen/{spec}", [*NO_TEXT, *words])


def test_flops_of_a_unet_are_those_that_xla_counts():
    """XLA counts norms too, and no products with the zeros around an image."""
    sizes = ("multipliers=1,2", "attention=16,", "res_blocks=1")
    words = [f"--config.model.{size}" for size in sizes]
    task = Workload.of(stage("icons.py:base", *words)).plain
    params, state = jax.eval_shape(task.init, jax.random.key(0))

    def loss(params, batch):
        return task.loss(params, state, batch, jax.random.key(0))[0]

    lowered = jax.jit(jax.grad(loss)).lower(params, task.batch_spec(1))
    counted = lowered.cost_analysis()["flops"]
    assert gradient_flops(task) == pytest.approx(counted, rel=0.1)


def test_a_step_on_crops_costs_as_its_crops():
    whole, half = (
        Workload.of(stage("icons.py:super", *FLAT, f"--config.task.crop={crop}"))
        for crop in (0, 32)
    )
    assert 3.6 * half.extra.flops < whole.extra.flops <= 4 * half.extra.flops


def test_the_last_stage_with_fewer_blocks_is_planned():
    blocks = ["--config.model.blocks=1,1,1,1"]
    config = configs.load("experiments/imagen/paper.py:super_1024", blocks)
    report = planning.plan(config, "v4:4x4x8", estimate=True)
    # float32 weights, average and two moments over fsdp 8; small ones are whole.
    least = 16 * report.parameters / 8
    assert report.fits and least < report.state_bytes < 1.1 * least
    assert report.flops == report.counted_flops == report.executed_flops
    at_full_rate = report.flops / 128 / 275e12
    assert report.seconds_compute == pytest.approx(at_full_rate)
    assert report.days == pytest.approx(2.5e6 * report.step_seconds / 86400)
    larger = config | {"train": {**config["train"], "batch_size": 16 * 2048}}
    assert not planning.plan(larger, "v4:4x4x8", estimate=True).fits


def test_a_search_splits_the_images_alone(capsys):
    command = ["plan", "--config", "experiments/imagen/icons.py:base,nano", *NO_TEXT]
    assert main([*command, "--topology", "h100:8", "--search"]) == 0
    printed = capsys.readouterr().out
    assert "(of the trace), executed" in printed and "images a day" in printed
    assert "tensor 1" in printed and "tokens a day" not in printed


def test_a_stage_in_pixels_draws_no_codes():
    with pytest.raises(UserError, match="'imagen' generates no codes, and only code"):
        plan_sampling(stage("icons.py:base,nano"), "h100:8", 8, estimate=True)


def test_texts_are_encoded_by_all_of_the_encoder():
    """T5 XXL cut to four layers, 512 texts of 256 ids: products and attention."""
    config = configs.load("experiments/imagen/text.py:paper", list(FEW))
    report = plan_encoding(config, "v4:4x4x4", 512, estimate=True)
    kernels = 4 * (4 * 4096**2 + 3 * 4096 * 10240)
    pairs = 4 * 2 * 256**2 * 4096
    wanted = 2 * 512 * (256 * kernels + pairs)
    assert report.flops == pytest.approx(wanted, rel=0.01)
    assert report.seconds_compute == pytest.approx(wanted / 64 / 275e12, rel=0.01)
    table = 32128 * 4096
    assert report.weight_bytes == pytest.approx(4 * (kernels + table), rel=0.01)
    assert report.fits and report.stored_bytes == 2 * 256 * 4096
    whole = configs.load("experiments/imagen/text.py:paper", [])
    leaves = jax.tree.leaves(param_shapes(CONFIGS["v1_1-xxl"]))
    assert sum(x.size for x in leaves) == 4_762_310_656
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)
    # 19 GB of weights are in no chip of 17 GB.
    assert not plan_encoding(whole, "v5e:4x4", 512, estimate=True).fits


@pytest.mark.parametrize(
    ("spec", "texts", "message"),
    [
        ("paper.py:base", 8, "--encoding is for a config of task 't5', .* 'imagen'"),
        ("text.py:nano", 3, "3 texts cannot be split over the 8 chips of h100:8"),
    ],
)
def test_what_encodes_nothing(spec, texts, message):
    config = configs.load(f"experiments/imagen/{spec}", [])
    with pytest.raises(UserError, match=message):
        plan_encoding(config, "h100:8", texts, estimate=True)


def test_command(capsys):
    command = ["plan", "--config", "experiments/imagen/text.py:nano", "--estimate"]
    assert main([*command, "--topology", "h100:8", "--encoding", "16"]) == 0
    printed = capsys.readouterr().out
    assert "16 texts of 16 ids" in printed and "texts a second" in printed


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("libtpu"), reason="needs libtpu")
def test_compiled_for_a_pod():
    base = stage("icons.py:base", "--config.train.batch_size=1024")
    step = planning.plan(base, "v5e:2x4")
    guess = planning.plan(base, "v5e:2x4", estimate=True)
    assert step.how == "compiled" and step.fits
    assert step.executed_flops == pytest.approx(guess.flops, rel=0.01)
    config = configs.load("experiments/imagen/text.py:medium", [])
    found = plan_encoding(config, "v5e:2x4", 1024)
    assert found.how == "compiled" and found.fits
    assert found.flops == plan_encoding(config, "v5e:2x4", 1024, estimate=True).flops
