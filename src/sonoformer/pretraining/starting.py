"""What a pretraining run starts from when it is not random: our checkpoints, or the authors'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from sonoformer.encoders import AstEncoder
from sonoformer.encoders.ast_keys import from_ssast
from sonoformer.encoders.checkpoint import read_encoder
from sonoformer.weights import assign, read_foreign

_OBJECTIVE = "objective."


def starting_point(path: str | Path) -> tuple[AstEncoder, dict[str, Tensor]]:
    """The encoder of a checkpoint, and the objective's tensors under the names of `Mspm`.

    Args:
        path: a run, a checkpoint folder, or the file of a published SSAST pretraining.

    Raises:
        UserError: nothing there, or nothing that fits.
    """
    path = Path(path)
    if path.is_file():
        found = from_ssast(read_foreign(path), str(path))
        published = AstEncoder(found.config)
        assign(published, found.encoder, str(path))
        return published, objective_of_ssast(found.pretext)
    encoder, rest, _ = read_encoder(path)
    own = {
        name.removeprefix(_OBJECTIVE): value
        for name, value in rest.items()
        if name.startswith(_OBJECTIVE)
    }
    return cast(AstEncoder, encoder), own


def objective_of_ssast(pretext: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mask token and heads of an SSAST checkpoint (see `ast_keys.Found`) as `Mspm` names them."""
    ours = {"cpredlayer": "classify", "gpredlayer": "reconstruct"}
    found = {}
    for name, value in pretext.items():
        stem, _, rest = name.partition(".")
        if stem in ours:
            found[f"{ours[stem]}.{rest}"] = value
        elif name == "mask_embed":
            found["mask_token"] = value.flatten()
    return found
