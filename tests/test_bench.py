"""What is counted and reported; never how long it takes."""

import functools
import json
import re

import jax
import numpy as np
import pytest

from cogjax import cli
from cogjax.bench import (
    PARTS,
    SIZES,
    Machine,
    Setup,
    _cached,
    _forward_flops,
    _tokenizer_inputs,
    _work,
    bench,
)
from cogjax.catalogue import FAMILIES, resolve
from cogjax.errors import UserError
from cogjax.families.imagen.presets import STAGES
from cogjax.families.vqgan.presets import TOKENIZERS as VQGANS
from cogjax.models.dvae import DVAEConfig
from cogjax.models.image_lm import param_shapes
from cogjax.models.registry import network_of
from cogjax.nn.unet import inputs
from cogjax.plan.flops import count_flops

NANO, REFERENCE = SIZES["nano"], SIZES["reference"]
FORMS = ("sparse", "dense")
DVAE = DVAEConfig(image_size=16, grid=8, width=8, blocks=1, codebook_size=24)


@functools.cache
def done(part, form="sparse"):
    """(work, what its first run returns) of the nano size."""
    work = _work(part, NANO, form, 2, "float32")
    return work, jax.device_get(work.run())


@pytest.mark.parametrize("part", PARTS)
def test_parts_run_and_count_their_work(part):
    work, _ = done(part)
    work.run()
    assert work.flops > 0 and work.read > 0 and work.temp_bytes >= 0
    images = {"train": 2 * 19, "prefill": 2 * 4, "decode": 2 * 16}
    assert work.tokens == images.get(part, 2)


@pytest.mark.parametrize("part", ["denoise", "denoise-super"])
def test_work_of_a_u_net_is_about_that_of_its_products(part):
    """The compiler leaves out products with padding, and counts norms."""
    enlarges = part == "denoise-super"
    config = STAGES["nano"][int(enlarges)]
    example = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((4, *x.shape[1:]), x.dtype),
        inputs(config, enlarges),
    )
    net = network_of(config)
    params = jax.eval_shape(net.init, jax.random.key(0), *example)
    counted = count_flops(net.apply, params, *example)
    work, images = done(part)
    # Two images, each with its prompt and without, and twice the tokens of `example`.
    assert 0.85 * counted < work.flops < 1.25 * counted
    assert images.shape == (2, config.image_size, config.image_size, 3)


def test_sparse_draws_other_tokens_than_dense():
    # The same weights: only attention differs.
    drawn = [done("decode", form)[1] for form in FORMS]
    assert drawn[0].shape == drawn[1].shape == (2, 16)


def test_flops_by_hand():
    # 8 layers of 12 d^2 weights; the causal half of attention.
    tokens, width = 1088, 512
    products = 8 * 12 * width**2
    pairs = 8 * tokens * (tokens + 1) / 2
    dense = REFERENCE.network("dense")
    want = 2 * 2 * (tokens * products + 2 * width * pairs)
    assert _forward_flops(dense, 2, tokens) == want
    sparse = REFERENCE.network("sparse")
    assert _forward_flops(sparse, 2, tokens) < want


def test_cache_reads_by_hand():
    # Full attention: the image so far with the query.
    dense = NANO.network("dense")
    assert _cached(dense, 16) == 2 * 16 * 17 // 2
    # The text of two prompts, or of one, is all that differs.
    apart, shared = (
        _work("decode", NANO, "dense", 2, "float32", one_prompt=one).read
        for one in (False, True)
    )
    assert apart - shared == 2 * 4 * 32 * (2 * 16 * 4)


def test_the_roofline_is_the_slower_of_the_two():
    machine = Machine(matmul=10.0, bandwidth=2.0)
    assert machine.seconds(flops=100, read=4) == 10
    assert machine.seconds(flops=10, read=4) == 2


def test_command_writes_the_figures(tmp_path, capsys):
    out = tmp_path / "bench.json"
    words = f"bench decode --size nano --compare dense --runs 1 --json {out}"
    assert cli.main(words.split()) == 0
    report = json.loads(out.read_text())
    printed = capsys.readouterr().out
    for key in (
        "speedup_over_dense",
        "temp_memory_ratio",
        "tokens_per_second",
        "roofline_fraction",
    ):
        assert report[key] > 0
        assert f"{key}: " in printed
    assert report["attention"] == "sparse"


@pytest.mark.parametrize("part", ["encode", "decode"])
@pytest.mark.parametrize("family", ["vqvae", "vqgan", "dvae"])
def test_the_dtype_reaches_all_products_of_a_tokenizer(family, part):
    """Traced from the arrays that are measured, with their dtype."""
    configs = {"vqvae": NANO.tokenizer, "vqgan": VQGANS["nano"], "dvae": DVAE}
    config = configs[family]
    args, net = _tokenizer_inputs(config, 1, part, "bfloat16"), network_of(config)
    jaxpr = jax.make_jaxpr(lambda p, x: net.apply({"params": p}, x, method=part))(*args)
    products = re.findall(
        r":(\w+)\[[\d,]*\] = (?:dot_general|conv_general)", str(jaxpr)
    )
    assert products and set(products) == {"bf16"}


def test_released_tokenizers(capsys):
    assert cli.main("bench decode --size nano --tokenizer cogview".split()) == 2
    assert "--tokenizer is for tokenizer-*, decode has none" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    shown = "".join(capsys.readouterr().out.split())
    names = [name for name, family in FAMILIES.items() if family.tokenizer]
    assert ",".join(names) in shown and "rudalle" in names
    configs = [resolve(FAMILIES[name].tokenizer) for name in names]
    assert {config.image_size for config in configs} == {256}


def test_unknown_part():
    with pytest.raises(UserError, match="a U-Net computes in float32 or bfloat16"):
        bench(Setup("denoise", "nano", dtype="float16"))
    with pytest.raises(UserError, match="unknown part 'dance'"):
        bench(Setup("dance", "nano"))


def test_forms_of_full_attention_compute_the_same_loss():
    causal, dense, sparse = (
        done("train", form)[1]["loss"] for form in ("causal", "dense", "sparse")
    )
    np.testing.assert_allclose(causal, dense, rtol=1e-5)
    assert abs(causal - sparse) > 1e-6


def test_sizes_of_the_command_line(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in SIZES)
    shapes = jax.tree.leaves(param_shapes(SIZES["1.3b"].network("sparse")))
    assert 1.2e9 < sum(leaf.size for leaf in shapes) < 1.35e9
