"""Outputs of borisdayma/dalle-mini, vqgan-jax and PyPI's min-dalle, for `record.py`.

    python -m tests.importing.record_dalle_mini FOLDER_WITH_CLONES

writes what is no case of a network: cleaned and cut texts, and guided codes. dalle-mini
runs on a newer JAX than it was written for; it needs transformers 4.26 with Flax.
"""

import inspect
import json
import math
import sys
import types
from pathlib import Path

import numpy as np

from tests.importing import dalle_mini as public

TEXTS = (
    "a red cat",
    "  An   Avocado-armchair, in the style of Monet's...  ",
    "I can't; they've 1,234,567 cats (12%) & 3.5 dogs on 3/4 -- http://x.y/z now",
    "#redcar #catsofday it's #2022art",
    "“Café” naïve — 10°C, ½ cup, £5 straße",
    "soooooo cooool!!!! VIII aaaa 11111",
    "<person> and <person>, <person> with a <b>hat</b> [1]",
    "state-of-the-art; u.s.a. e.g. and/or $5 *** \\ _x_ `y` ~z",
    "[12] a cat &amp;amp; a dog",
    "a 🍎 and a 🐱 in 2022",
    "",
)
_START = public.VQGAN.codebook_size - 1


def dalle_mini():
    """The Flax network; rows with padding, special ids among the codes."""
    modeling = _modeling()
    config = modeling.DalleBartConfig(**public.SETTINGS, gradient_checkpointing=False)
    net = modeling.FlaxBartForConditionalGenerationModule(config)
    import jax
    from flax.traverse_util import unflatten_dict

    params = {"params": unflatten_dict(public.flax_tree())}
    rng = np.random.default_rng(1)
    c = public.CONFIG
    ids = rng.integers(c.text_vocab_size, size=(2, c.text_len)).astype(np.int32)
    mask = np.arange(c.text_len) < np.array([[c.text_len], [5]])
    codes = rng.integers(c.vocab_size, size=(2, 31)).astype(np.int32)

    def run(codes):
        inputs = np.concatenate([np.full((2, 1), c.start, np.int32), codes], 1)
        places = np.broadcast_to(np.arange(inputs.shape[1]), inputs.shape)
        text = np.broadcast_to(np.arange(c.text_len), ids.shape)
        seen = np.ones_like(inputs)
        return apply(params, ids, mask, inputs, seen, text, places)

    apply = jax.jit(net.apply)
    greedy = np.zeros_like(codes)
    for i in range(16):
        # No code sees those behind it.
        greedy[:, i] = np.asarray(run(greedy).logits)[:, i].argmax(-1)
    greedy, found = greedy[:, :16], run(codes)
    features = np.where(mask[..., None], found.encoder_last_hidden_state, 0)
    outputs = {"features": features, "logits": np.asarray(found.logits)}
    outputs["greedy"] = greedy
    return {"ids": ids, "mask": mask, "codes": codes}, outputs


def _modeling():
    """dalle-mini's network without what downloads, under a JAX that has other names."""
    import jax

    jax.numpy.DeviceArray = jax.Array
    for name in ("dalle_mini", "dalle_mini.model"):
        module = types.ModuleType(name)
        folders = (Path(x, *name.split(".")) for x in sys.path)
        module.__path__ = [str(x) for x in folders if x.is_dir()]
        sys.modules[name] = module
    sys.modules["wandb"] = types.ModuleType("wandb")
    from dalle_mini.model import modeling

    return modeling


def min_dalle():
    """PyPI's network: two texts, of which one has padding, and the same codes."""
    import torch

    c, rng = public.CONFIG, np.random.default_rng(2)
    encoder, decoder = _networks()
    ids = rng.integers(2, c.text_vocab_size, size=(2, c.text_len)).astype(np.int32)
    ids[0, 2:] = 1
    mask = ids != 1
    codes = rng.integers(c.vocab_size, size=(1, 31)).astype(np.int32)
    states = encoder(torch.tensor(ids).long())
    kept = {
        "attention_mask": torch.tensor(mask)[:, None, None],
        "encoder_state": states,
    }

    def run(codes):
        inputs = torch.tensor(np.insert(codes, 0, _START, axis=1)).long()
        kept["attention_state"] = torch.zeros(c.depth, 4, c.image_len, c.width)
        index = torch.arange(inputs.shape[1])
        return decoder(prev_tokens=inputs, token_index=index, **kept)[0].numpy()

    def best(row):
        found = np.zeros((1, 0), int)
        for _ in range(16):
            found = np.append(found, run(found)[row, -1:].argmax(-1)[None], axis=1)
        return found[0]

    features = np.where(mask[..., None], states.numpy(), 0)
    greedy = np.stack([best(0), best(1)]).astype(np.int32)
    inputs = {"ids": ids, "mask": mask, "codes": codes.repeat(2, axis=0)}
    return inputs, {"features": features, "logits": run(codes), "greedy": greedy}


def _networks():
    from min_dalle.models import DalleBartDecoder, DalleBartEncoder

    from tests.importing import modules

    c = public.CONFIG
    sizes = {"layer_count": c.depth, "embed_count": c.width, "device": "cpu"}
    sizes |= {"attention_head_count": c.heads, "glu_embed_count": c.mlp_dim}
    encoder = DalleBartEncoder(
        **sizes, text_vocab_count=c.text_vocab_size, text_token_count=c.text_len
    )
    decoder = DalleBartDecoder(**sizes, image_vocab_count=c.vocab_size - 1)
    return tuple(
        modules.load(net, public.half(name))
        for net, name in ((encoder, "encoder"), (decoder, "decoder"))
    )


def guided(text="a red cat", scale=16):
    """min-dalle's likeliest codes of a text, sampled with its cache."""
    import torch
    from min_dalle.text_tokenizer import TextTokenizer

    c, (encoder, decoder) = public.CONFIG, _networks()
    tokens = TextTokenizer(public.VOCAB, public.MERGES).tokenize(text)
    ids = np.ones((2, c.text_len), int)
    ids[0, :2], ids[1, : len(tokens)] = (tokens[0], tokens[-1]), tokens
    ids = torch.tensor(ids)
    state = torch.zeros(c.depth, 4, c.image_len, c.width)
    codes = torch.full((1, c.image_len + 1), _START)
    for i in range(c.image_len):
        codes[:, i + 1], state = decoder.sample_tokens(
            torch.tensor([1.0, 1, scale]),
            attention_mask=ids.not_equal(1)[:, None, None],
            encoder_state=encoder(ids),
            attention_state=state,
            prev_tokens=codes[:, [i]],
            token_index=torch.tensor([i]),
        )
    images = _detoker()(codes[:, 1:].reshape(1, 16, 16))
    pixels = np.round(images.clip(0, 1).numpy() * 255).astype(np.uint8)
    return {"codes": codes[:, 1:].numpy().astype(np.int32), "pixels": pixels}


def detoker():
    """min-dalle's decoder, whose images are squares."""
    import torch

    codes = np.random.default_rng(1).integers(24, size=(2, 4, 4)).astype(np.int32)
    return {"codes": codes}, {"pixels": _detoker()(torch.tensor(codes)).numpy()}


def _detoker():
    """Codes [b, y, x] -> pixels [b, y, x, 3]: its parts, put together smaller.

    The number of channels of its attention is written into it, 2^9.
    """
    import torch
    from min_dalle.models import vqgan_detokenizer

    from tests.importing import modules

    module, c = types.ModuleType("smaller"), public.VQGAN
    code = inspect.getsource(vqgan_detokenizer).replace("2 ** 9", "2 ** 6")
    exec(code, module.__dict__)
    top = int(math.log2(c.widths[-1]))
    middle = torch.nn.Module()
    middle.block_1, middle.block_2 = (module.ResnetBlock(top, top) for _ in range(2))
    middle.attn_1 = module.AttentionBlock()
    middle.forward = lambda h: middle.block_2(middle.attn_1(middle.block_1(h)))
    net, half = torch.nn.Module(), torch.nn.Module()
    net.embedding = torch.nn.Embedding(c.codebook_size, c.code_dim)
    net.post_quant_conv = torch.nn.Conv2d(c.code_dim, c.z_dim, 1)
    half.conv_in = torch.nn.Conv2d(c.z_dim, c.widths[-1], 3, padding=1)
    half.mid = middle
    levels = ((top, top - 1, False, False), (top, top, True, True))
    half.up = torch.nn.ModuleList(module.UpsampleBlock(*level) for level in levels)
    half.norm_out = torch.nn.GroupNorm(32, c.width)
    half.conv_out = torch.nn.Conv2d(c.width, 3, 3, padding=1)
    net.decoder = half
    modules.load(net, public.detoker_tensors())

    def draw(codes):
        z = net.embedding(codes.long()).permute(0, 3, 1, 2)
        h = half.mid(half.conv_in(net.post_quant_conv(z)))
        for block in reversed(half.up):
            h = block(h)
        h = half.norm_out(h)
        return half.conv_out(h * torch.sigmoid(h)).permute(0, 2, 3, 1)

    return draw


def vqgan_jax():
    """Suraj Patil's network, pixels in [0, 1] as dalle-mini's notebooks give them."""
    from flax.traverse_util import unflatten_dict
    from vqgan_jax.configuration_vqgan import VQGANConfig
    from vqgan_jax.modeling_flax_vqgan import VQModule

    c = public.VQGAN
    config = VQGANConfig(
        ch=c.width,
        num_res_blocks=c.res_blocks,
        resolution=c.image_size,
        z_channels=c.z_dim,
        ch_mult=c.multipliers,
        attn_resolutions=c.attention,
        n_embed=c.codebook_size,
        embed_dim=c.code_dim,
    )
    net, params = VQModule(config), {"params": unflatten_dict(public.vqgan_tree())}
    pixels = np.random.default_rng(1).uniform(size=(2, 16, 24, 3)).astype(np.float32)

    def features(module, x):
        return module.quant_conv(module.encoder(x))

    z = net.apply(params, pixels, method=features)
    codes = np.asarray(net.apply(params, pixels, method="encode")[1])
    codes = codes.reshape(z.shape[:3]).astype(np.int32)
    table = params["params"]["quantize"]["embedding"]["embedding"]
    drawn = net.apply(params, table[codes], method="decode")
    outputs = {"features": np.asarray(z), "codes": codes, "pixels": np.asarray(drawn)}
    return {"pixels": pixels, "codes": codes}, outputs


RECORD = {
    "dalle-mini": ("dalle-mini/src", dalle_mini),
    "dalle-mini-torch": ("", min_dalle),
    "vqgan-jax": ("vqgan-jax", vqgan_jax),
    "vqgan-detoker": ("", detoker),
}


def texts():
    """How dalle-mini cleans texts, and how both releases cut them."""
    import huggingface_hub
    from min_dalle.text_tokenizer import TextTokenizer
    from tokenizers import Tokenizer, models, pre_tokenizers

    path = public.CASES / "words.txt"
    path.write_text("\n".join(public.WORDS))
    huggingface_hub.hf_hub_download = lambda *_, **__: path
    _modeling()
    from dalle_mini.model.text import TextNormalizer

    clean = TextNormalizer()
    path.unlink()
    merges = [tuple(merge.split()) for merge in public.MERGES]
    bart = Tokenizer(models.BPE(public.VOCAB, merges))
    bart.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words = TextTokenizer(public.VOCAB, public.MERGES)
    return [
        {
            "text": text,
            "normalized": clean(text),
            "plain": bart.encode(text).ids,
            "bart": bart.encode(clean(text)).ids,
            "min_dalle": words.tokenize(text)[1:-1],
        }
        for text in TEXTS
    ]


def main(clones):
    import torch

    sys.path.insert(0, str(Path(clones) / "dalle-mini" / "src"))
    with torch.no_grad():
        np.savez_compressed(public.CASES / "dalle-mini-guided.npz", **guided())
    found = json.dumps(texts(), indent=1, ensure_ascii=False)
    (public.CASES / "dalle-mini-texts.json").write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
