"""Modules of PyTorch, filled with tensors of NumPy; needs torch, as `record` does."""

import torch


def load(module, tensors):
    """The module with all of its tensors replaced, but for scales of norms.

    A norm has a scale of 1 where there is none, as in min-dalle.
    """
    tensors = {k: torch.tensor(x) for k, x in tensors.items()}
    missing, unknown = module.load_state_dict(tensors, strict=False)
    own = module.state_dict()
    assert not unknown and all((own[name] == 1).all() for name in missing)
    return module.eval()


def channels_first(x):
    return torch.tensor(x).permute(0, 3, 1, 2).contiguous()


def channels_last(x):
    return x.permute(0, 2, 3, 1).numpy()
