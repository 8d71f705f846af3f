"""How fast the parts are on this machine, against what the machine can do.

The roofline is measured beside each part, between its runs: the rate of a large matrix
product and the rate of reading memory. Work is counted from the shapes, each needed
product once: what a form of attention computes in vain does not count.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cogjax.catalogue import families, resolve
from cogjax.data.sequences import Prompts
from cogjax.errors import UserError
from cogjax.families.imagen.presets import STAGES
from cogjax.models import efficient_unet, unet
from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.inference import for_inference, scoring
from cogjax.models.registry import network_of
from cogjax.models.tokenizers import TokenizerConfig
from cogjax.models.tokenizers import param_shapes as tokenizer_shapes
from cogjax.models.vqvae import VQVAEConfig
from cogjax.nn.unet import Text
from cogjax.ops.masks import image_mask, sparse_kinds
from cogjax.ops.packed import WeightFormat
from cogjax.ops.sequence import Sequence
from cogjax.pipelines.cascade_stage import Inputs, Numbers, StageProgram, draw
from cogjax.plan.flops import count_flops
from cogjax.sampling.diffusion.settings import CascadeSampler
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    compiler_options,
    image_keys,
    sample_tokens,
)
from cogjax.tasks.lm import LMTask
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import at_precision, init_state, make_train_step
from cogjax.train.task import Task

PARTS = ("train", "prefill", "decode", "tokenizer-encode", "tokenizer-decode")
PARTS += ("denoise", "denoise-super")


@dataclass(frozen=True)
class Size:
    """A transformer over `num_text` text positions and a `grid` x `grid` image.

    cascade: preset of the stages whose U-Nets read as many tokens of text.
    """

    width: int
    depth: int
    heads: int
    num_text: int
    grid: int
    num_codes: int
    num_pieces: int
    tokenizer: TokenizerConfig
    cascade: str = "icons"

    def network(self, attention: str, dtype: str = "float32") -> ImageLMConfig:
        """attention: "sparse" is DALL-E's layer kinds, otherwise full in all layers."""
        return ImageLMConfig(
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            dropout=0.0,
            dtype=dtype,
            unroll=self.depth if self.depth <= 8 else 1,
            vocab_size=self.num_codes + self.num_pieces,
            mlp_dim=4 * self.width,
            max_positions=self.num_text + self.grid**2,
            sequence=Sequence.text_to_image(self.num_text, (self.grid, self.grid)),
            kinds=sparse_kinds(self.depth) if attention == "sparse" else (),
        )


_EMOJI = VQVAEConfig(
    image_size=72,
    widths=(24, 160),
    code_dim=32,
    codebook_size=1024,
    strides=(3, 2),
    res_blocks=2,
    res_width=64,
)
_NANO = VQVAEConfig(
    image_size=16,
    widths=(8, 16),
    code_dim=8,
    codebook_size=32,
    strides=(2, 2),
    res_blocks=1,
    res_width=8,
)
SIZES = {
    # The reference of the project's figures.
    "reference": Size(512, 8, 8, 64, 32, 8192, 8192, VQVAEConfig()),
    # For accelerators: `--dtype bfloat16`, and `--weights bfloat16` to draw.
    "1.3b": Size(2048, 24, 32, 256, 32, 8192, 16384, VQVAEConfig(), "paper"),
    # The shipped model's.
    "emoji": Size(256, 5, 4, 19, 12, 1024, 2048, _EMOJI),
    "nano": Size(32, 2, 2, 4, 4, 32, 32, _NANO, "nano"),
}


class Machine(NamedTuple):
    """matmul: FLOP/s of a large product. bandwidth: bytes/s of reading memory."""

    matmul: float
    bandwidth: float

    def seconds(self, flops: float, read: float) -> float:
        """The least time for so much work, if reading and computing overlap."""
        return max(flops / self.matmul, read / self.bandwidth)


@dataclass(frozen=True)
class Work:
    """A compiled part; what one run needs at least.

    run: does it once. tokens: tokens or images a run. flops, read: operations, and
    bytes of memory.
    """

    compiled: Any
    run: Callable[[], Any]
    tokens: int
    flops: float
    read: float

    @property
    def temp_bytes(self) -> int:
        """Scratch memory that the compiler plans, beside arguments and results."""
        return self.compiled.memory_analysis().temp_size_in_bytes


@dataclass(frozen=True)
class Setup:
    """What is measured.

    part: of `PARTS`. size: of `SIZES`. batch: images. attention: "sparse", "causal" or
    "dense". dtype: of computing. weights: of sampling, in memory. one_prompt: whether
    all images share theirs. tokenizer: of a family of `catalogue.py`
    instead of the size's.
    """

    part: str
    size: str = "reference"
    batch: int = 2
    attention: str = "sparse"
    dtype: str = "float32"
    weights: WeightFormat = "float32"
    one_prompt: bool = False
    tokenizer: str = ""

    def work(self, attention: str) -> Work:
        """The part, compiled, with another attention."""
        settings = self.batch, self.dtype, self.weights, self.one_prompt
        size = SIZES[self.size]
        if self.tokenizer:
            config = resolve(families()[self.tokenizer].tokenizer)
            size = replace(size, tokenizer=config)
        return _work(self.part, size, attention, *settings)


def bench(
    setup: Setup,
    *,
    compare: str | None = None,
    runs: int = 5,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measures one part; medians of `runs`, alternating with the attention `compare`.

    Returns the setup, tokens_per_second (images for tokenizers and U-Nets), seconds,
    useful_gflop, read_mb, temp_mb, roofline_fraction, the machine's rates; with compare
    also speedup_over_dense and temp_memory_ratio (below 1 is less than dense).
    """
    progress = progress or (lambda done, total, label: None)
    progress(0, runs, "compiling")
    forms = [setup.attention] if compare is None else [setup.attention, compare]
    works = [setup.work(form) for form in forms]
    probe, machines = MachineProbe(setup.dtype), []
    times = [[] for _ in works]
    for run in range(runs + 1):
        progress(run, runs + 1, "measuring")
        for work, found in zip(works, times, strict=True):
            found.append(seconds(work.run))
        machines.append(probe())
    # The first run of each warms caches up.
    medians = [statistics.median(found[1:]) for found in times]
    machine = Machine(
        *(statistics.median(rate) for rate in zip(*machines[1:], strict=True))
    )
    work = works[0]
    report = asdict(setup) | {
        "device": jax.devices()[0].device_kind,
        "tokens_per_second": work.tokens / medians[0],
        "seconds": medians[0],
        "useful_gflop": work.flops / 1e9,
        "read_mb": work.read / 1e6,
        "temp_mb": work.temp_bytes / 1e6,
        "matmul_gflops": machine.matmul / 1e9,
        "bandwidth_gb": machine.bandwidth / 1e9,
        "roofline_fraction": machine.seconds(work.flops, work.read) / medians[0],
    }
    if compare is not None:
        report["speedup_over_dense"] = medians[1] / medians[0]
        report["temp_memory_ratio"] = work.temp_bytes / max(works[1].temp_bytes, 1)
    progress(1, 1, "done")
    return report


def seconds(function: Callable, *args: Any) -> float:
    """Wall time of one call, its results ready."""
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


class MachineProbe:
    """Measures the machine: best of three of a 2048^3 product, of the sum of 256 MB."""

    def __init__(self, dtype: str = "float32"):
        self._x = jnp.ones((2048, 2048), dtype)
        self._memory = jnp.ones(2**26, jnp.float32)
        self._product, self._total = jax.jit(jnp.matmul), jax.jit(jnp.sum)

    def __call__(self) -> Machine:
        matmul = min(seconds(self._product, self._x, self._x) for _ in range(4))
        read = min(seconds(self._total, self._memory) for _ in range(4))
        return Machine(2 * 2048**3 / matmul, self._memory.nbytes / read)


def _work(
    part: str,
    size: Size,
    attention: str,
    batch: int,
    dtype: str,
    weights: WeightFormat = "float32",
    one_prompt: bool = False,
) -> Work:
    if part.startswith("tokenizer"):
        direction = part.removeprefix("tokenizer-")
        return _tokenizer(size.tokenizer, batch, direction, dtype)
    if part.startswith("denoise"):
        return _denoise(size, part == "denoise-super", batch, dtype)
    network = size.network(attention, dtype)
    if part == "train":
        return _train(size, network, batch, dense=attention == "dense")
    if part not in PARTS:
        raise UserError(f"unknown part {part!r}, expected one of: {', '.join(PARTS)}")
    num_tokens = 1 if part == "prefill" else size.grid**2
    return _sample(size, network, batch, num_tokens, weights, one_prompt)


def random_weights(shapes: Any) -> Any:
    """Normal weights of std 0.02; `init` would compile every layer on its own.

    Those of whole numbers, which are packed, are from -99 to 98.
    """
    rng = np.random.default_rng(0)

    def leaf(x: Any) -> Array:
        if jnp.issubdtype(x.dtype, jnp.integer):
            return jnp.asarray(rng.integers(-99, 99, x.shape), x.dtype)
        return jnp.asarray(rng.normal(0, 0.02, x.shape), x.dtype)

    return jax.tree.map(leaf, shapes)


@dataclass(frozen=True)
class _Masked:
    """A network under an n x n mask, the form that computes every score."""

    model: ImageLM

    @property
    def config(self) -> ImageLMConfig:
        return self.model.config

    def init(self, *args):
        """As the network's."""
        return self.model.init(*args)

    def apply(self, variables, ids, positions, **settings):
        """As the network's, as if there could be padding."""
        visible = jnp.ones((1, ids.shape[1]), bool)
        return self.model.apply(variables, ids, positions, visible, **settings)


def _train(size: Size, network: ImageLMConfig, batch: int, dense: bool) -> Work:
    """One update by AdamW; inputs are all tokens but the last."""
    task = LMTask(network, size.num_codes, num_text=size.num_text)
    if dense:
        task.model = _Masked(task.model)
    length = size.num_text + size.grid**2
    rng = np.random.default_rng(0)
    text = rng.integers(size.num_codes, network.vocab_size, (batch, size.num_text))
    codes = rng.integers(0, size.num_codes, (batch, size.grid**2))
    ids = np.concatenate([text, codes], axis=1)
    data = {
        "ids": jnp.asarray(ids, jnp.int32),
        "weights": jnp.ones((batch, length), jnp.float32),
    }
    compiled, run, read = compiled_update(task, OptimConfig(), data)
    tokens = batch * (length - 1)
    flops = _forward_flops(network, batch, length - 1)
    scored = (size.num_text - 1) * size.num_pieces + size.grid**2 * size.num_codes
    flops += 2.0 * batch * scored * size.width
    return Work(compiled, run, tokens, 3 * flops, read)


def compiled_update(
    task: Task, optim: OptimConfig, data: Any, precision: str | None = None
) -> tuple[Any, Callable, float]:
    """(compiled, a function that does one update more, bytes that it moves).

    data: a batch of the task, the same for all updates. precision: see
    `at_precision`.
    """
    schedule = make_schedule(optim, 1000)
    tx = make_optimizer(optim, schedule, task.matrix_axes)
    step = make_train_step(task, tx, schedule, accumulate=1, ema_decay=0.99)
    step = at_precision(step, precision)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    compiled = jax.jit(step, donate_argnums=0).lower(state, data).compile()
    states = [state]

    def run():
        # The state is given away, as in training.
        new, metrics = compiled(states.pop(), data)
        states.append(new)
        return metrics

    # Weights, gradients, both moments and the average are read and written once.
    moved = 10 * 4 * sum(leaf.size for leaf in jax.tree.leaves(state.params))
    return compiled, run, moved


def _sample(
    size: Size,
    network: ImageLMConfig,
    batch: int,
    num_tokens: int,
    weights: WeightFormat,
    one_prompt: bool,
) -> Work:
    """The text in one call and `num_tokens` of the image, the first from its logits."""
    params = for_inference(random_weights(param_shapes(network)), weights)
    rng = np.random.default_rng(0)
    prompts = 1 if one_prompt else batch
    prompt = rng.integers(size.num_codes, network.vocab_size, (prompts, size.num_text))
    args = (
        params,
        Prompts(jnp.asarray(prompt, jnp.int32), jnp.zeros(prompts, jnp.int32)),
        image_keys(0, 0, batch),
        Sampler().numbers(),
    )

    def sample(params, prompts, keys, sampler):
        return sample_tokens(
            ImageLM(network),
            scoring(params, (0, size.num_codes)),
            prompts,
            keys,
            jnp.full((batch, num_tokens), -1, jnp.int32),
            ids=OutputIds(jnp.ones(size.num_codes, bool)),
            sampler=sampler,
        )

    compiled = (
        jax.jit(sample, compiler_options=compiler_options()).lower(*args).compile()
    )
    length = size.num_text + num_tokens
    # The text is scored at its last position only.
    flops = _forward_flops(network, batch, length)
    flops += 2.0 * batch * (1 + num_tokens) * size.num_codes * size.width
    if one_prompt:
        flops -= (batch - 1) * _forward_flops(network, 1, size.num_text)
    itemsize = jnp.dtype(network.dtype).itemsize
    held = _layer_weights(network) + size.num_codes * size.width
    read = jnp.dtype(weights).itemsize * held * (1 + num_tokens)
    slots = batch * _cached(network, num_tokens)
    slots += prompts * network.depth * num_tokens * size.num_text
    read += 2 * itemsize * size.width * slots
    tokens = batch * (num_tokens if num_tokens > 1 else size.num_text)
    return Work(compiled, partial(compiled, *args), tokens, flops, read)


def _tokenizer(config: TokenizerConfig, batch: int, direction: str, dtype: str) -> Work:
    """Pixels to codes' vectors, or vectors to pixels, without the nearest code."""
    model, args = network_of(config), _tokenizer_inputs(config, batch, direction, dtype)
    function = jax.jit(lambda p, x: model.apply({"params": p}, x, method=direction))
    compiled = function.lower(*args).compile()
    # The compiler counts what is in a loop once.
    flops = count_flops(function, *args)
    read = sum(leaf.nbytes for leaf in jax.tree.leaves(args))
    return Work(compiled, partial(compiled, *args), batch, flops, read)


def _tokenizer_inputs(
    config: TokenizerConfig, batch: int, direction: str, dtype: str
) -> tuple[Any, Array]:
    """(weights, what they are applied to)."""
    shape = config.grid, config.grid, config.code_dim
    if direction == "encode":
        shape = config.image_size, config.image_size, 3
    args = random_weights(tokenizer_shapes(config)), jnp.zeros((batch, *shape))
    return jax.tree.map(lambda x: x.astype(dtype), args)


def _denoise(size: Size, enlarges: bool, batch: int, dtype: str) -> Work:
    """One guided estimate, two rows an image: a sampler's step, but for Heun's."""
    if dtype == "float16":
        raise UserError("a U-Net computes in float32 or bfloat16: choose one of these")
    config = replace(STAGES[size.cascade][int(enlarges)], dtype=dtype)
    stage = StageProgram(
        config, "v", "cosine", "linear" if enlarges else "", 1, "ddim", True, False
    )
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(batch, size.num_text, config.text_dim))
    text = Text(jnp.asarray(tokens, jnp.float32), jnp.ones(tokens.shape[:2], bool))
    small = None
    if enlarges:
        small = jnp.zeros((batch, config.small_size, config.small_size, 3))
    inputs = Inputs(text, Numbers.of(CascadeSampler(), batch), small)
    shapes = (efficient_unet if enlarges else unet).param_shapes(config)
    args = random_weights(shapes), image_keys(0, 0, batch), inputs
    compiled = draw.lower(stage, *args).compile()
    flops = compiled.cost_analysis()["flops"]
    read = sum(leaf.nbytes for leaf in jax.tree.leaves((args[0], inputs)))
    return Work(compiled, partial(compiled, *args), batch, flops, read)


def _layer_weights(network: ImageLMConfig) -> int:
    """Weights of all products in the layers."""
    return network.depth * network.width * (4 * network.width + 2 * network.mlp_dim)


def _forward_flops(network: ImageLMConfig, batch: int, length: int) -> float:
    """One forward pass of all layers."""
    weights, sequence = _layer_weights(network), network.sequence.first(length)
    pairs = sum(int(sequence.mask(kind).sum()) for kind in network.layer_kinds)
    return 2.0 * batch * (length * weights + 2 * network.width * pairs)


def _cached(network: ImageLMConfig, num_tokens: int) -> int:
    """Image slots that must be read while an image is drawn, over all layers."""
    grid = network.sequence.image.grid
    return sum(
        int(image_mask(kind, grid)[:num_tokens].sum()) for kind in network.layer_kinds
    )
