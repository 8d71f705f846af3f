"""The peers that see or draw pixels, with random weights."""

import torch
from programs import Run
from rows import UNETS
from torch_text import parameters, updates


def _layout(last: bool) -> torch.memory_format:
    return torch.channels_last if last else torch.contiguous_format


def vqmodel(nano: bool, part: str, last: bool) -> Run:
    """VQModel of diffusers at the sizes of VQGAN f8, without the nearest code."""
    from diffusers import VQModel

    torch.set_grad_enabled(False)
    channels = (8, 16, 16, 16) if nano else (128, 128, 256, 512)
    width, image = (8, 32) if nano else (256, 256)
    down, up = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    down[-1], up[0] = "AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D"
    model = VQModel(
        block_out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=2,
        latent_channels=width,
        vq_embed_dim=width,
        num_vq_embeddings=32 if nano else 8192,
        norm_num_groups=8 if nano else 32,
    )
    model = model.eval().to(memory_format=_layout(last))
    if part == "encode":
        x, do = torch.zeros(1, 3, image, image), model.encode
    else:
        x = torch.zeros(1, width, image // 8, image // 8)

        def do(vectors):
            return model.decode(vectors, force_not_quantize=True)

    x = x.contiguous(memory_format=_layout(last))
    return Run(lambda: do(x), 1, parameters(model))


def _unet(nano: bool):
    from diffusers import UNet2DConditionModel

    size = UNETS[nano]
    down = ["DownBlock2D"] * len(size.levels)
    up = ["UpBlock2D"] * len(size.levels)
    down[-1], up[0] = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    return UNet2DConditionModel(
        sample_size=size.image,
        in_channels=3,
        out_channels=3,
        block_out_channels=size.levels,
        layers_per_block=size.blocks,
        down_block_types=down,
        up_block_types=up,
        cross_attention_dim=size.text_dim,
        # Its name notwithstanding, the number of heads.
        attention_head_dim=size.levels[-1] // size.head,
        norm_num_groups=size.groups,
    )


def _inputs(nano: bool, rows: int, text: int, last: bool):
    """(noisy images, times, tokens of text)."""
    size = UNETS[nano]
    z = torch.randn(rows, 3, size.image, size.image)
    times = torch.full((rows,), 500)
    tokens = torch.randn(rows, text, size.text_dim)
    return z.contiguous(memory_format=_layout(last)), times, tokens


def unet_train(nano: bool, batch: int, last: bool) -> Run:
    """A step of training to predict the noise."""
    model = _unet(nano).to(memory_format=_layout(last))
    z, times, tokens = _inputs(nano, batch, UNETS[nano].train_text, last)
    noise = torch.randn_like(z)

    def loss():
        found = model(z, times, tokens).sample
        return torch.nn.functional.mse_loss(found, noise)

    return Run(updates(model, loss), batch, parameters(model))


def unet_denoise(nano: bool, batch: int, last: bool) -> Run:
    """One guided estimate, two rows an image."""
    model = _unet(nano).eval().to(memory_format=_layout(last))
    z, times, tokens = _inputs(nano, 2 * batch, UNETS[nano].text, last)
    torch.set_grad_enabled(False)

    def run() -> None:
        with_text, without = model(z, times, tokens).sample.chunk(2)
        without.lerp(with_text, 3.0)

    return Run(run, batch, parameters(model))
