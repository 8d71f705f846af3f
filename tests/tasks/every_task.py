"""A small task of every kind with a batch of 8, whose texts differ in length.

SUMS: the loss is a mean over items, so that parts and devices change nothing. OWN: each
part has draws, statistics of codes or an adaptive weight of its own. CLIP's loss has no
parts: its stage refuses them (tests/families/clip).
"""

import dataclasses

import numpy as np

from cogjax.data.vocab import Vocab
from cogjax.families.cogview import presets as cogview
from cogjax.families.cogview.layout import Layout
from cogjax.families.cogview.masked import MaskedMixture, MaskedTask
from cogjax.families.dalle import layout as dalle
from cogjax.families.dalle import presets as dalle_presets
from cogjax.families.dalle.dvae import RelaxedConfig, RelaxedTask
from cogjax.families.ernie_vilg import presets as ernie_vilg
from cogjax.families.ernie_vilg.bidirectional import TwoWayTask
from cogjax.families.ernie_vilg.end_to_end import EndToEndConfig, EndToEndTask
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.families.imagen.denoising import DenoisingConfig, DenoisingTask
from cogjax.families.vqgan.objective import GANConfig, make_task
from cogjax.models.dvae import DVAEConfig
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.image_lm_config import ImageLMConfig
from cogjax.models.registry import network_of
from cogjax.models.t5 import T5Config
from cogjax.models.vqgan import VQGANConfig
from cogjax.models.vqvae import VQVAEConfig
from cogjax.nn.lora import LoRAConfig
from cogjax.tasks.codebook import CodebookConfig
from cogjax.tasks.decoder import DecoderConfig, DecoderTask
from cogjax.tasks.encoder_decoder import EncoderDecoderTask
from cogjax.tasks.lm import LMTask
from cogjax.tasks.lora import LoRATask
from cogjax.tasks.span_corruption import PretrainingConfig, SpanCorruptionTask
from cogjax.tasks.tokenizer import TokenizerTask
from tests.models.test_unet import FLAT
from tests.programs import random_params

RNG = np.random.default_rng(0)
VOCAB, CODES = Vocab(24, 20), RNG.integers(0, 24, (8, 16))
# Every second is short: two of the four parts of a batch weigh 6 of the texts, two 14.
TEXTS = [RNG.integers(0, 20, 2 if i % 2 else 6) for i in range(8)]
PAIRS = list(zip(TEXTS, CODES, strict=True))
SMALL = {"width": 16, "depth": 1, "heads": 2, "dropout": 0.0}
IMAGES = {"image": RNG.integers(0, 256, (8, 8, 8, 3), np.uint8)}
TOKENIZER = VQVAEConfig(image_size=8, widths=(4,), strides=(2,), code_dim=4)
TOKENIZER = dataclasses.replace(TOKENIZER, codebook_size=12, res_blocks=1, res_width=4)
PLAIN = {"pixels": "l2", "perceptual_weight": 0.0}


def stacked(rows):
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def reading():
    """CogView's objective on image to text, whose loss is of the texts alone."""
    layout = Layout(VOCAB, text_len=6, image_len=16)
    rows = [layout.image_to_text(*pair) for pair in PAIRS]
    ids, weights = (np.stack(each) for each in zip(*rows, strict=True))
    sizes = {"vocab_size": 128, "mlp_dim": 32, "max_positions": layout.length}
    task = LMTask(ImageLMConfig(**sizes, **SMALL), num_codes=24)
    return task, {"ids": ids, "weights": weights}


def masked():
    """Some images have most codes masked, others few."""
    layout = Layout(VOCAB, text_len=6, image_len=16, masked=True)
    config = cogview.TransformerConfig(**SMALL, text_len=6)
    rng, mixture = np.random.default_rng(3), MaskedMixture(0.0)
    rows = [mixture.example(layout, [text], codes, rng) for text, codes in PAIRS]
    task = MaskedTask(cogview.make_transformer(config, layout), VOCAB)
    return task, stacked(rows)


def drawing():
    """DALL-E's: an eighth of the loss is text, whatever its length."""
    layout = dalle.Layout(dalle.PaddedVocab(24, 20, 6), 16)
    config = dalle_presets.TransformerConfig(**SMALL, text_len=6, kernel=3)
    network = dalle_presets.make_transformer(config, layout)
    rows = [layout.text_to_image(list(text), codes, 1 / 8) for text, codes in PAIRS]
    ids, weights = (np.stack(each) for each in zip(*rows, strict=True))
    task = LMTask(network, 24, num_text=6, length=layout.length)
    return task, {"ids": ids, "weights": weights}


def two_way():
    """ERNIE-ViLG's with questions; the answers of every second picture are long."""
    layout = TwoWayLayout(VOCAB, text_len=6, image_len=16)
    settings = ernie_vilg.TransformerConfig(**SMALL, text_len=6, kernel=3)
    task = TwoWayTask(ernie_vilg.make_transformer(settings, layout), VOCAB)
    answers = [[layout.answer(text, text, 5)] for text in TEXTS]
    batch = {
        "to_image": np.stack([layout.text_to_image(*pair) for pair in PAIRS]),
        "to_text": np.stack([layout.image_to_text(*pair)[0] for pair in PAIRS]),
        "asked": CODES.astype(np.int32),
        "answers": np.array(answers),
    }
    return task, batch


def end_to_end():
    """The same with images, and a reconstructor of them."""
    layout = TwoWayLayout(VOCAB, text_len=6, image_len=16)
    settings = ernie_vilg.TransformerConfig(**SMALL, text_len=6, kernel=3)
    network = ernie_vilg.make_transformer(settings, layout)
    task = EndToEndTask(network, VOCAB, TOKENIZER, EndToEndConfig())
    rng, mixture = np.random.default_rng(3), EndToEndConfig(caption_dropout=0.0)
    rows = [
        mixture.example(layout, [text], codes, image, rng)
        for (text, codes), image in zip(PAIRS, IMAGES["image"], strict=True)
    ]
    return task, stacked(rows)


def spans():
    """T5's; the targets of every second text are short."""
    sizes = {"width": 12, "depth": 1, "heads": 2, "head_dim": 5, "mlp_dim": 20}
    config = T5Config(**sizes, vocab_size=128, text_len=20)
    task = SpanCorruptionTask(config, PretrainingConfig(0.4, decoder_depth=1))
    spec, rng = task.batch_spec(8), np.random.default_rng(1)
    found = {k: rng.integers(2, 128, v.shape).astype(v.dtype) for k, v in spec.items()}
    found["targets"][::2, 3:] = 0
    return task, found


def pair():
    """DALL-E mini's encoder and decoder; padding is behind the texts."""
    config = EncoderDecoderConfig(
        width=16,
        depth=1,
        heads=2,
        mlp_dim=12,
        text_vocab_size=20,
        text_len=6,
        vocab_size=25,
        image_len=16,
        start=24,
    )
    ids = np.stack([np.resize(text, 6) for text in TEXTS]).astype(np.int32)
    count = np.array([len(text) for text in TEXTS], np.int32)
    batch = {"ids": ids, "count": count, "codes": CODES.astype(np.int32)}
    return EncoderDecoderTask(config), batch


def codes():
    """A tokenizer whose codebook is learnt by gradient and never restarted."""
    config = CodebookConfig(method="straight_through", restart_below=0)
    return TokenizerTask(TOKENIZER, config), IMAGES


def decoder():
    """The discriminator has not started."""
    codebook = RNG.normal(size=(12, 4)).astype(np.float32)
    config = DecoderConfig(**PLAIN, disc_start=9, disc_layers=1, disc_width=4)
    net = random_params(network_of(TOKENIZER), np.zeros((1, 8, 8, 3), np.float32))
    return DecoderTask(TOKENIZER, net, codebook, config), IMAGES


def moving_codes():
    """A codebook that is the moving average of its vectors, with restarts."""
    return TokenizerTask(TOKENIZER, CodebookConfig(method="ema")), IMAGES


def relaxed():
    """DALL-E's dVAE, which draws relaxed codes."""
    sizes = {"image_size": 8, "grid": 4, "width": 4, "blocks": 1}
    model = DVAEConfig(**sizes, code_dim=6, codebook_size=8)
    return RelaxedTask(model, RelaxedConfig()), IMAGES


def adversarial():
    """VQGAN's with its discriminator, from the first update."""
    sizes = {"image_size": 8, "width": 4, "multipliers": (1,), "res_blocks": 1}
    sizes |= {"z_dim": 6, "code_dim": 5, "codebook_size": 8, "groups": 2}
    weights = {"disc_start": 0, "disc_layers": 1, "disc_width": 4}
    config = GANConfig(perceptual_weight=0.0, **weights)
    return make_task(VQGANConfig(**sizes, attention=()), config), IMAGES


def denoising():
    """Imagen's, which draws times and noise."""
    tokens = np.float32(RNG.normal(size=(8, 5, 6)))
    mask = np.arange(5) < RNG.integers(1, 6, (8, 1))
    batch = {"image": IMAGES["image"], "tokens": tokens, "mask": mask}
    return DenoisingTask(FLAT, DenoisingConfig(), 5), batch


def low_rank():
    """LoRA of the first, whose frozen weights are in the state."""
    task, batch = reading()
    return LoRATask(task, LoRAConfig(rank=2, alpha=4.0)), batch


SUMS = (reading, masked, drawing, two_way, end_to_end, spans, pair, codes, decoder)
SUMS += (low_rank,)
OWN = (moving_codes, relaxed, adversarial, denoising)
