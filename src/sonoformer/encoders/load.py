"""`load_encoder`: from a folder of ours or a published checkpoint to an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from sonoformer.encoders.checkpoint import read_encoder
from sonoformer.encoders.foreign import is_published, read_published
from sonoformer.encoders.patched import PatchEncoder
from sonoformer.encoders.published import Hints
from sonoformer.errors import UserError
from sonoformer.settings import build


def load_encoder(path: str | Path, **hints: Any) -> PatchEncoder:
    """An encoder in evaluation mode.

    Args:
        path: a run or checkpoint folder of ours; a weights file of the AST, SSAST or SSAMBA
            programs, of DeiT; or a folder of transformers.
        hints: what a published checkpoint does not say: `stride`, `statistics`, `profile`; see
            `encoders.published.Hints`.

    Raises:
        UserError: nothing there, or nothing that fits; see `read_encoder` and `read_published`.
    """
    given = read_hints(path, hints)
    if is_published(path):
        return read_published(path, given).make_encoder(given.profile)
    return cast(PatchEncoder, read_encoder(path)[0]).eval()


def read_hints(path: str | Path, hints: dict[str, Any]) -> Hints:
    """The hints, checked; a checkpoint of ours needs none.

    Raises:
        UserError: an unknown hint or value, or any for a checkpoint of ours.
    """
    found: Hints = build(Hints, hints, "hints")
    if found.given and not is_published(path):
        raise UserError(f"{', '.join(found.given)}: {path} says itself what these are")
    return found
