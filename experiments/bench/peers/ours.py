"""Our side of each row, with random weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from programs import Run
from rows import MINI, SIZES

from cogjax.bench import SIZES as BENCH_SIZES
from cogjax.bench import Setup
from cogjax.models.image_lm import param_shapes as transformer_shapes

TOP_K, GUIDANCE = 256, 16


def _size(nano: bool) -> str:
    return "nano" if nano else "reference"


def _ready(run: Callable[[], Any]) -> Callable[[], Any]:
    return lambda: jax.block_until_ready(run())


def _parameters(shapes: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def product(nano: bool, side: int) -> Run:
    """A product of two squares."""
    del nano
    x, multiply = jnp.ones((side, side)), jax.jit(jnp.matmul)
    return Run(_ready(lambda: multiply(x, x)), 1, 0)


def transformer(nano: bool, part: str, attention: str, batch: int) -> Run:
    """A step of training, or all codes of some images, of `cogjax bench`."""
    work = Setup(part, _size(nano), batch, attention).work(attention)
    network = BENCH_SIZES[_size(nano)].network(attention)
    shapes = transformer_shapes(network)
    tokens = work.tokens, _parameters(shapes), work.flops / 1e9
    return Run(_ready(work.run), *tokens)


def attention(nano: bool) -> Run:
    """Causal attention and its gradients."""
    from cogjax.ops.attention import causal_attention

    size = SIZES[nano]
    shape = 2, size.length, size.heads, size.width // size.heads
    *arrays, grad = (jax.random.normal(jax.random.key(i), shape) for i in range(4))
    grads = jax.jit(
        jax.grad(lambda *x: jnp.vdot(causal_attention(*x), grad), (0, 1, 2))
    )
    # The causal half of the scores; 2 products forward and 5 backward.
    pairs = size.length * (size.length + 1) / 2
    gflop = 7 * 2e-9 * 2 * size.width * pairs
    return Run(_ready(lambda: grads(*arrays)), 1, 0, gflop)


def tokenizer(nano: bool, part: str) -> Run:
    """VQGAN f8 one way, without the nearest code."""
    from cogjax.catalogue import families, resolve
    from cogjax.models.tokenizers import param_shapes

    family = "" if nano else "rudalle"
    setup = Setup(f"tokenizer-{part}", _size(nano), 1, tokenizer=family)
    work = setup.work("")
    config = BENCH_SIZES["nano"].tokenizer
    if family:
        config = resolve(families()[family].tokenizer)
    return Run(_ready(work.run), 1, _parameters(param_shapes(config)), work.flops / 1e9)


def _unet_parameters(nano: bool) -> int:
    from cogjax.families.imagen.presets import STAGES
    from cogjax.models.unet import param_shapes

    return _parameters(param_shapes(STAGES["nano" if nano else "icons"][0]))


def unet_train(nano: bool, batch: int) -> Run:
    """A step of training of Imagen's base, texts as vectors."""
    from cogjax.bench_config import ConfigSetup

    config = "imagen/icons:base,nano" if nano else "imagen/icons:base"
    work = ConfigSetup("train", config, ("--config.data.text=",), batch).work("own")
    return Run(_ready(work.run), batch, _unet_parameters(nano), work.flops / 1e9)


def unet_denoise(nano: bool, batch: int) -> Run:
    """One guided estimate."""
    work = Setup("denoise", _size(nano), batch).work("")
    return Run(_ready(work.run), batch, _unet_parameters(nano), work.flops / 1e9)


def dalle_mini(nano: bool) -> Run:
    """Codes of one image with guidance, as an imported model samples them."""
    from cogjax.data.sequences import Prompts
    from cogjax.models.encoder_decoder import EncoderDecoder, param_shapes
    from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
    from cogjax.models.encoder_decoder_inference import for_inference, scoring
    from cogjax.sampling.tokens.autoregressive import (
        OutputIds,
        Sampler,
        compiled_advance,
        image_keys,
    )
    from cogjax.sampling.tokens.encoder_decoder import compiled_prefill

    size, rng = MINI[nano], np.random.default_rng(0)
    sizes = {"width": size.width, "depth": size.layers, "heads": size.heads}
    config = EncoderDecoderConfig(**sizes, mlp_dim=size.mlp)
    drawn = jax.tree.map(
        lambda x: rng.standard_normal(x.shape, np.float32) * np.float32(0.02),
        param_shapes(config),
    )
    params = scoring(for_inference(drawn), 2**14)
    ids = np.ones((2, 64), np.int32)
    ids[:, :2], ids[0, 2:12] = 0, 9
    prompts = Prompts(ids, np.array([52, 62], np.int32))
    network = EncoderDecoder(config), params
    forced = np.full((1, config.image_len), -1, np.int32)
    settings = {
        "ids": OutputIds(jnp.ones(2**14, bool)),
        "sampler": Sampler(top_k=TOP_K, guidance=GUIDANCE).numbers(),
    }
    at = {"place": config.image_len, "state": None}

    def prepare() -> None:
        if at["place"] == config.image_len:
            keys = image_keys(0, 0, 1)
            state = compiled_prefill(*network, prompts, keys, forced, guided=True)
            at.update(place=0, state=jax.block_until_ready(state))

    def run() -> None:
        at["place"] += size.codes
        at["state"], tokens = compiled_advance(
            *network, at["state"], at["place"], **settings
        )
        jax.block_until_ready(tokens)

    return Run(run, size.codes, _parameters(drawn), prepare=prepare)
