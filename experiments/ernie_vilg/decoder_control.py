"""The ablation's control: the tokenizer's decoder trained as long, but from codes.

    python experiments/ernie_vilg/decoder_control.py --out runs/e2e --data data/few

A reconstructor of `end_to_end.py` has 200 updates more than the tokenizer's decoder.
Here that decoder has as many, on the same images, by the same optimiser and error, and
goes on reading the codebook, which does not move. The remaining difference between
images from states and from codes is the gain of reading states. Each seed takes the
two-stage generator of that seed, trained now or before; the rows are `codes: ...` of
table.md.
"""

import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from end_to_end import get_config, make_parser, train, train_and_judge

from cogjax import model_folder
from cogjax.data import records
from cogjax.data.batches import batches
from cogjax.families.ernie_vilg.end_to_end import pixel_error
from cogjax.model import Component
from cogjax.models.image_lm import matrix_axes
from cogjax.models.reconstructor import DECODERS, VQVAEDecoder, decoder_of
from cogjax.pipelines import tokenize as image_codes
from cogjax.train.optim import OptimConfig, make_optimizer, make_schedule
from cogjax.train.step import init_state, make_train_step
from cogjax.train.task import Task


class DecoderTask(Task):
    """Task over {"codes": int32 [b, grid, grid], "image": uint8 [b, y, x, 3]}."""

    def __init__(self, tokenizer: Component):
        self.tokenizer = tokenizer
        self.decoder = VQVAEDecoder(tokenizer.config)

    def init(self, key):
        """The tokenizer's decoder."""
        del key
        decoder = decoder_of(self.tokenizer.config, self.tokenizer.params)
        return jax.tree.map(jnp.asarray, decoder), {}

    def loss(self, params, state, batch, key):
        """L1 of [0, 1] times the number of codes, as `end_to_end.py` has it."""
        del key
        z = jnp.asarray(self.tokenizer.state["codebook"])[batch["codes"]]
        _, maps = self.decoder.apply({"params": params}, z)
        pixels = DECODERS["vqvae"].pixels(maps)
        error = pixel_error("l1", maps, pixels, batch["image"] / 255.0)
        return error * batch["codes"][0].size, (state, {})


def train_decoder(tokenizer: Component, seed: int, args) -> Component:
    """The tokenizer with another decoder."""
    source = records.open_split(args.data, "train")
    size = tokenizer.config.image_size
    images = np.stack(
        [records.decode_image(source[i].image, size) for i in range(len(source))]
    )
    rows = list(zip(image_codes.encode(tokenizer, images), images, strict=True))
    config = get_config("two_stage")
    settings = OptimConfig(**config.optim)
    schedule = make_schedule(settings, args.steps)
    task, tx = DecoderTask(tokenizer), make_optimizer(settings, schedule, matrix_axes)
    step = jax.jit(
        make_train_step(
            task, tx, schedule, accumulate=1, ema_decay=config.train.ema_decay
        )
    )
    state = init_state(task, tx, jax.random.key(seed))
    stream = batches(
        rows,
        lambda row, _: {"codes": row[0], "image": row[1]},
        batch_size=config.train.batch_size,
        seed=seed,
    )
    for number in range(args.steps):
        state, metrics = step(state, next(stream))
        if number % 20 == 19:
            print(f"seed {seed} step {number + 1} loss {metrics['loss']:.4f}")
    params = {**tokenizer.params, "decoder": jax.device_get(state.ema)}
    return dataclasses.replace(tokenizer, params=params)


def train_control(variant: str, seed: int, args) -> Path:
    """The two-stage model of a seed with that decoder, made now or before."""
    folder = args.out / f"{variant}-{seed}" / "export"
    if (folder / "config.json").exists():
        return folder
    model = model_folder.load(train("two_stage", seed, args))
    tokenizer = train_decoder(model["tokenizer"], seed, args)
    return model_folder.save(model.with_component("tokenizer", tokenizer), folder)


def main(argv: list[str] | None = None) -> None:
    """Trains and judges the missing runs; adds to table.json and .md."""
    args = make_parser(__doc__).parse_args(argv)
    train_and_judge(["codes"], train_control, args)


if __name__ == "__main__":
    sys.exit(main())
