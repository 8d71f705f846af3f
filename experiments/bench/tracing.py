"""Processor time of tracing, here and in another checkout, by turns.

Each run is a process of its own: sampling (prompt and decode loop) at two depths
and a VQGAN, traced and lowered, not compiled. Prints medians, and how much smaller
they are than in the other checkout.

    git worktree add ../before COMMIT
    python experiments/bench/tracing.py --before ../before
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
PARTS = ("sample depth 2", "sample depth 8", "vqgan")


SIZES = {"width": 32, "heads": 2, "vocab_size": 64, "mlp_dim": 64, "max_positions": 32}


def sample(depth: int):
    """The jitted sampling of a small transformer and its arguments, as shapes."""
    try:
        import cogjax.ops.sequence  # noqa: F401
    except ImportError:
        return sample_before(depth)
    import jax
    import jax.numpy as jnp

    from cogjax.data.sequences import Prompts
    from cogjax.models.image_lm import ImageLM, param_shapes
    from cogjax.models.image_lm_config import ImageLMConfig
    from cogjax.models.inference import scoring
    from cogjax.sampling.tokens import autoregressive as sampling

    config = ImageLMConfig(depth=depth, **SIZES)

    def run(params, prompt, keys):
        return sampling.sample_tokens(
            ImageLM(config),
            scoring(params, (0, 32)),
            Prompts(prompt, jnp.zeros(len(prompt), jnp.int32)),
            keys,
            jnp.full((len(keys), 16), -1, jnp.int32),
            ids=sampling.OutputIds(jnp.ones(32, bool)),
            sampler=sampling.Sampler().numbers(),
        )

    return jax.jit(run), arguments(config, param_shapes, sampling)


def sample_before(depth: int):
    """The same of a checkout before `Sequence`, such as 62c7db8."""
    import jax
    import jax.numpy as jnp

    from cogjax.models.image_lm import ImageLM, ImageLMConfig, param_shapes
    from cogjax.sampling import autoregressive as sampling

    config = ImageLMConfig(depth=depth, **SIZES)

    def run(params, prompt, keys):
        return sampling.sample_tokens(
            ImageLM(config),
            params,
            prompt,
            jnp.zeros(len(prompt), jnp.int32),
            keys,
            forced=jnp.full((len(keys), 16), -1, jnp.int32),
            allowed=jnp.ones(32, bool),
            id_range=(0, 32),
            sampler=sampling.Sampler(),
        )

    return jax.jit(run), arguments(config, param_shapes, sampling)


def arguments(config, param_shapes, sampling):
    """Shapes of parameters, two prompts of four tokens, and a key each."""
    import jax
    import jax.numpy as jnp

    keys = jax.eval_shape(lambda: sampling.image_keys(0, 0, 2))
    prompt = jax.ShapeDtypeStruct((2, 4), jnp.int32)
    return param_shapes(config), prompt, keys


def vqgan():
    """A jitted VQGAN and its arguments, as shapes."""
    import jax
    import jax.numpy as jnp

    from cogjax.models.vqgan import VQGAN, VQGANConfig

    model = VQGAN(VQGANConfig())
    size = model.config.image_size
    pixels = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), pixels)
    return jax.jit(model.apply), (shapes, pixels)


def traced(part: str) -> float:
    """Processor seconds of one part, after JAX has warmed up on another."""
    sample(1)[0].lower(*sample(1)[1])
    function, args = vqgan() if part == "vqgan" else sample(int(part.split()[-1]))
    start = time.process_time()
    function.lower(*args)
    return time.process_time() - start


def main() -> None:
    """Alternates the checkouts and prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="CHECKOUT", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(traced(args.only))
        return
    for part in PARTS:
        found = {args.before: [], str(HERE): []}
        for _ in range(args.runs):
            for checkout, seconds in found.items():
                words = [sys.executable, __file__, "--before", "", "--only", part]
                where = os.environ | {"PYTHONPATH": checkout, "JAX_PLATFORMS": "cpu"}
                run = subprocess.run(
                    words, check=True, env=where, capture_output=True, text=True
                )
                seconds.append(float(run.stdout.split()[-1]))
        before, now = map(statistics.median, found.values())
        less = 1 - now / before
        print(f"{part}: {before:.3f} s before, {now:.3f} s now, {less:.0%} less")


if __name__ == "__main__":
    main()
