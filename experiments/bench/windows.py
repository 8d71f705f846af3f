"""CogView-fashion's sampling: windows and pivots against attention to all codes.

    python experiments/bench/windows.py
    python experiments/bench/windows.py --side 16 --width 64 --depth 2 --runs 1

One network with random weights samples 50 x 50 codes with attention to all, with the
window and pivots of CogView's release (6 blocks of 128, 768 pivots) and with those of
its scripts (4 blocks of 64, 256). A line for each says the seconds of a step, a median
over `--runs` times `--steps` of them from the middle of an image on, those of whole
images, and the bytes of the caches, each beside attention to all. Forms take turns.
Processor time says more than the clock where other work runs beside.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import numpy as np

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets
from cogjax.families.cogview.layout import Layout
from cogjax.files import write_atomic
from cogjax.models.image_lm import ImageLM, param_shapes
from cogjax.models.inference import for_inference, scoring
from cogjax.sampling.tokens.autoregressive import (
    OutputIds,
    Sampler,
    compiled_advance,
    compiled_prefill,
    image_keys,
)

NUM_CODES, TEXT = 1024, 16
FORMS = {"all": (0, 1, 1), "release": (128, 6, 768), "scripts": (64, 4, 256)}


class Form:
    """A network, its weights, and an image that it is at."""

    def __init__(self, args: argparse.Namespace, name: str):
        window, times, pivots = FORMS[name]
        layout = Layout(Vocab(NUM_CODES, 1000), TEXT, args.side**2)
        pivots = min(pivots, layout.length - 1) if window else 1
        settings = {"window": window, "window_times": times, "num_pivots": pivots}
        settings |= {"width": args.width, "depth": args.depth, "heads": args.heads}
        transformer = presets.TransformerConfig(dropout=0.0, text_len=TEXT, **settings)
        config = presets.make_transformer(transformer, layout)
        rng = np.random.default_rng(0)
        weights = jax.tree.map(
            lambda leaf: rng.normal(0, 0.02, leaf.shape).astype(np.float32),
            param_shapes(config),
        )
        self.network = ImageLM(config)
        self.params = scoring(for_inference(weights), (0, NUM_CODES))
        self.layout, self.images, self.steps = layout, args.images, args.steps
        self.times = {"step": [], "image": []}
        self.times |= {f"{what}, processor": [] for what in self.times}
        self.at = layout.image_len // 2
        self.state = self.advance(self.start(), self.at)

    def start(self):
        """The state behind the prompts."""
        prompts = self.layout.prompts([range(i, TEXT) for i in range(self.images)])
        forced = np.full((self.images, self.layout.image_len), -1)
        keys = image_keys(0, 0, self.images)
        return compiled_prefill(self.network, self.params, prompts, keys, forced)

    def advance(self, state, stop_at: int):
        """The state of so many codes, when it is there."""
        sampler = Sampler(top_k=100).numbers()
        state, _ = compiled_advance(
            self.network,
            self.params,
            state,
            stop_at,
            ids=OutputIds(np.ones(NUM_CODES, bool)),
            sampler=sampler,
        )
        return jax.block_until_ready(state)

    def measure(self, whole: bool) -> None:
        """Adds the time of a step, and with `whole` that of all images."""
        begun = time.perf_counter(), time.process_time()
        self.at += self.steps
        self.state = self.advance(self.state, self.at)
        self._add("step", begun, self.steps)
        if whole:
            state = self.start()
            begun = time.perf_counter(), time.process_time()
            self.advance(state, self.layout.image_len)
            self._add("image", begun, 1)

    def _add(self, what: str, begun: tuple[float, float], count: int) -> None:
        took = time.perf_counter() - begun[0], time.process_time() - begun[1]
        for name, seconds in zip((what, f"{what}, processor"), took, strict=True):
            self.times[name].append(seconds / count)

    def cache_bytes(self) -> int:
        """Bytes of keys and values, those of the prompt too."""
        state = jax.eval_shape(self.start)
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.cache))


def main() -> None:
    """Prints one line a form, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=50, help="codes (%(default)s)")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--images", type=int, default=4, help="at once (%(default)s)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=32, help="a time (%(default)s)")
    parser.add_argument("--no-images", action="store_true", help="steps alone")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    forms = {name: Form(args, name) for name in FORMS}
    for _ in range(args.runs):
        for form in forms.values():
            form.measure(not args.no_images)
    found = {
        name: {
            what: statistics.median(times)
            for what, times in form.times.items()
            if times
        }
        | {"cache bytes": form.cache_bytes()}
        for name, form in forms.items()
    }
    for name, one in found.items():
        ratios = "; ".join(
            f"{what} {value:.4g}, {value / found['all'][what]:.2f} of all"
            for what, value in one.items()
        )
        print(f"{name}: {ratios}")
    if args.json:
        write_atomic(Path(args.json), json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
