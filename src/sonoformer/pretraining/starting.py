"""What a pretraining run starts from when it is not random: our checkpoints, or the authors'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, cast

from torch import Tensor

from sonoformer.encoders import Hints, PatchEncoder, is_published, read_encoder, read_published

_OBJECTIVE = "objective."


class Start(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        encoder: the encoder.
        tensors: of the objective, under the names of its learner; empty if there are none.
        objective: name of that objective.
    """

    encoder: PatchEncoder
    tensors: dict[str, Tensor]
    objective: str


def starting_point(path: str | Path, hints: Hints = Hints()) -> Start:
    """The encoder of a checkpoint, and what the objective had learnt beside it.

    Args:
        path: a run, a checkpoint folder, or any published AST (see `read_published`); only that of
            an SSAST pretraining has tensors of an objective.
        hints: what a published file does not say.

    Raises:
        UserError: nothing there, or nothing that fits.
    """
    if is_published(path):
        found = read_published(path, hints)
        return Start(found.make_encoder("default"), objective_of_ssast(found.pretext), "mspm")
    encoder, rest, config = read_encoder(path)
    own = {
        name.removeprefix(_OBJECTIVE): value
        for name, value in rest.items()
        if name.startswith(_OBJECTIVE)
    }
    objective = config.get("objective")
    name = objective.get("name") if isinstance(objective, dict) else None
    return Start(cast(PatchEncoder, encoder), own, str(name or "mspm"))


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
