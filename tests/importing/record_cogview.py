"""What the public code of CogView's super-resolution reads, and in which order.

    python -m tests.importing.record_cogview FOLDER_WITH_CLONES

Its `magnify` and `filling_sequence` run with a model whose next code is a sum of the
code before and of its position.
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch

from cogjax.data.vocab import Vocab
from tests.importing import public

VOCAB = Vocab(24, 280)


class _Tokenizer:
    """Ids of commands, and numbers of codes and pieces."""

    img_tokenizer = types.SimpleNamespace(num_tokens=VOCAB.num_codes)
    txt_tokenizer = types.SimpleNamespace(num_tokens=VOCAB.num_text)

    def __getitem__(self, name):
        return VOCAB.command(name)


class _Model:
    """contexts: what each window's first call reads, tokens and positions."""

    def __init__(self):
        self.contexts = []

    def __call__(self, tokens, positions, *_, **settings):
        if settings:  # The first call alone names one.
            self.contexts.append(torch.stack([tokens[0], positions[0]]).numpy())
        code = (3 * positions[0, -1] + 5 * tokens[0, -1] + 1) % VOCAB.num_codes
        logits = torch.zeros(1, tokens.shape[1], VOCAB.padded_size)
        logits[..., code] = 1e4
        return logits, torch.zeros(1, 1, 1)


def _modules():
    """What the public modules import and do not need here."""
    pretrain = types.ModuleType("pretrain_gpt2")
    pretrain.get_masks_and_position_ids = lambda data: (
        None,
        None,
        torch.arange(data.shape[1])[None].clone(),
    )
    data_utils = types.ModuleType("data_utils")
    data_utils.get_tokenizer = _Tokenizer
    sys.modules |= {"pretrain_gpt2": pretrain, "data_utils": data_utils}


def main(clones):
    sys.path.insert(0, str(Path(clones) / "CogView"))
    _modules()
    from generation.magnify import magnify

    codes = np.random.default_rng(7).integers(24, size=(32, 32)).astype(np.int32)
    text = [24 + 5, 24 + 17, 24 + 200]
    names = ("[BASE]", "[BOI1]")
    text = [VOCAB.command("[ROI1]"), *text, *map(VOCAB.command, names)]
    args = types.SimpleNamespace(temperature=1.02, top_k=1, top_p=0, is_sparse=0)
    model = _Model()
    given = torch.tensor(codes).long().reshape(-1), torch.tensor(text)
    large = magnify(model, _Tokenizer(), *given, args)
    # What is there of the window is read with them.
    length = len(text) + 256 + 5
    contexts = np.stack([each[:, :length] for each in model.contexts])
    found = {"codes": codes, "contexts": contexts.astype(np.int32)}
    found["large"] = large.reshape(64, 64).numpy().astype(np.int32)
    np.savez_compressed(public.CASES / "cogview-enlarged.npz", **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
