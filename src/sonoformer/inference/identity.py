"""Whether two modules would compute the same."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def fingerprint(module: nn.Module) -> str:
    """Of a module's weights and its configuration and its encoder's."""
    text = hashlib.blake2b(digest_size=16)
    for part in (module, getattr(module, "encoder", None)):
        text.update(repr(getattr(part, "config", "")).encode())
    for name, value in module.state_dict().items():
        text.update(name.encode())
        text.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return text.hexdigest()
