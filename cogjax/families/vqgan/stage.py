"""VQGAN's stage: a tokenizer with a perceptual loss and a discriminator."""

from cogjax.families.vqgan.objective import GANConfig, make_task
from cogjax.models.vqgan import VQGANConfig
from cogjax.stages.tokenizer import AdversarialTokenizerStage

VQGAN = AdversarialTokenizerStage(VQGANConfig, GANConfig, make_task)
