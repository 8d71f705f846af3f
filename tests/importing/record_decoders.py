"""Runs the public code of the decoders; see `record.py`.

    python -m tests.importing.record_decoders FOLDER_WITH_CLONES FAMILY

writes the names and shapes of the tensors of all released sizes.
"""

import functools
import json
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import omegaconf
import torch

from cogjax.data.t5_text import T5Text
from cogjax.interop import vqgan
from tests.importing import decoders, modules, texts

GREEDY = 16


def greedy_after(logits, arrays):
    """arrays["ids"] and what follows, each from a pass over all before it."""
    arrays = dict(arrays)
    for _ in range(GREEDY):
        best = logits(arrays)[:, -1].argmax(-1)[:, None].astype(np.int32)
        arrays["ids"] = np.concatenate([arrays["ids"], best], axis=1)
        after = arrays["positions"][:, -1:] + 1
        arrays["positions"] = np.concatenate([arrays["positions"], after], axis=1)
        if "mask" in arrays:
            seen = np.ones((len(best), 1), bool)
            arrays["mask"] = np.concatenate([arrays["mask"], seen], axis=1)
    return arrays["ids"][:, -GREEDY:]


def _vq():
    from tokenizer.tokenizer_image import vq_model

    c = decoders.VQ
    settings = {"codebook_size": c.codebook_size, "codebook_embed_dim": c.code_dim}
    mult = {f"{half}_ch_mult": list(c.multipliers) for half in ("encoder", "decoder")}
    args = vq_model.ModelArgs(codebook_show_usage=False, **settings, **mult)
    # The release has no setting for the width, 128.
    net = vq_model.VQModel(args)
    sizes = {"ch": c.width, "ch_mult": c.multipliers, "z_channels": c.z_dim}
    net.encoder = vq_model.Encoder(**sizes)
    net.decoder = vq_model.Decoder(**sizes)
    return modules.load(net, decoders.vq_tensors())


def llamagen_vq():
    """Codes and images of another form than trained; features before the length."""
    net = _vq()
    pixels = np.random.default_rng(1).uniform(size=(2, 16, 24, 3)).astype(np.float32)
    x = 2 * modules.channels_first(pixels) - 1
    z = net.quant_conv(net.encoder(x))
    codes = net.encode(x)[2][2].reshape(2, 4, 6)
    drawn = net.decode_code(codes.reshape(-1), (2, 8, 4, 6))
    codes = codes.numpy().astype(np.int32)
    return {"pixels": pixels, "codes": codes}, {
        "features": modules.channels_last(z),
        "codes": codes,
        "pixels": modules.channels_last((drawn + 1) / 2),
    }


def _gpt(config):
    from autoregressive.models import gpt

    captions = {"caption_dim": config.caption_dim} if config.caption_dim else {}
    net = gpt.Transformer(
        gpt.ModelArgs(
            dim=config.width,
            n_layer=config.depth,
            n_head=config.heads,
            vocab_size=config.outputs,
            block_size=config.grid**2,
            cls_token_num=config.table_positions,
            num_classes=10,
            model_type="t2i" if captions else "c2i",
            **captions,
        )
    )
    if captions:
        # The release's are 120 in all sizes.
        sizes = config.caption_dim, config.width, 0.1, config.table_positions
        net.cls_embedding = gpt.CaptionEmbedder(*sizes)
    return modules.load(net, decoders.gpt_tensors(config))


def _mask(visible, length):
    """As the release's `generate` makes it: bool [b, 1, t, t]."""
    seen = np.ones((len(visible), length), bool)
    seen[:, : visible.shape[1]] = visible
    mask = np.tri(length, dtype=bool) & seen[:, None]
    return torch.tensor(mask | np.eye(length, dtype=bool))[:, None]


def llamagen_c2i():
    """A class, no class, and codes."""
    net, c = _gpt(decoders.C2I), decoders.C2I
    ids = np.random.default_rng(1).integers(24, size=(3, 9)).astype(np.int32)
    ids[:, 0] = 24 + np.array([3, 10, 0])
    positions = np.tile(np.arange(9, dtype=np.int32), (3, 1))

    def logits(arrays):
        ids = torch.tensor(arrays["ids"]).long()
        at = torch.tensor(arrays["positions"][0]).long()
        return net(ids[:, 1:], ids[:, 0] - c.outputs, input_pos=at)[0].numpy()

    inputs = {"ids": ids, "positions": positions}
    outputs = {"logits": logits(inputs), "greedy": greedy_after(logits, inputs)}
    return inputs, outputs


def llamagen_t2i():
    """Captions of three lengths, padded on the left."""
    net, c = _gpt(decoders.T2I), decoders.T2I
    rng, length = np.random.default_rng(1), c.table_positions
    vectors = rng.normal(size=(3, length, c.caption_dim)).astype(np.float32)
    counts = np.array([[length], [3], [1]])
    mask = np.ones((3, length + 4), bool)
    mask[:, :length] = np.arange(length) >= length - counts
    vectors *= mask[:, :length, None]
    ids = rng.integers(24, size=(3, 4)).astype(np.int32)
    positions = np.tile(np.arange(length + 4, dtype=np.int32), (3, 1))

    def logits(arrays):
        ids = torch.tensor(arrays["ids"]).long()
        at = torch.tensor(arrays["positions"][0]).long()
        seen = _mask(arrays["mask"], len(at))
        given = torch.tensor(arrays["vectors"])
        return net(ids, given, input_pos=at, mask=seen)[0].numpy()

    inputs = {"vectors": vectors, "ids": ids, "positions": positions, "mask": mask}
    outputs = {"logits": logits(inputs), "greedy": greedy_after(logits, inputs)}
    return inputs, outputs


def llamagen_drawn():
    """What the release's `generate` draws, by its caches, with guidance."""
    from autoregressive.models.generate import generate

    settings = {"cfg_scale": 4.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    settings["sample_logits"] = False
    classes = torch.tensor([3, 0])
    c2i = generate(_gpt(decoders.C2I), classes, 25, **settings)
    features, mask = _t5_features()
    t2i = generate(_gpt(decoders.T2I), features, 25, mask, **settings)
    pixels = _vq().decode_code(c2i.reshape(-1), (2, 8, 5, 5))
    inputs = {"classes": classes.numpy()}
    return inputs, {
        "c2i": c2i.numpy().astype(np.int32),
        "t2i": t2i.numpy().astype(np.int32),
        "pixels": modules.channels_last((pixels + 1) / 2),
    }


def _t5_features():
    """Features of `decoders.TEXTS`, padded on the left as sample_t2i.py does."""
    from tests.importing.record import t5_module

    net = t5_module("t5")
    words = T5Text(texts.words())
    ids = [words.encode(text, decoders.T2I.table_positions) for text in decoders.TEXTS]
    length = decoders.T2I.table_positions
    found, mask = torch.zeros(len(ids), length, texts.T5S["t5"].width), []
    for row, each in zip(found, ids, strict=True):
        row[length - len(each) :] = net(torch.tensor([each])).last_hidden_state[0]
        mask.append([False] * (length - len(each)) + [True] * len(each))
    return found, torch.tensor(mask).float()


def _mindalle():
    """(VQGAN, GPT)."""
    _bare("dalle", "dalle.models", "dalle.utils")
    from dalle.models.stage1.vqgan import VQGAN
    from dalle.models.stage2.transformer import Transformer1d

    c, sizes = decoders.STAGE2, decoders.STAGE1
    stage1 = {"ch": sizes.width, "ch_mult": sizes.multipliers, "double_z": False}
    stage1 |= {"num_res_blocks": sizes.res_blocks, "out_ch": 3, "in_channels": 3}
    stage1 |= {"attn_resolutions": sizes.attention, "resolution": sizes.image_size}
    stage1 |= {"z_channels": sizes.z_dim, "pdrop": 0.0}
    hparams = omegaconf.OmegaConf.create(stage1)
    num_text = c.sequence.segments[0].length
    stage2 = {"embed_dim": c.width, "n_layers": c.depth, "n_dense_layers": c.depth}
    stage2 |= {"n_heads": c.heads, "ctx_len_txt": num_text, "ctx_len_img": 16}
    stage2 |= dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.0)
    stage2 |= {"mlp_bias": True, "attn_bias": True, "gelu_use_approx": False}
    gpt = Transformer1d(60, 24, omegaconf.OmegaConf.create(stage2))
    vae = VQGAN(sizes.codebook_size, sizes.code_dim, hparams)
    tensors = texts.seeded(list(vqgan.rules_of(sizes)))
    return modules.load(vae, tensors), modules.load(gpt, decoders.stage2_tensors())


def mindalle():
    """Both heads at all positions: text with padding, and codes."""
    net = _mindalle()[1]
    ids = np.random.default_rng(1).integers(60, size=(3, 14)).astype(np.int32)
    ids[1, 3:6] = 59
    ids[:, 6:] %= 24
    words, codes = torch.tensor(ids[:, :6]).long(), torch.tensor(ids[:, 6:]).long()
    x = torch.cat([net.tok_emb_txt(words), net.tok_emb_img(codes)], dim=1)
    places = torch.cat([net.pos_emb_txt.weight, net.pos_emb_img.weight])[:14]
    x = net.ln_f(net.blocks(x + places))
    logits = torch.cat([net.head_img(x), net.head_txt(x)], dim=-1)
    at = [torch.arange(n)[None].repeat(3, 1) for n in (8, 6)]
    of_codes, of_words = net(codes, words, *at)
    assert torch.equal(logits[:, 5:-1, :24], of_codes)
    assert torch.equal(logits[:, :5, 24:], of_words)
    ids[:, :6] += 24
    positions = np.tile(np.arange(14, dtype=np.int32), (3, 1))
    return {"ids": ids, "positions": positions}, {"logits": logits.numpy()}


def mindalle_drawn():
    """What its loop draws of texts, by its caches, and their ids."""
    vae, net = _mindalle()
    from dalle.models.tokenizer import build_tokenizer
    from dalle.utils.sampling import sampling

    with tempfile.TemporaryDirectory() as folder:
        decoders.write_charbpe(Path(folder))
        words = build_tokenizer(folder, 6, lowercase=True, dropout=None)
    ids = np.array([words.encode(text).ids for text in decoders.WORDS], np.int32)
    tokens = torch.tensor(ids).long()
    settings = {"top_k": 1, "is_tqdm": False, "use_fp16": False, "max_seq_len": 16}
    codes = sampling(net, tokens, **settings)
    pixels = modules.channels_last(vae.decode_code(codes.reshape(-1, 4, 4)) * 0.5 + 0.5)
    return {"ids": ids}, {"codes": codes.numpy().astype(np.int32), "pixels": pixels}


def _bare(*names):
    """Packages without what their __init__ imports."""
    for name in names:
        package = types.ModuleType(name)
        folders = (Path(each) / name.replace(".", "/") for each in sys.path)
        package.__path__ = [str(each) for each in folders if each.is_dir()]
        sys.modules[name] = package


def _rudalle(version):
    _bare("rudalle", "rudalle.dalle")
    from rudalle.dalle.model import DalleModel

    c = decoders.RUDALLE
    sizes = {"vocab_size": 40, "image_vocab_size": 24, "image_tokens_per_dim": c.grid}
    sizes |= {"num_layers": c.depth, "hidden_size": c.width}
    sizes |= {"num_attention_heads": c.heads, "text_seq_length": 6}
    drops = ("embedding", "attention", "output")
    sizes |= {f"{name}_dropout_prob": 0.0 for name in drops}
    sizes |= {"cogview_sandwich_layernorm": True, "cogview_pb_relax": True}
    net = DalleModel("cpu", **sizes, hf_version=version)
    tensors = decoders.rudalle_tensors()
    masks = {k: x.numpy() for k, x in net.state_dict().items() if k.endswith("_mask")}
    return modules.load(net, tensors | masks)


def _padded(ids):
    """What its `forward` makes of zeros, in our order of ids."""
    own = np.where(ids == 0, 40 - 6 + np.arange(6), ids)
    return (24 + own).astype(np.int32)


def rudalle(version):
    """Two texts with paddings, all codes but the last; greedy is of codes."""
    net, rng = _rudalle(version), np.random.default_rng(1)
    words = rng.integers(4, 20, size=(2, 6))
    words[:, 0], words[1, 4:] = 2, 0
    codes = rng.integers(24, size=(2, 60))
    mask = torch.ones(1, 1, 150, 150).tril()

    def logits(codes):
        ids = torch.tensor(np.concatenate([words, codes], axis=1)).long()
        return net(ids, mask)[0].numpy()

    ids = np.concatenate([_padded(words), codes.astype(np.int32)], axis=1)
    positions = np.concatenate([np.arange(6), 7 + np.arange(60)])
    if version == "v2":
        ids = np.concatenate([np.full((2, 1), 24 + 2, np.int32), ids], axis=1)
        positions = np.arange(67)
    found = logits(codes)
    # Theirs has texts first.
    found = np.roll(found, -40, axis=-1)
    positions = np.tile(positions.astype(np.int32), (2, 1))
    return {"ids": ids, "positions": positions}, {"logits": found}


def rudalle_drawn():
    """The likeliest codes of its loop, by its caches, of `decoders.RUSSIAN`."""
    found = {}
    for version in ("v2", "v3"):
        net = _rudalle(version)
        out = torch.tensor(decoders.RUSSIAN_IDS).long()
        mask, cache = torch.ones(len(out), 1, 150, 150).tril(), None
        for _ in range(144):
            logits, cache = net(out, mask, use_cache=True, cache=cache)
            best = logits[:, -1, 40:].argmax(-1)[:, None]
            out = torch.cat([out, best], dim=-1)
        found[version] = out[:, 6:].numpy().astype(np.int32)
    return {"ids": np.array(decoders.RUSSIAN_IDS, np.int32)}, found


# The name of each case, the folder of its public code, and what runs it.
RECORD = {
    "llamagen-vq": ("LlamaGen", llamagen_vq),
    "llamagen-c2i": ("LlamaGen", llamagen_c2i),
    "llamagen-t2i": ("LlamaGen", llamagen_t2i),
    "llamagen-drawn": ("LlamaGen", llamagen_drawn),
    "mindalle": ("minDALL-E", mindalle),
    "mindalle-drawn": ("minDALL-E", mindalle_drawn),
    "rudalle-v2": ("ru-dalle", functools.partial(rudalle, "v2")),
    "rudalle-v3": ("ru-dalle", functools.partial(rudalle, "v3")),
    "rudalle-drawn": ("ru-dalle", rudalle_drawn),
}


def llamagen_shapes():
    """(name of a file, modules) of the released sizes."""
    from autoregressive.models.gpt import GPT_models
    from tokenizer.tokenizer_image.vq_model import VQ_models

    # Numbers of its sizes are taken out of a tensor, which those without values lack.
    torch.linspace = functools.partial(torch.linspace, device="cpu")
    for size in ("B", "L", "XL", "XXL"):
        yield f"c2i-{size}", GPT_models[f"GPT-{size}"](block_size=576)
    texts = {"model_type": "t2i", "cls_token_num": 120, "block_size": 1024}
    yield "t2i-XL", GPT_models["GPT-XL"](**texts)
    for size in ("16", "8"):
        yield f"vq-{size}", VQ_models[f"VQ-{size}"]()


def mindalle_shapes():
    """The GPT of 1.3B; its VQGAN is taming's f16."""
    _mindalle()
    from dalle.models.stage2.transformer import Transformer1d

    sizes = {"embed_dim": 1536, "n_layers": 42, "n_dense_layers": 42, "n_heads": 24}
    sizes |= {"ctx_len_txt": 64, "ctx_len_img": 256, "gelu_use_approx": False}
    sizes |= dict.fromkeys(("embd_pdrop", "resid_pdrop", "attn_pdrop"), 0.0)
    sizes |= {"mlp_bias": True, "attn_bias": True}
    hparams = omegaconf.OmegaConf.create(sizes)
    yield "stage2", Transformer1d(16384, 16384, hparams)


def rudalle_shapes():
    """Malevich, of 1.3B; its masks are no weights."""
    _bare("rudalle", "rudalle.dalle")
    from rudalle.dalle import image_attention

    for name in ("row", "col", "conv"):
        setattr(image_attention, f"get_{name}_mask", lambda *_, **__: torch.zeros(1))
    from rudalle.dalle.model import DalleModel

    sizes = {"vocab_size": 16512, "image_vocab_size": 8192, "num_layers": 24}
    sizes |= {"hidden_size": 2048, "num_attention_heads": 16}
    drops = ("embedding", "attention", "output")
    sizes |= {f"{name}_dropout_prob": 0.0 for name in drops}
    yield "malevich", DalleModel("meta", **sizes, cogview_sandwich_layernorm=True)


SHAPES = {
    "rudalle": ("ru-dalle", rudalle_shapes),
    "llamagen": ("LlamaGen", llamagen_shapes),
    "mindalle": ("minDALL-E", mindalle_shapes),
}


def write_shapes(clones, family):
    """Names and shapes of the public code's tensors, those of one layer for all."""
    folder, make = SHAPES[family]
    sys.path.insert(0, str(Path(clones) / folder))
    found = {}
    with torch.device("meta"):
        for name, module in make():
            state = module.state_dict()
            found[name] = decoders.folded({k: list(x.shape) for k, x in state.items()})
    path = decoders.SHAPES / f"{family}.json"
    path.write_text(json.dumps(found, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    write_shapes(sys.argv[1], sys.argv[2])
