"""Writes the gradients of public code, of one batch without dropout.

    python -m tests.importing.record_gradients FOLDER_WITH_CLONES [NAME ...]

Where a family has published no loss, as minDALL-E, it is that of `stages/released.py`,
computed here from the public network's logits; so is ru-dalle's in v3, whose `forward`
takes the first code for a piece of text.
"""

import functools
import sys
from pathlib import Path

import numpy as np

from tests.importing import dalle_mini, decoders, training


def _torch(loss, net):
    """(loss, gradients by name) of a module."""
    loss.backward()
    named = net.named_parameters()
    return loss, {name: x.grad.numpy() for name, x in named if x.grad is not None}


def _tensors(name):
    """(pieces with their padding, codes) as the public code takes them."""
    import torch

    ids = training.LAYOUTS[name].prompts(training.PIECES[name]).ids - 24
    return torch.tensor(ids).long(), torch.tensor(training.codes(name)).long()


def mindalle():
    """7/8 of the loss is that of codes."""
    import torch
    from torch.nn.functional import cross_entropy

    from tests.importing.record_decoders import _mindalle

    net, (words, codes) = _mindalle()[1], _tensors("mindalle")
    at = [torch.arange(n)[None].repeat(2, 1) for n in (16, 6)]
    of_codes, of_words = net(codes, words, *at)
    loss = cross_entropy(of_words.transpose(1, 2), words[:, 1:]) / 8
    loss = loss + cross_entropy(of_codes.transpose(1, 2), codes) * 7 / 8
    return _torch(loss, net)


def rudalle(version):
    """The loss of its `forward`, but for the first code in v3."""
    import torch
    from torch.nn.functional import cross_entropy

    from tests.importing.record_decoders import _rudalle

    net, (words, codes) = _rudalle(version), _tensors(f"rudalle-{version}")
    # Its own padding is 0, and v2 puts the start in front.
    words = torch.where(words >= 40 - 6, 0, words)[:, -6:]
    ids, mask = torch.cat([words, codes], 1), torch.ones(1, 1, 150, 150).tril()
    if version == "v2":
        return _torch(net(ids, mask, return_loss=True)[0], net)
    logits = net(ids, mask)[0].transpose(1, 2)
    padded = torch.where(words == 0, 34 + torch.arange(6), words)
    loss = cross_entropy(logits[:, :40, :5], padded[:, 1:]) / 8
    loss = loss + cross_entropy(logits[:, 40:, 5:-1], codes) * 7 / 8
    return _torch(loss, net)


def _llamagen(config):
    import torch

    from tests.importing.record_decoders import _gpt

    net = _gpt(config).train()
    for each in net.modules():
        if isinstance(each, torch.nn.Dropout):
            each.p = 0.0
        for name in ("attn_dropout_p", "dropout_prob", "uncond_prob"):
            if hasattr(each, name):
                setattr(each, name, 0.0)
    return net


def llamagen_c2i():
    """A class and none."""
    net, (classes, codes) = _llamagen(decoders.C2I), _tensors("llamagen-c2i")
    loss = net(codes[:, :-1], classes[:, 0], targets=codes)[1]
    return _torch(loss, net)


def llamagen_t2i():
    """A caption, and one of two vectors that was left out."""
    import torch

    from tests.importing.record_decoders import _mask

    net, (vectors, counts) = _llamagen(decoders.T2I), training.captions()
    codes = torch.tensor(training.codes("llamagen-c2i")).long()
    vectors = torch.tensor(vectors)
    vectors[1] = net.cls_embedding.uncond_embedding
    length = vectors.shape[1]
    seen = np.arange(length) >= length - counts[:, None]
    mask = _mask(seen, length + 24)
    loss = net(codes[:, :-1], vectors, targets=codes, mask=mask)[1]
    return _torch(loss, net)


def dalle_mini_flax():
    """The Flax network and the loss of its tools/train, layers apart."""
    import jax
    import optax
    from flax.traverse_util import flatten_dict, unflatten_dict

    from tests.importing.record_dalle_mini import _modeling

    modeling, layout = _modeling(), training.LAYOUTS["dalle-mini"]
    settings = dalle_mini.SETTINGS | {"use_scan": False}
    config = modeling.DalleBartConfig(**settings, gradient_checkpointing=False)
    net = modeling.FlaxBartForConditionalGenerationModule(config)
    prompts = layout.prompts(training.PIECES["dalle-mini"])
    ids, codes = prompts.ids, training.codes("dalle-mini")
    mask = np.arange(ids.shape[1]) < ids.shape[1] - prompts.num_padding[:, None]
    start = np.full((2, 1), dalle_mini.CONFIG.start, np.int32)
    inputs = np.concatenate([start, codes[:, :-1]], axis=1)
    places = (np.broadcast_to(np.arange(x.shape[1]), x.shape) for x in (ids, inputs))

    def loss(params):
        seen = np.ones_like(inputs)
        logits = net.apply({"params": params}, ids, mask, inputs, seen, *places).logits
        wanted = jax.nn.one_hot(codes, logits.shape[-1])
        return optax.softmax_cross_entropy(logits, wanted).mean()

    params = unflatten_dict(dalle_mini.flax_tree(scanned=False))
    value, found = jax.value_and_grad(loss)(params)
    return value, {".".join(k): np.asarray(x) for k, x in flatten_dict(found).items()}


RECORD = {
    "mindalle": ("minDALL-E", mindalle),
    "rudalle-v2": ("ru-dalle", functools.partial(rudalle, "v2")),
    "rudalle-v3": ("ru-dalle", functools.partial(rudalle, "v3")),
    "llamagen-c2i": ("LlamaGen", llamagen_c2i),
    "llamagen-t2i": ("LlamaGen", llamagen_t2i),
    "dalle-mini": ("dalle-mini/src", dalle_mini_flax),
}


def main(clones, names):
    for name in names or RECORD:
        folder, run = RECORD[name]
        sys.path.insert(0, str(Path(clones) / folder))
        loss, gradients = run()
        training.write(name, loss, gradients)
        print(name, float(loss), len(gradients))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
