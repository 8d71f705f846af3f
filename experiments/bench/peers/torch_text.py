"""The peers that read or draw tokens, with random weights."""

import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from programs import Run
from rows import MINI, SIZES, Sizes

TOP_K, GUIDANCE = 256.0, 16.0

torch.manual_seed(0)
torch.set_num_threads(len(os.sched_getaffinity(0)))


def parameters(module: Any) -> int:
    """Numbers that are trained."""
    return sum(x.numel() for x in module.parameters() if x.requires_grad)


def updates(module: Any, loss: Callable[[], Any]) -> Callable[[], None]:
    """A function that does one update by AdamW."""
    trained = [x for x in module.train().parameters() if x.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-4, fused=True)

    def run() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return run


def product(nano: bool, side: int) -> Run:
    """A product of two squares."""
    del nano
    x = torch.ones(side, side)
    return Run(lambda: x @ x, 1, 0)


def attention(nano: bool) -> Run:
    """Causal attention and its gradients."""
    size = SIZES[nano]
    shape = 2, size.heads, size.length, size.width // size.heads
    arrays = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    grad = torch.randn(shape)

    def run() -> None:
        out = torch.nn.functional.scaled_dot_product_attention(*arrays, is_causal=True)
        torch.autograd.grad(out, arrays, grad)

    return Run(run, 1, 0)


def dalle_train(nano: bool, kinds: str, batch: int) -> Run:
    """DALLE of dalle-pytorch over given codes, with its defaults."""
    # Image tokenizers of others, which bring a dozen packages that are not needed.
    others = ModuleType("dalle_pytorch.vae")
    others.OpenAIDiscreteVAE, others.VQGanVAE = (type(x, (), {}) for x in "ab")
    sys.modules[others.__name__] = others
    from dalle_pytorch import DALLE, DiscreteVAE

    size = SIZES[nano]
    # Codes are given: of the tokenizer only the sizes count.
    vae = DiscreteVAE(
        image_size=8 * size.grid, num_layers=3, num_tokens=size.ids, hidden_dim=8
    )
    row, column, around = "axial_row", "axial_col", "conv_like"
    mixed = (row, column, row, row, row, column, row, around)
    model = DALLE(
        dim=size.width,
        vae=vae,
        num_text_tokens=size.ids,
        text_seq_len=size.text,
        depth=size.depth,
        heads=size.heads,
        dim_head=size.width // size.heads,
        attn_types=mixed if kinds == "mix" else ("full",),
    )
    text = torch.randint(1, size.ids, (batch, size.text))
    codes = torch.randint(0, size.ids, (batch, size.codes))
    run = updates(model, lambda: model(text, codes, return_loss=True))
    return Run(run, batch * (size.length - 1), parameters(model))


def _llama(size: Sizes) -> Any:
    """A gated MLP of 2/3 the width has as many weights as a plain one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=size.ids,
        hidden_size=size.width,
        intermediate_size=4 * size.width * 2 // 3,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        max_position_embeddings=size.length,
        eos_token_id=None,
        pad_token_id=0,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


def _train(model: Any, size: Sizes, batch: int) -> Run:
    ids = torch.randint(0, size.ids, (batch, size.length))
    run = updates(model, lambda: model(input_ids=ids, labels=ids).loss)
    return Run(run, batch * (size.length - 1), parameters(model))


def llama_train(nano: bool, batch: int) -> Run:
    """Llama of transformers."""
    return _train(_llama(SIZES[nano]), SIZES[nano], batch)


def gpt2_train(nano: bool, batch: int) -> Run:
    """GPT-2 of transformers, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = SIZES[nano]
    config = GPT2Config(
        vocab_size=size.ids,
        n_positions=size.length,
        n_embd=size.width,
        n_layer=size.depth,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
        attn_implementation="sdpa",
    )
    return _train(GPT2LMHeadModel(config), size, batch)


def llama_sample(nano: bool, batch: int) -> Run:
    """All codes of some images by Llama with a static cache."""
    from transformers import StaticCache

    size = SIZES[nano]
    model = _llama(size).eval()
    ids = torch.randint(0, size.ids, (batch, size.text))

    def run() -> None:
        cache = StaticCache(config=model.config, max_cache_len=size.length)
        with torch.no_grad():
            out = model.generate(
                ids,
                past_key_values=cache,
                do_sample=True,
                top_k=0,
                min_new_tokens=size.codes,
                max_new_tokens=size.codes,
            )
        assert out.shape[1] == size.length

    return Run(run, batch * size.codes, parameters(model))


def min_dalle(nano: bool) -> Run:
    """Codes of one image with guidance by PyPI's min-dalle."""
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder

    torch.set_grad_enabled(False)
    size = MINI[nano]
    sizes = {
        "layer_count": size.layers,
        "embed_count": size.width,
        "attention_head_count": size.heads,
        "glu_embed_count": size.mlp,
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
    state = torch.zeros(size.layers, 4, 256, size.width)
    codes = torch.full((1, 257), 2**14 - 1)
    at = {"place": 0, "state": state}

    def run() -> None:
        for i in range(at["place"], at["place"] + size.codes):
            codes[:, i + 1], at["state"] = decoder.sample_tokens(
                **fixed,
                attention_state=at["state"],
                prev_tokens=codes[:, [i]],
                token_index=torch.tensor([i]),
            )
        at["place"] = (at["place"] + size.codes) % 256

    return Run(run, size.codes, parameters(encoder) + parameters(decoder))
