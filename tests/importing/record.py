"""Writes the cases: public code with random weights, in float32 on the CPU.

    git clone https://github.com/openai/DALL-E      ... the others in docs/importing.md
    python -m tests.importing.record FOLDER_WITH_CLONES [NAME ...]

It needs torch and what the public code imports; the tests need neither.
"""

import functools
import sys
from pathlib import Path

import numpy as np
import torch

from cogjax.parity import pack
from tests.importing import public


def load(module, tensors):
    """The module with all of its tensors replaced."""
    module.load_state_dict({k: torch.tensor(x) for k, x in tensors.items()})
    return module.eval()


def channels_first(x):
    return torch.tensor(x).permute(0, 3, 1, 2).contiguous()


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()


def dvae():
    """OpenAI's encoder and decoder; their smallest sizes are not checked."""
    import attr

    attr.validators.set_disabled(True)
    from dall_e.decoder import Decoder
    from dall_e.encoder import Encoder
    from dall_e.utils import logit_laplace_eps, map_pixels

    config, tensors = public.DVAE, public.dvae_tensors()
    size = config.codebook_size
    encoder = load(
        Encoder(n_hid=config.width, vocab_size=size), public.part(tensors, "encoder.")
    )
    decoder = load(
        Decoder(n_init=config.code_dim, n_hid=config.width, vocab_size=size),
        public.part(tensors, "decoder."),
    )
    pixels = np.random.default_rng(1).uniform(size=(2, 16, 24, 3)).astype(np.float32)
    logits = encoder(map_pixels(channels_first(pixels)))
    codes = logits.argmax(1)
    one_hot = torch.nn.functional.one_hot(codes, size).permute(0, 3, 1, 2).float()
    drawn = torch.sigmoid(decoder(one_hot)[:, :3])
    # As unmap_pixels, which clips in addition.
    drawn = (drawn - logit_laplace_eps) / (1 - 2 * logit_laplace_eps)
    codes = codes.numpy().astype(np.int32)
    return {"pixels": pixels, "codes": codes}, {
        "features": channels_last(logits),
        "codes": codes,
        "pixels": channels_last(drawn),
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
    load(net, public.vqgan_tensors(form))
    pixels = np.random.default_rng(1).uniform(size=(2, 24, 32, 3)).astype(np.float32)
    z = net.quant_conv(net.encoder(2 * channels_first(pixels) - 1))
    codes = net.quantize.proj(z).argmax(1) if gumbel else net.quantize(z)[2][2]
    table = net.quantize.embed if gumbel else net.quantize.embedding
    quantized = table(codes).permute(0, 3, 1, 2)
    drawn = net.decoder(net.post_quant_conv(quantized))
    drawn = (drawn + 1) / 2
    codes = codes.numpy().astype(np.int32)
    outputs = {"features": channels_last(z), "codes": codes}
    outputs["pixels"] = channels_last(drawn)
    return {"pixels": pixels, "codes": codes}, outputs


# The name of each case, the folder of its public code, and what runs it.
_TAMING = "taming-transformers"
RECORD = {
    "openai-dvae": ("DALL-E", dvae),
    "vqgan": (_TAMING, functools.partial(vqgan, "nearest")),
    "vqgan-gumbel": (_TAMING, functools.partial(vqgan, "gumbel")),
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
