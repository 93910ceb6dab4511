"""`load_encoder`: from a folder of ours or a published weights file to an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from sonoformer.encoders.ast import AstEncoder
from sonoformer.encoders.ast_keys import from_ssast
from sonoformer.encoders.checkpoint import read_encoder
from sonoformer.weights import assign, read_foreign

_WEIGHTS = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")


def load_encoder(path: str | Path) -> AstEncoder:
    """An encoder in eval mode from a run, a checkpoint folder, or SSAST's pretraining weights.

    Raises:
        UserError: nothing there, or nothing that fits; see `read_encoder` and `from_ssast`.
    """
    path = Path(path)
    if path.suffix in _WEIGHTS and not path.is_dir():
        found = from_ssast(read_foreign(path), str(path))
        encoder = AstEncoder(found.config)
        assign(encoder, found.encoder, str(path))
    else:
        encoder = cast(AstEncoder, read_encoder(path)[0])
    return encoder.eval()
