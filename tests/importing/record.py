"""Writes the cases: public code with random weights, in float32 on the CPU.

    git clone https://github.com/openai/DALL-E      ... the others in docs/importing.md
    python -m tests.importing.record FOLDER_WITH_CLONES [NAME ...]

It needs torch and what the public code imports; the tests need neither.
"""

import contextlib
import functools
import sys
import types
from pathlib import Path

import numpy as np
import torch

from cogjax.parity import pack
from tests.importing import modules, public, record_dalle_mini, record_decoders, texts


def dvae():
    """OpenAI's encoder and decoder; their smallest sizes are not checked."""
    import attr

    attr.validators.set_disabled(True)
    from dall_e.decoder import Decoder
    from dall_e.encoder import Encoder
    from dall_e.utils import logit_laplace_eps, map_pixels

    config, tensors = public.DVAE, public.dvae_tensors()
    size = config.codebook_size
    encoder = modules.load(
        Encoder(n_hid=config.width, vocab_size=size), public.part(tensors, "encoder.")
    )
    decoder = modules.load(
        Decoder(n_init=config.code_dim, n_hid=config.width, vocab_size=size),
        public.part(tensors, "decoder."),
    )
    pixels = np.random.default_rng(1).uniform(size=(2, 16, 24, 3)).astype(np.float32)
    logits = encoder(map_pixels(modules.channels_first(pixels)))
    codes = logits.argmax(1)
    one_hot = torch.nn.functional.one_hot(codes, size).permute(0, 3, 1, 2).float()
    drawn = torch.sigmoid(decoder(one_hot)[:, :3])
    # As unmap_pixels, which clips in addition.
    drawn = (drawn - logit_laplace_eps) / (1 - 2 * logit_laplace_eps)
    codes = codes.numpy().astype(np.int32)
    return {"pixels": pixels, "codes": codes}, {
        "features": modules.channels_last(logits),
        "codes": codes,
        "pixels": modules.channels_last(drawn),
    }


def vqgan(form):
    """taming's encoder, decoder and codes, without noise; another size than trained."""
    from taming.modules.diffusionmodules.model import Decoder, Encoder
    from taming.modules.vqvae.quantize import GumbelQuantize, VectorQuantizer2

    config = public.VQGANS[form]
    sizes = {
        "ch": config.width,
        "out_ch": 3,
        "ch_mult": config.multipliers,
        "num_res_blocks": config.res_blocks,
        "attn_resolutions": config.attention,
        "in_channels": 3,
        "resolution": config.image_size,
        "z_channels": config.z_dim,
    }
    net = torch.nn.Module()
    net.encoder, net.decoder = Encoder(**sizes, double_z=False), Decoder(**sizes)
    dim, count = config.code_dim, config.codebook_size
    net.quant_conv = torch.nn.Conv2d(config.z_dim, dim, 1)
    net.post_quant_conv = torch.nn.Conv2d(dim, config.z_dim, 1)
    gumbel = form == "gumbel"
    if gumbel:
        net.quantize = GumbelQuantize(config.z_dim, dim, count)
    else:
        net.quantize = VectorQuantizer2(count, dim, beta=0.25, sane_index_shape=True)
    modules.load(net, public.vqgan_tensors(form))
    pixels = np.random.default_rng(1).uniform(size=(2, 24, 32, 3)).astype(np.float32)
    z = net.quant_conv(net.encoder(2 * modules.channels_first(pixels) - 1))
    codes = net.quantize.proj(z).argmax(1) if gumbel else net.quantize(z)[2][2]
    table = net.quantize.embed if gumbel else net.quantize.embedding
    quantized = table(codes).permute(0, 3, 1, 2)
    drawn = net.decoder(net.post_quant_conv(quantized))
    drawn = (drawn + 1) / 2
    codes = codes.numpy().astype(np.int32)
    outputs = {"features": modules.channels_last(z), "codes": codes}
    outputs["pixels"] = modules.channels_last(drawn)
    return {"pixels": pixels, "codes": codes}, outputs


def _clip_inputs():
    """Raw pixels, normalised ones, and ids whose end is the last id of all."""
    config, rng = public.CLIP, np.random.default_rng(1)
    pixels = rng.uniform(size=(2, 24, 24, 3)).astype(np.float32)
    ids = rng.integers(config.vocab_size - 1, size=(3, config.text_len))
    for row, end in zip(ids, (1, 4, config.text_len - 1), strict=True):
        row[end] = config.vocab_size - 1
        row[end + 1 :] = 0
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    inputs = {"pixels": pixels, "ids": ids.astype(np.int32)}
    return inputs, (modules.channels_first(pixels) - mean) / std, torch.tensor(ids)


def _clip_outputs(images, texts, logits):
    return {
        "image_features": images.numpy(),
        "text_features": texts.numpy(),
        "logits": logits.numpy(),
    }


def clip_openai():
    """OpenAI's class, in float32."""
    from clip.model import CLIP

    c, (inputs, pixels, ids) = public.CLIP, _clip_inputs()
    vision = (c.embed_dim, c.image_size, c.depth, c.width, c.patch)
    text = (c.text_len, c.vocab_size, c.text_width, c.text_width // 64, c.text_depth)
    net = modules.load(CLIP(*vision, *text), public.clip_tensors("clip"))
    images, texts = net.encode_image(pixels), net.encode_text(ids)
    return inputs, _clip_outputs(images, texts, net(pixels, ids)[0])


def clip_hugging_face():
    """transformers' CLIPModel."""
    from transformers import CLIPConfig, CLIPModel

    c, (inputs, pixels, ids) = public.CLIP, _clip_inputs()
    vision = {"hidden_size": c.width, "intermediate_size": 4 * c.width}
    vision |= {"num_hidden_layers": c.depth, "num_attention_heads": c.width // 64}
    vision |= {"image_size": c.image_size, "patch_size": c.patch}
    text = {"hidden_size": c.text_width, "intermediate_size": 4 * c.text_width}
    text |= {"num_hidden_layers": c.text_depth, "vocab_size": c.vocab_size}
    text |= {"num_attention_heads": c.text_width // 64}
    text |= {"max_position_embeddings": c.text_len, "eos_token_id": c.vocab_size - 1}
    config = CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=c.embed_dim
    )
    net = modules.load(CLIPModel(config), public.clip_tensors("clip-hf"))
    found = net(input_ids=ids, pixel_values=pixels)
    vision, text = net.vision_model(pixels), net.text_model(ids)
    images = net.visual_projection(vision.pooler_output)
    texts = net.text_projection(text.pooler_output)
    return inputs, _clip_outputs(images, texts, found.logits_per_image)


def t5_module(name):
    """transformers' T5EncoderModel."""
    from transformers import T5Config, T5EncoderModel

    c = texts.T5S[name]
    form = "gated-gelu" if c.gated else "relu"
    net = T5EncoderModel(
        T5Config(
            vocab_size=c.vocab_size,
            d_model=c.width,
            d_kv=c.head_dim,
            d_ff=c.mlp_dim,
            num_layers=c.depth,
            num_heads=c.heads,
            relative_attention_num_buckets=c.num_buckets,
            relative_attention_max_distance=c.max_distance,
            feed_forward_proj=form,
        )
    )
    tensors = texts.t5_tensors(name)
    tensors["shared.weight"] = tensors["encoder.embed_tokens.weight"]
    return modules.load(net, tensors)


def t5(name):
    """A long text and a short one."""
    c, net = texts.T5S[name], t5_module(name)
    ids = np.random.default_rng(1).integers(c.vocab_size, size=(2, 40)).astype(np.int32)
    mask = np.arange(40) < np.array([[40], [13]])
    ids_, mask_ = torch.tensor(ids).long(), torch.tensor(mask).long()
    found = net(input_ids=ids_, attention_mask=mask_).last_hidden_state
    features = (found * mask_[..., None]).numpy()
    return {"ids": ids, "mask": mask}, {"features": features}


def cogview_vqvae():
    """The class behind vqvae/api.py, with its normalisation of pixels."""
    from vqvae.vqvae_zc import VQVAE

    c = public.VQVAE
    net = VQVAE(
        channel=c.widths[0],
        n_res_block=0,
        embed_dim=c.code_dim,
        n_embed=c.codebook_size,
        stride=6,
    )
    tensors = public.vqvae_tensors()
    averages = {"cluster_size": np.ones(24), "embed_avg": np.ones((6, 24))}
    tensors |= {f"quantize_t.{key}": np.float32(x) for key, x in averages.items()}
    modules.load(net, tensors)
    pixels = np.random.default_rng(1).uniform(size=(2, 16, 24, 3)).astype(np.float32)
    mean, std = np.float32(c.pixel_mean), np.float32(c.pixel_std)
    x = modules.channels_first((pixels - mean) / std)
    codes = net.encode(x)[2]
    drawn = modules.channels_last(net.decode_code(codes)) * std + mean
    codes = codes.numpy().astype(np.int32)
    outputs = {"features": net.enc_b(x).numpy(), "codes": codes, "pixels": drawn}
    return {"pixels": pixels, "codes": codes}, outputs


def cogview():
    """The transformer on one process, with PyTorch's norm in place of Apex's."""
    apex = types.ModuleType("apex.normalization.fused_layer_norm")
    apex.FusedLayerNorm = torch.nn.LayerNorm
    deepspeed = types.ModuleType("deepspeed")
    deepspeed.checkpointing = types.SimpleNamespace(is_configured=lambda: False)
    names = ("apex", "apex.normalization", "apex.normalization.fused_layer_norm")
    sys.modules |= dict.fromkeys(names, apex) | {"deepspeed": deepspeed}
    six = types.ModuleType("torch._six")  # Gone from PyTorch, infinity alone is used.
    six.inf = float("inf")
    sys.modules["torch._six"] = six
    import mpu
    from model.gpt2_modeling import GPT2Model
    from torch.testing._internal.distributed import fake_pg

    torch.distributed.init_process_group(
        "fake", rank=0, world_size=1, store=fake_pg.FakeStore()
    )
    mpu.initialize_model_parallel(1)
    tracker = types.SimpleNamespace(fork=contextlib.nullcontext)  # For dropout, unused.
    mpu.sparse_transformer.get_cuda_rng_tracker = lambda: tracker
    c = public.COGVIEW
    sizes = (c.depth, c.vocab_size, c.width, c.heads)
    net = GPT2Model(
        *sizes, 0.0, 0.0, 0.0, c.max_positions, 0, False, parallel_output=False
    )
    modules.load(net, public.cogview_tensors())
    rng = np.random.default_rng(1)
    ids = rng.integers(c.vocab_size, size=(3, 12)).astype(np.int32)
    ids[1, 4] = 3  # The outlier.
    ids[2, 8:] = public.Vocab(24, 280).command("[PAD]")
    positions = np.tile(np.arange(12, dtype=np.int32), (3, 1))
    positions[0, 7:] -= 6  # As behind [ROI2].

    def logits(ids, positions):
        ids, positions = torch.tensor(ids).long(), torch.tensor(positions).long()
        return net(ids, positions, 0, None, None, 0)[0].numpy()

    inputs, greedy = {"ids": ids, "positions": positions}, ids
    for _ in range(16):
        best = logits(greedy, positions)[:, -1].argmax(-1)[:, None]
        greedy = np.concatenate([greedy, best.astype(np.int32)], axis=1)
        positions = np.concatenate([positions, positions[:, -1:] + 1], axis=1)
    outputs = {"logits": logits(**inputs), "greedy": greedy[:, -16:]}
    return inputs, outputs


# The name of each case, the folder of its public code, and what runs it.
_TAMING = "taming-transformers"
RECORD = {
    "openai-dvae": ("DALL-E", dvae),
    "clip": ("CLIP", clip_openai),
    "clip-hf": ("", clip_hugging_face),
    "t5": ("", functools.partial(t5, "t5")),
    "t5-v1": ("", functools.partial(t5, "t5-v1")),
    "cogview": ("CogView", cogview),
    "cogview-vqvae": ("CogView", cogview_vqvae),
    "vqgan": (_TAMING, functools.partial(vqgan, "nearest")),
    "vqgan-gumbel": (_TAMING, functools.partial(vqgan, "gumbel")),
    **record_dalle_mini.RECORD,
    **record_decoders.RECORD,
}


def main(clones, names):
    for name in names or RECORD:
        folder, run = RECORD[name]
        sys.path.insert(0, str(Path(clones) / folder))
        with torch.no_grad():
            inputs, outputs = run()
        data = pack(inputs, outputs)
        (public.CASES / f"{name}.npz").write_bytes(data)
        print(name, len(data), {k: float(np.std(x)) for k, x in outputs.items()})


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
