"""How fast a model of a training config is on this machine: `cogjax bench --config`.

It takes any family and size that `cogjax plan` takes, with random weights. Work is
counted as there; how it is measured is in `bench.py`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cogjax import config as configs
from cogjax.bench import Work, compiled_update, random_weights
from cogjax.errors import UserError
from cogjax.ops.packed import WeightFormat
from cogjax.plan.drawing import Drawing, drawing_of
from cogjax.plan.sampling import read_bytes, token_flops
from cogjax.plan.training import model_flops
from cogjax.plan.workload import Workload
from cogjax.sampling.tokens.autoregressive import compiler_options

PARTS = ("train", "prefill", "decode")


@dataclass(frozen=True)
class ConfigSetup:
    """What is measured, as `bench.Setup`. config: file and its argument, overrides:
    words such as --config.model.dtype=float32. dtype: of the probe of the machine.
    """

    part: str
    config: str
    overrides: tuple[str, ...] = ()
    batch: int = 2
    weights: WeightFormat = "float32"
    dtype: str = "float32"
    attention: str = "own"

    def work(self, attention: str) -> Work:
        """The part, compiled; `attention` is that of the config."""
        del attention
        if self.part not in PARTS:
            raise UserError(
                f"--config is for {', '.join(PARTS)}: {self.part} takes a --size"
            )
        work = Workload.of(configs.load(self.config, list(self.overrides)))
        if self.part == "train":
            return _train(work, self.batch)
        drawing = drawing_of(work, self.batch, self.weights)
        return (_prefill if self.part == "prefill" else _decode)(drawing)


def _train(work: Workload, batch: int) -> Work:
    """One update; zeros and ones in place of data cost the same."""
    data = _filled(work.task.batch_spec(batch))
    compiled, run, read = compiled_update(
        work.task, work.run.optim, data, work.run.train.precision
    )
    if int(run()["bad_steps"]):
        raise UserError(
            "this task has no loss for a batch of zeros, so that its update would be "
            "dropped and not measured: bench a --size, or a config of CogView's"
        )
    tokens = batch * sum(one.length for one in work.cost.passes)
    flops = model_flops(work) / work.run.train.batch_size * batch
    return Work(compiled, run, tokens, flops, read)


def _prefill(drawing: Drawing) -> Work:
    """Prompts read once; tokens are those of them."""
    args = random_weights(drawing.scored), _filled(drawing.prompts), drawing.keys()
    compiled = jax.jit(drawing.read_prompts).lower(*args).compile()
    tokens = drawing.rows * drawing.work.planned.prompt_len
    flops = compiled.cost_analysis()["flops"]
    read = sum(leaf.nbytes for leaf in jax.tree.leaves(args[0]))
    return Work(compiled, partial(compiled, *args), tokens, flops, read)


def _decode(drawing: Drawing) -> Work:
    """All codes of the images, after caches of zeros."""
    length = drawing.work.planned.image_len
    state = _filled(drawing.state)
    state = state._replace(
        tokens=jnp.full_like(state.tokens, -1),
        uniforms=jnp.full_like(state.uniforms, 0.5),
        done=jnp.zeros_like(state.done),
    )
    args = random_weights(drawing.params), state, jnp.int32(length)
    run = jax.jit(drawing.draw, compiler_options=compiler_options())
    compiled = run.lower(*args).compile()
    flops, read = token_flops(drawing) * length, read_bytes(drawing) * length
    tokens = drawing.images * length
    return Work(compiled, partial(compiled, *args), tokens, flops, read)


def _filled(shapes: Any) -> Any:
    """Zeros, True and 1 where a shape is of these."""
    return jax.tree.map(
        lambda x: (
            jnp.zeros(x.shape, x.dtype)
            if jnp.issubdtype(x.dtype, jnp.integer)
            else jnp.ones(x.shape, x.dtype)
        ),
        shapes,
    )
