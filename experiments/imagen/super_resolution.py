"""Super-resolution on shapes: noise on the small images, and the Efficient U-Net.

    python experiments/imagen/super_resolution.py --data data/easy \\
        --out runs/super-resolution --text runs/t5/export --vectors runs/texts \\
        --below runs/base/export

Imagen's section 4.4: noise-conditioning augmentation helps, and the Efficient U-Net
learns faster than the U-Net. Arms: the stage of shapes.py, one trained without noise on
its small images, and a plain U-Net of 690,627 parameters for 725,027. All enlarge the
images of the same base. The first is sampled with noise of 0, 0.1, 0.2 and 0.3. The
page also has the core-milliseconds of an image in training, its compilation included.
"""

import time

import jax
import numpy as np
from arms import (
    NANO_BASE,
    NANO_SUPER,
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
from cogjax.files import once
from cogjax.pipelines.text_encoder import read_text_encoder

REFERENCE = "Efficient, noise 0.1"
BATCH = 16
PLAIN = {
    "model.width": 32,
    "model.multipliers": "1,1,1",
    "model.res_blocks": 1,
    "model.attention": "16,",
    "model.image_size": 64,
    "model.small_size": 32,
    "model.head_dim": 32,
}
# The stage of shapes.py, what its config says else, and the noise it is sampled with.
ARMS = {
    REFERENCE: ("super", {}, 0.1),
    "Efficient, noise 0": ("super", {}, 0.0),
    "Efficient, noise 0.2": ("super", {}, 0.2),
    "Efficient, noise 0.3": ("super", {}, 0.3),
    "trained without noise": ("super", {"task.most_augmentation": 0.0}, 0.0),
    "plain U-Net, noise 0.1": ("base", PLAIN, 0.1),
}


def trained(name: str, seed: int, args) -> dict:
    """{"model": folder, "milliseconds": of a core an image, "parameters"} of an arm."""
    stage, values, _ = ARMS[name]
    kind = "plain" if values is PLAIN else "clean" if values else "noisy"
    folder = args.out / f"{kind}-{seed}"

    def make():
        own = {"data.path": args.data, "data.text": args.text, "train.seed": seed}
        own |= {"data.vectors": args.vectors, "data.below": args.below}
        own |= {"train.steps": steps_of(args, BATCH), "train.sample_every": 0}
        width = read_text_encoder(args.text)["text_encoder"].config.width
        own |= {"model.text_dim": width, **values}
        if args.nano:
            own |= NANO_SUPER if stage == "super" else NANO_BASE
        began = time.process_time()
        model = train(f"shapes.py:{stage}", own, folder / "run")
        spent = 1000 * (time.process_time() - began)
        stored = cogjax.load(model).model
        params = stored[stored.layout.components[-1]].params
        count = sum(leaf.size for leaf in jax.tree.leaves(params))
        images = steps_of(args, BATCH) * BATCH
        each = {"milliseconds": spent / images, "parameters": count}
        return {"model": str(model), **each}

    return once(folder / "trained.json", make)


def run(name: str, seed: int, args) -> list[float]:
    """The shares of right images of an arm's run."""

    def judged():
        model = cogjax.load(trained(name, seed, args)["model"])
        settings = {"augmentation": ARMS[name][2], "steps": 2 if args.nano else 16}
        return right(model, prompts_of(args), args.num_images, seed=seed, **settings)

    return once(args.out / f"{name.replace(' ', '-')}-{seed}.json", judged)


def main() -> None:
    """Trains and judges what is missing, and writes the page."""
    parser = make_parser(__doc__, images=48_000)
    add = parser.add_argument
    add("--text", required=True, help="folder of the text encoder")
    add("--vectors", required=True, help="folder of the captions as its vectors")
    add("--below", required=True, help="folder of the base")
    args = parser.parse_args()
    begin(args)
    top = check_ceiling(args, 64)
    found: dict[str, list] = {name: [] for name in ARMS}
    for seed in range(args.seeds):
        for name, shares in found.items():
            shares.append(run(name, seed, args))
            print(f"seed {seed}, {name}: {np.mean(shares[-1]):.3f}", flush=True)
    rows, notes = rows_of(found, REFERENCE), [f"Ceiling {top:.1%}."]
    for name in (REFERENCE, "plain U-Net, noise 0.1"):
        costs = [trained(name, seed, args) for seed in range(args.seeds)]
        spent = ", ".join(f"{each['milliseconds']:.1f}" for each in costs)
        count = costs[0]["parameters"]
        notes.append(
            f"{name}: {count:,} parameters; {spent} core-ms an image, by seed."
        )
    bars(args.out / "arms.png", rows)
    page(args.out, "Super-resolution", {REFERENCE: rows}, [*notes, "![](arms.png)"])


if __name__ == "__main__":
    main()
