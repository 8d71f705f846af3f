"""ERNIE-ViLG's end-to-end ablation (section 4.4) at the size of one CPU core.

    cogjax data shapes --out data/few --n 9000 --easy --seed 3
    python experiments/ernie_vilg/end_to_end.py --out runs/e2e --data data/few --seeds 3

or one run of it by itself:

    cogjax train --config experiments/ernie_vilg/end_to_end.py:end_to_end --workdir DIR

Runs of a seed share start, data and budget. All start from the shipped CogView
`shapes`, its transformer, its tokenizers and its decoder: from a random start a core
generates nothing worth judging in twelve runs' time. The map from states to vectors
starts as the vector to be expected of each code, by the transformer's own head; of
`mlp` it is the paper's, at random, which 200 updates do not bring to generate.
`two_stage` stops the gradient at the states: its generator knows nothing of pixels, and
its reconstructor reads the states as they are. `end_to_end` does not stop it.
`adversarial` has VQGAN's discriminator on top, which the authors did not dare; without
LPIPS, which would take longer than all else. A stopped run goes on. Time and results:
docs/end_to_end.md; its control: decoder_control.py.
"""

import argparse
import dataclasses
import json
import shutil
import sys
from pathlib import Path

import ml_collections
import numpy as np

from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.files import write_atomic

VARIANTS = {
    "two_stage": {"end_to_end": False},
    "end_to_end": {},
    "adversarial": {
        "disc_weight": 0.8,
        "disc_start": 60,
        # Images are small: two halvings leave 14 x 14 patches.
        "disc_layers": 2,
        "disc_width": 16,
    },
    "mlp": {"reconstructor": {"kind": "vqvae"}},
}
# The shipped CogView's, with both directions.
TRANSFORMER = ernie_vilg.TransformerConfig(
    width=192,
    depth=6,
    heads=3,
    text_len=18,
    dropout=0.0,
    unroll=6,
    attention="full",
    sandwich=True,
    norm_scope="token",
)
STEPS = 200
# Generated images: prompts of each of GenEval's tasks, images of each prompt.
PROMPTS, IMAGES = 96, 2
SAMPLER = {"temperature": 0.65, "top_p": 0.95, "guidance": 2.5}
TRUTH = 96


def get_config(arg: str = "end_to_end") -> ml_collections.ConfigDict:
    """`arg` is a run of `VARIANTS`, optionally followed by ",nano"."""
    variant, _, size = arg.partition(",")
    if variant not in VARIANTS or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(VARIANTS)}, optionally "
            "followed by ,nano"
        )
    config = ml_collections.ConfigDict()
    # The decoder starts as the tokenizer's, so that it has seen as many images.
    config.task = {
        "name": "end_to_end",
        "start": "tokenizer",
        "reconstructor": {"kind": "vqvae", "activation": "softmax"},
        **VARIANTS[variant],
    }
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data = {
        "path": "data/few",
        "tokenizer": "shapes",
        "text": "shapes",
        "weights": "shapes",
    }
    config.optim = {
        "name": "muon",
        "lr": 0.003,
        "adam_lr": 1e-3,
        "warmup": 20,
        "final_ratio": 0.05,
        # No norm that the transformer and the reconstructor would share.
        "clip": 0.0,
    }
    config.train = {
        "steps": STEPS,
        "batch_size": 8,
        "ema_decay": 0.97,
        "log_every": 20,
        "save_every": 50,
        "eval_every": 100,
        "sample_every": 0,
    }
    config.eval = {"batches": 8}
    config.sample = {"sampler": SAMPLER}
    if size == "nano":
        config.data.weights = ""
        config.model = dataclasses.asdict(ernie_vilg.TRANSFORMERS["nano"])
        config.train.update({"steps": 4, "eval_every": 4, "log_every": 2})
        config.eval.batches = 1
    return config


def train(variant: str, seed: int, args: argparse.Namespace) -> Path:
    """The model folder of a run, trained now or before."""
    from cogjax.stages import run as launch

    workdir = args.out / f"{variant}-{seed}"
    export = workdir / "export"
    if (export / "config.json").exists():
        return export
    config = get_config(variant).to_dict()
    config["data"]["path"] = str(args.data)
    config["train"] |= {"seed": seed, "steps": args.steps}
    # All runs have the codes of the same images.
    shared = args.out / "codes"
    if shared.exists() and not (workdir / "codes").exists():
        shutil.copytree(shared, workdir / "codes")
    launch.train(config, workdir)
    if not shared.exists():
        shutil.copytree(workdir / "codes", shared)
    shutil.rmtree(workdir / "codes")
    shutil.rmtree(workdir / "checkpoints")
    return export


class Judges:
    """The oracle, and distances by networks whose weights are there."""

    def __init__(self, images: np.ndarray):
        """images: uint8 [n, y, x, 3], the reference."""
        from cogjax.errors import UserError
        from cogjax.evaluate.judges.features import make_extractor
        from cogjax.evaluate.judges.lpips import load_lpips
        from cogjax.evaluate.metrics.frechet import Moments

        self.extract = self.lpips = None
        try:
            self.extract = make_extractor("efflite0")
            self.reference = Moments.of(self.extract(images))
        except UserError as error:
            print(f"no Frechet distance: {error}")
        try:
            self.lpips = load_lpips()
        except UserError as error:
            print(f"no LPIPS: {error}")

    def distance(self, images: np.ndarray) -> dict[str, float]:
        """{"fd": Frechet distance to the reference}, of EfficientNet-Lite0."""
        if not self.extract:
            return {}
        from cogjax.evaluate.metrics.frechet import Moments, frechet_distance

        moments = (self.reference, Moments.of(self.extract(images)))
        first, second = ((m.mean, m.covariance) for m in moments)
        return {"fd": frechet_distance(*first, *second)}

    def fidelity(self, images: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        """PSNR in dB, LPIPS and Frechet distance of reconstructions."""
        from cogjax.evaluate.metrics.psnr_ssim import psnr

        found = {"psnr": float(psnr(images, truth).mean())}
        if self.lpips:
            found["lpips"] = float(self.lpips(images, truth).mean())
        return found | self.distance(images)


def judge_run(folder: Path, seed: int, judges: Judges, truth) -> dict:
    """Metrics of a run's images, decoded both ways, and some of them to show."""
    import cogjax
    from cogjax.evaluate.judges.compositional import judge, make_prompts

    model = cogjax.load(folder)
    prompts = make_prompts(PROMPTS)
    captions = [prompt.caption for prompt in prompts]
    generated = model.generate(captions, IMAGES, seed, decode="codes")
    codes = generated.codes.reshape(-1, *generated.codes.shape[2:])
    hidden = model.reconstruct(codes, np.repeat(captions, IMAGES))
    shown, found = [], {}
    for name, pixels in (("codes", generated.pixels), ("hidden", hidden)):
        pixels = pixels.reshape(generated.pixels.shape)
        judged = judge(prompts, pixels)
        flat = pixels.reshape(-1, *pixels.shape[2:])
        tasks = np.array([prompt.task for prompt in prompts])
        right = {
            f"oracle {task}": float(judged.right[tasks == task].mean())
            for task in dict.fromkeys(tasks.tolist())
        }
        found[f"generated {name}"] = {
            "oracle": float(judged.right.mean()),
            **right,
            **judges.distance(flat),
        }
        shown.append(pixels[:: len(prompts) // 8, 0])
    images, texts = truth
    codes = model.encode(images)
    for name, pixels in (
        ("codes", model.decode(codes)),
        ("hidden", model.reconstruct(codes, texts)),
    ):
        found[f"truth {name}"] = judges.fidelity(pixels, images)
        shown.append(pixels[:8])
    return {"metrics": found, "shown": np.stack([rows[:8] for rows in shown])}


def held_out(args: argparse.Namespace):
    """(reference images, (images to reconstruct, a caption of each))."""
    from cogjax.data import records

    split = records.open_split(args.data, "val")
    items = [split[i] for i in range(len(split))]
    images = np.stack([records.decode_image(item.image, 64) for item in items])
    texts = [item.captions[0][1] for item in items[:TRUTH]]
    return images, (images[:TRUTH], texts)


def main(argv: list[str] | None = None) -> None:
    """Trains and judges the missing runs; writes table.json, .md and .png."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS)
    )
    args = parser.parse_args(argv)
    train_and_judge(args.variants, train, args)


def make_parser(doc: str) -> argparse.ArgumentParser:
    """The arguments of this experiment and of its control."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    add = parser.add_argument
    add("--out", required=True, type=Path, help="folder of the runs")
    add("--data", required=True, type=Path, help="data set of shapes")
    add("--seeds", type=int, default=3, help="runs of each variant")
    add("--steps", type=int, default=STEPS, help="of each run")
    return parser


def train_and_judge(variants, train, args: argparse.Namespace) -> None:
    """Model folders of `train(variant, seed, args)`, their metrics and the table."""
    judges = None
    for seed in range(args.seeds):
        for variant in variants:
            folder = train(variant, seed, args)
            path = args.out / f"{variant}-{seed}" / "figures.json"
            if path.exists():
                continue
            if judges is None:
                images, truth = held_out(args)
                judges = Judges(images)
            found = judge_run(folder, seed, judges, truth)
            _save_grid(args.out / f"{variant}-{seed}.png", found["shown"])
            write_atomic(path, json.dumps(found["metrics"], indent=2) + "\n")
            write_table(args.out)


def _save_grid(path: Path, shown: np.ndarray) -> None:
    """Rows: generated by codes, by states; truth by codes, by states."""
    from cogjax.data.contact_sheet import grid
    from cogjax.data.images import encode_png

    flat = shown.reshape(-1, *shown.shape[2:])
    write_atomic(path, encode_png(np.asarray(grid(flat, shown.shape[1]))))


def write_table(out: Path) -> None:
    """table.json and table.md of all runs that were judged."""
    table = {}
    for variant in (*VARIANTS, "codes"):
        for path in sorted(out.glob(f"{variant}-*/figures.json")):
            for images, metrics in json.loads(path.read_text()).items():
                row = table.setdefault(f"{variant}: {images}", {})
                for name, value in metrics.items():
                    row.setdefault(name, []).append(value)
    write_atomic(out / "table.json", json.dumps(table, indent=2) + "\n")
    names = ("oracle", "fd", "psnr", "lpips")
    lines = ["| run: images | " + " | ".join(names) + " | seeds |"]
    lines.append("| --- " * (len(names) + 2) + "|")
    for row, metrics in table.items():
        cells = [_interval(metrics.get(name)) for name in names]
        count = len(next(iter(metrics.values())))
        lines.append(f"| {row} | {' | '.join(cells)} | {count} |")
    write_atomic(out / "table.md", "\n".join(lines) + "\n")


# Two-sided 95 % points of Student's t for 1, 2, ... degrees of freedom.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


def _interval(values: list[float] | None) -> str:
    """Mean, and the half width of its 95 % interval over seeds."""
    if not values:
        return "-"
    mean, count = np.mean(values), len(values)
    if count < 2:
        return f"{mean:.4g}"
    point = _T[min(count - 2, len(_T) - 1)]
    return f"{mean:.4g} ± {point * np.std(values, ddof=1) / count**0.5:.2g}"


if __name__ == "__main__":
    sys.exit(main())
