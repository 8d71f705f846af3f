"""min-dalle's files at the real size of mini, random weights, and its outputs.

python -m tests.importing.real_size_dalle_mini FOLDER       with PyPI's min-dalle
cogjax import FOLDER/files --out FOLDER/model
cogjax parity FOLDER/model --case FOLDER/transformer.npz --component transformer
cogjax parity FOLDER/model --case FOLDER/tokenizer.npz --component tokenizer
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from min_dalle.models import DalleBartDecoder, DalleBartEncoder, VQGanDetokenizer

from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from cogjax.models.vqgan import VQGANConfig
from cogjax.parity import pack
from tests.importing import dalle_mini as public

CONFIG = EncoderDecoderConfig(start=2**14 - 1)


def transformer(folder: Path) -> bytes:
    """Writes both halves; a case of two texts, of which one is mostly padding."""
    c, tensors, rng = CONFIG, public.tensors(CONFIG), np.random.default_rng(0)
    # Logits of a standard deviation of about 1.
    head = rng.normal(0, c.width**-0.5, (c.vocab_size, c.width))
    tensors["decoder.lm_head.weight"] = head.astype(np.float32)
    sizes = {"layer_count": c.depth, "embed_count": c.width, "device": "cpu"}
    sizes |= {"attention_head_count": c.heads, "glu_embed_count": c.mlp_dim}
    encoder = DalleBartEncoder(
        **sizes, text_vocab_count=c.text_vocab_size, text_token_count=c.text_len
    )
    decoder = DalleBartDecoder(**sizes, image_vocab_count=c.vocab_size - 1)
    for net, name in ((encoder, "encoder"), (decoder, "decoder")):
        own = {k: x for k, x in tensors.items() if k.startswith(name)}
        own = {k.removeprefix(f"{name}."): torch.tensor(x) for k, x in own.items()}
        net.load_state_dict(own, strict=False)
        torch.save(own, folder / f"{name}.pt")
    ids = rng.integers(2, c.text_vocab_size, size=(2, c.text_len))
    ids[0, 5:] = 1
    codes = rng.integers(c.vocab_size, size=(1, 23))
    inputs = torch.tensor(np.insert(codes, 0, c.start, axis=1))
    logits, _ = decoder.eval()(
        attention_mask=torch.tensor(ids).not_equal(1)[:, None, None],
        encoder_state=encoder.eval()(torch.tensor(ids)),
        attention_state=torch.zeros(c.depth, 4, c.image_len, c.width),
        prev_tokens=inputs,
        token_index=torch.arange(inputs.shape[1]),
    )
    arrays = {"ids": ids.astype(np.int32), "mask": ids != 1}
    arrays["codes"] = codes.repeat(2, axis=0).astype(np.int32)
    return pack(arrays, {"logits": logits.numpy()})


def tokenizer(folder: Path) -> bytes:
    """Writes the decoder of images; a case of one image of 256 px, not clipped."""
    config = VQGANConfig(encodes=False)
    net, own = VQGanDetokenizer().eval(), public.detoker_tensors(config)
    own = {k: torch.tensor(x) for k, x in own.items()}
    net.load_state_dict(own)
    torch.save(own, folder / "detoker.pt")
    codes = np.random.default_rng(0).integers(config.codebook_size, size=(1, 16, 16))
    z = net.embedding(torch.tensor(codes)).permute(0, 3, 1, 2)
    pixels = net.decoder(net.post_quant_conv(z)).permute(0, 2, 3, 1).numpy()
    return pack({"codes": codes.astype(np.int32)}, {"pixels": pixels})


def main(folder: str) -> None:
    files = Path(folder) / "files"
    files.mkdir(parents=True)
    (files / "vocab.json").write_text(json.dumps(public.VOCAB))
    merges = "\n".join(["#version: 0.2", *public.MERGES, ""])
    (files / "merges.txt").write_text(merges)
    with torch.no_grad():
        for make in (transformer, tokenizer):
            (Path(folder) / f"{make.__name__}.npz").write_bytes(make(files))


if __name__ == "__main__":
    main(*sys.argv[1:])
