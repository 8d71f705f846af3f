"""Sampling codes by PyPI's min-dalle beside cogjax, at the size of DALL-E mini.

Float32 and random weights, one image with guidance, so two rows a step; top-k 256. The
text has been read before: what is timed are `--tokens` codes, at the same places in the
image for both. In an environment of its own:

    python -m venv peer && peer/bin/pip install torch min-dalle
    peer/bin/python experiments/bench/dalle_mini_decode.py --cogjax PYTHON_WITH_COGJAX

Both are kept in memory (2 and 4 GB) and take turns; prints medians and their ratio, by
the clock and by processor time. On a machine that others use, `taskset -c 0` in front
gives both one thread, whose processor time does not depend on them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

RUNS, TOP_K, GUIDANCE = 5, 256, 16
MINI = {"layers": 12, "width": 1024, "heads": 16, "mlp": 2730}


def peer() -> Callable[[int, int], None]:
    """Samples from one place of the image to another by min-dalle."""
    import torch
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder

    torch.set_grad_enabled(False)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    sizes = {
        "layer_count": MINI["layers"],
        "embed_count": MINI["width"],
        "attention_head_count": MINI["heads"],
        "glu_embed_count": MINI["mlp"],
        "device": "cpu",
    }
    encoder = DalleBartEncoder(**sizes, text_vocab_count=50264, text_token_count=64)
    decoder = DalleBartDecoder(**sizes, image_vocab_count=16384).eval()
    text = torch.ones((2, 64), dtype=torch.long)
    text[:, :2], text[1, 2:12] = 0, 9
    fixed = {
        "encoder_state": encoder.eval()(text),
        "attention_mask": text.not_equal(1)[:, None, None],
        "settings": torch.tensor([1.0, TOP_K, GUIDANCE]),
    }
    state = [torch.zeros(MINI["layers"], 4, 256, MINI["width"])]
    codes = torch.full((1, 257), 2**14 - 1)

    def sample(start: int, stop: int) -> None:
        for i in range(start, stop):
            codes[:, i + 1], state[0] = decoder.sample_tokens(
                **fixed,
                attention_state=state[0],
                prev_tokens=codes[:, [i]],
                token_index=torch.tensor([i]),
            )

    return sample


def ours() -> Callable[[int, int], None]:
    """The same by cogjax, as an imported model does it."""
    import jax
    import jax.numpy as jnp
    import numpy as np

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

    config, rng = EncoderDecoderConfig(), np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.standard_normal(x.shape, np.float32) * np.float32(0.02),
        param_shapes(config),
    )
    params = scoring(for_inference(params), 2**14)
    ids = np.ones((2, 64), np.int32)
    ids[:, :2], ids[0, 2:12] = 0, 9
    prompts = Prompts(ids, np.array([52, 62], np.int32))
    network = EncoderDecoder(config), params
    forced = np.full((1, 256), -1, np.int32)
    keys = image_keys(0, 0, 1)
    state = [compiled_prefill(*network, prompts, keys, forced, guided=True)]
    settings = {
        "ids": OutputIds(jnp.ones(2**14, bool)),
        "sampler": Sampler(top_k=TOP_K, guidance=GUIDANCE).numbers(),
    }

    def sample(start: int, stop: int) -> None:
        del start  # The state knows.
        state[0], tokens = compiled_advance(*network, state[0], stop, **settings)
        jax.block_until_ready(tokens)

    return sample


def serve(tokens: int) -> None:
    """Makes a model; then each line of input is answered by what a run took.

    That is seconds by the clock, and of processor time.
    """
    sample = ours() if "--ours" in sys.argv else peer()
    done = 0
    for _ in sys.stdin:
        start, used = time.perf_counter(), time.process_time()
        sample(done, done + tokens)
        done += tokens
        print(time.perf_counter() - start, time.process_time() - used, flush=True)


def main() -> None:
    """Starts both and lets them take turns, the first one of each unmeasured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cogjax", default=sys.executable, help="its Python")
    parser.add_argument("--tokens", type=int, default=32, help="codes a run, up to 42")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.tokens)
        return
    command = [__file__, "--serve", f"--tokens={args.tokens}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    programs = {
        "min-dalle": subprocess.Popen([sys.executable, *command], **pipes),
        "cogjax": subprocess.Popen([args.cogjax, *command, "--ours"], **pipes),
    }
    found = {name: [] for name in programs}
    for i in range(1 + RUNS):
        for name, program in programs.items():
            program.stdin.write("go\n")
            program.stdin.flush()
            took = map(float, program.stdout.readline().split())
            if i:
                found[name].append([args.tokens / seconds for seconds in took])
    for program in programs.values():
        program.stdin.close()
    for i, by in enumerate(("by the clock", "of processor time")):
        rates = {name: [run[i] for run in runs] for name, runs in found.items()}
        for name, each in rates.items():
            runs = ", ".join(f"{rate:.2f}" for rate in each)
            print(f"{name}: {statistics.median(each):.2f} tokens/s {by} (of {runs})")
        medians = [statistics.median(each) for each in rates.values()]
        print(f"ratio {by}: {medians[1] / medians[0]:.2f}")


if __name__ == "__main__":
    main()
