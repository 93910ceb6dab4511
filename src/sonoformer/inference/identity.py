"""Whether two modules would compute the same."""

from __future__ import annotations

import hashlib

from torch import nn

from sonoformer.weights import identity


def fingerprint(module: nn.Module) -> str:
    """Of a module's weights and its configuration and its encoder's."""
    configs = [repr(getattr(m, "config", "")) for m in (module, getattr(module, "encoder", None))]
    text = "".join([*configs, identity(module.state_dict())])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
