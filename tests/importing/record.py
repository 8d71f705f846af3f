"""Writes the cases: public code with random weights, in float32 on the CPU.

    git clone https://github.com/openai/DALL-E      ... the others in docs/importing.md
    python -m tests.importing.record FOLDER_WITH_CLONES [NAME ...]

It needs torch and what the public code imports; the tests need neither.
"""

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
    from dall_e.utils import map_pixels, unmap_pixels

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
    drawn = unmap_pixels(torch.sigmoid(decoder(one_hot)[:, :3]))
    codes = codes.numpy().astype(np.int32)
    return {"pixels": pixels, "codes": codes}, {
        "features": channels_last(logits),
        "codes": codes,
        "pixels": channels_last(drawn),
    }


# The name of each case, the folder of its public code, and what runs it.
RECORD = {"openai-dvae": ("DALL-E", dvae)}


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
