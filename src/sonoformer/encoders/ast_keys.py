"""Names and shapes of the authors' SSAST checkpoints -> ours.

The authors save the state of a DataParallel wrapper: `v.` holds the transformer under timm's names,
which are ours too; `cpredlayer`, `gpredlayer` and `mask_embed` belong to the pretext task;
`v.head` and `v.head_dist` are the ImageNet heads that nothing uses.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from sonoformer.encoders.ast import AstConfig
from sonoformer.errors import UserError
from sonoformer.spectral import FbankConfig

_DEAD = ("v.head.", "v.head_dist.")
_PRETEXT = ("cpredlayer.", "gpredlayer.", "mask_embed")
_SIZES = ("p_input_fdim", "p_input_tdim")
_NEEDED = {
    "v.cls_token": 3,
    "v.pos_embed": 3,
    "v.patch_embed.proj.weight": 4,
    "v.blocks.0.mlp.fc1.weight": 2,
    "p_input_fdim": 0,
    "p_input_tdim": 0,
}
"""What size and token kind are read from, and the number of dimensions."""


class Found(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        config: the encoder's configuration.
        encoder: its tensors, under our names.
        pretext: tensors of the pretext task, under the authors' names.
    """

    config: AstConfig
    encoder: dict[str, Tensor]
    pretext: dict[str, Tensor]


def from_ssast(tensors: dict[str, Tensor], source: str) -> Found:
    """Read the state dictionary of a pretrained SSAST (without `module.`).

    Size, token kind and grid follow from the shapes.

    Raises:
        UserError: tensors are missing or unknown, or the shapes contradict each other.
    """
    missing = [name for name in _NEEDED if name not in tensors]
    if missing:
        raise UserError(
            f"{source}: is not a pretrained SSAST checkpoint ({', '.join(missing)} missing)"
        )
    odd = [f"{n} {tuple(tensors[n].shape)}" for n, d in _NEEDED.items() if tensors[n].ndim != d]
    if odd:
        raise UserError(
            f"{source}: is not a pretrained SSAST checkpoint (shape of {', '.join(odd)})"
        )
    encoder = {
        name.removeprefix("v."): value
        for name, value in tensors.items()
        if name.startswith("v.") and not name.startswith(_DEAD)
    }
    rest = {n: t for n, t in tensors.items() if not n.startswith("v.") and n not in _SIZES}
    unknown = [name for name in rest if not name.startswith(_PRETEXT)]
    if unknown:
        raise UserError(f"{source}: unknown tensors {', '.join(unknown[:8])}")
    dim = encoder["cls_token"].shape[-1]
    high, long = encoder["patch_embed.proj.weight"].shape[2:]
    patch = (int(high), int(long))
    bins, frames = (int(tensors[name]) for name in _SIZES)
    table = (bins // patch[0], frames // patch[1])
    prefix = encoder["pos_embed"].shape[1] - table[0] * table[1]
    if dim % 64 or prefix not in (1, 2):
        raise UserError(
            f"{source}: width {dim}, patches {patch} and {encoder['pos_embed'].shape[1]} positions "
            f"do not fit a spectrogram of {bins} bins and {frames} frames"
        )
    blocks = {name.split(".")[1] for name in encoder if name.startswith("blocks.")}
    config = AstConfig(
        dim=dim,
        depth=len(blocks),
        heads=dim // 64,
        mlp_ratio=encoder["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        patch=patch,
        stride=patch,
        table=table,
        table_stride=patch,
        prefix=prefix,
        front=FbankConfig(n_mels=bins),
    )
    return Found(config, encoder, rest)
