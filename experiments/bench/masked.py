"""Code by code against masked decoding: images a second, and how good they are.

    python experiments/bench/masked.py runs/lm/export runs/masked/export \
        --data data/icons --steps 1,2,4,8,16,32,64

Both models generate an image for one caption of each of `--n` examples of a split, with
their own samplers. Two measures, lower is better: the first model's caption loss of the
images, which is a judge that knows its own images, and KID of the pixel space of
`evaluate/judges/neighbours.py` against the examples' images through the first model's
tokenizer, which no network judges. Time is that of all images, the best of `--runs`
after one that compiles.
"""

import argparse
import time

import numpy as np

import cogjax
from cogjax.data.images import decode_image
from cogjax.data.records import open_split
from cogjax.evaluate.judges.neighbours import embed
from cogjax.evaluate.metrics.mmd import kid
from cogjax.evaluate.metrics.result import Source
from cogjax.pipelines.contracts import Reader, expect

SOURCE = Source("pixels-16", "box")


def _seconds(generate) -> tuple[float, np.ndarray]:
    """(wall time of a call, its pixels uint8 [n, y, x, 3])."""
    start = time.perf_counter()
    pixels = generate().pixels[:, 0]
    return time.perf_counter() - start, pixels


def main() -> None:
    """Prints one line a model and number of steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("plain", help="model folder, code by code")
    parser.add_argument("masked", help="model folder of a masked model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--n", type=int, default=256)
    parser.add_argument("--steps", default="1,2,4,8,16")
    parser.add_argument("--choice-temperature", type=float, default=None)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()
    plain, masked = cogjax.load(args.plain), cogjax.load(args.masked)
    judge = expect(plain, Reader)
    plain.batch_size = masked.batch_size = args.batch_size
    split, rng = open_split(args.data, args.split), np.random.default_rng(0)
    examples = [split[int(i)] for i in rng.permutation(len(split))[: args.n]]
    texts = [
        example.captions[rng.integers(len(example.captions))][1] for example in examples
    ]
    real = np.stack(
        [decode_image(example.image, plain.image_size) for example in examples]
    )
    real = plain.decode(plain.encode(real))
    choice = {"choice_temperature": args.choice_temperature}
    rows = {"code by code": (plain, {})}
    for steps in map(int, args.steps.split(",")):
        rows[f"masked, {steps} steps"] = masked, {"steps": steps, **choice}
    print(
        "| model | images/s | caption loss | KID of pixels |\n| --- | --- | --- | --- |"
    )
    print(
        f"| real, through the tokenizer | | {judge.score(real, texts).mean():.4f} | |"
    )
    for name, (model, settings) in rows.items():

        def generate(model=model, settings=settings):
            return model.generate(texts, 1, **settings)

        _seconds(generate)
        found = [_seconds(generate) for _ in range(args.runs)]
        seconds, pixels = min(found, key=lambda pair: pair[0])
        loss = judge.score(pixels, texts).mean()
        distance = kid(embed(real), embed(pixels), SOURCE, subsets=None).value
        print(f"| {name} | {len(texts) / seconds:.2f} | {loss:.4f} | {distance:.5f} |")


if __name__ == "__main__":
    main()
