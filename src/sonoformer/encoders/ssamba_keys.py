"""Checkpoints of the authors' SSAMBA program -> our names.

A pretraining's file has everything under `v.`, `p_input_fdim` and `p_input_tdim`, and the pretext
task as SSAST's; a fine-tuned one has `mlp_head` instead, and its position table does not say its
stride. All of their scripts wire blocks in pairs, with no trace of it in the file.
"""

from __future__ import annotations

import math

from torch import Tensor

from sonoformer.encoders.ast_grid import Fit, choose
from sonoformer.encoders.published import (
    Hints,
    Published,
    PublishedHead,
    class_names,
    front_end,
    unsaid_of_classifier,
)
from sonoformer.encoders.ssamba import SsambaConfig
from sonoformer.errors import UserError

_DEAD = "v.head."
_HEAD = "mlp_head."
_PRETEXT = ("cpredlayer.", "gpredlayer.", "mask_embed")
_COUNTS = ("p_input_fdim", "p_input_tdim")
_BINS = 128
_NEEDED = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "layers.0.mixer.A_log": 2,
    "layers.0.mixer.conv1d.weight": 3,
    "layers.0.mixer.dt_proj.weight": 2,
}
"""What sizes are read from, and the number of dimensions."""
PARTS = {
    "in_proj": "in_proj",
    "out_proj": "out_proj",
    "conv1d": "ahead.conv",
    "x_proj": "ahead.x_proj",
    "dt_proj": "ahead.dt_proj",
    "A_log": "ahead.A_log",
    "D": "ahead.D",
    "conv1d_b": "back.conv",
    "x_proj_b": "back.x_proj",
    "dt_proj_b": "back.dt_proj",
    "A_b_log": "back.A_log",
    "D_b": "back.D",
}
"""Parts of a mixer: theirs -> ours."""


def is_ssamba(tensors: dict[str, Tensor]) -> bool:
    """Whether the names are those of Vision Mamba's layers."""
    return any(name.startswith("v.layers.") and ".mixer." in name for name in tensors)


def from_ssamba(tensors: dict[str, Tensor], source: str, hints: Hints = Hints()) -> Published:
    """Read the state dictionary (without `module.`) of the authors' program.

    Raises:
        UserError: another variant, tensors that are missing, unknown or contradict each other, or a
            stride that cannot be known from the shapes and is not given.
    """
    whole = {n: v for n, v in tensors.items() if not n.startswith(_DEAD)}
    encoder = {n.removeprefix("v."): v for n, v in whole.items() if n.startswith("v.")}
    rest = {n: v for n, v in whole.items() if not n.startswith("v.")}
    _check(encoder, source)
    if any(name in rest for name in (*_COUNTS, "mask_embed")):
        return _pretrained(encoder, rest, source, hints)
    return _classifier(encoder, rest, source, hints)


def _pretrained(
    encoder: dict[str, Tensor], rest: dict[str, Tensor], source: str, hints: Hints
) -> Published:
    odd = [n for n in _COUNTS if n not in rest or rest[n].ndim or not 1 <= rest[n].item() <= 2**20]
    unknown = [n for n in rest if n not in _COUNTS and not n.startswith(_PRETEXT)]
    if odd or unknown:
        raise UserError(
            f"{source}: is no whole pretrained SSAMBA ({', '.join(odd + unknown[:8])} missing, "
            "unknown or no count)"
        )
    bins, frames = (int(rest.pop(name)) for name in _COUNTS)
    patch = _patch(encoder)
    table = (bins // patch[0], frames // patch[1])
    if encoder["pos_embed"].shape[1] != 1 + table[0] * table[1] or min(table) < 1:
        raise UserError(
            f"{source}: patches {patch} and {encoder['pos_embed'].shape[1]} positions do not fit a "
            f"spectrogram of {bins} bins and {frames} frames"
        )
    if hints.stride not in (None, patch):
        raise UserError(
            f"--stride: {source} was pretrained with patches side by side ({patch[0]} {patch[1]}); "
            "another stride is for what is trained from it"
        )
    config = _config(encoder, Fit(patch, table, frames, frames), bins, hints, source)
    weights = _renamed(encoder, source)
    notes = (_NOTE,)
    return Published(
        "pretrained SSAMBA", source, config, frames, weights, pretext=rest, notes=notes
    )


def _classifier(
    encoder: dict[str, Tensor], rest: dict[str, Tensor], source: str, hints: Hints
) -> Published:
    head = {n.removeprefix(_HEAD): t for n, t in rest.items() if n.startswith(_HEAD)}
    unknown = [name for name in rest if not name.startswith(_HEAD)]
    dim = encoder["cls_token"].shape[-1]
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    count = next(iter(shapes.get("1.weight", ())), 0)
    wanted = {"0.weight": (dim,), "0.bias": (dim,), "1.weight": (count, dim), "1.bias": (count,)}
    if unknown or (head and (shapes != wanted or not count)):
        names = ", ".join(unknown or (f"{_HEAD}{n} {s}" for n, s in shapes.items()))
        raise UserError(f"{source}: tensors that no SSAMBA classifier has: {names[:300]}")
    cells = encoder["pos_embed"].shape[1] - 1
    found = choose(cells, _patch(encoder), _BINS, hints.stride, source)
    config = _config(encoder, found, _BINS, hints, source)
    notes = [_NOTE]
    if not hints.stride:
        notes.append(f"stride {found}: the only published one that fits the table")
    weights = _renamed(encoder, source)
    if not head:
        return Published("SSAMBA", source, config, found.frames, weights, notes=tuple(notes))
    if hints.classes is None:
        notes.append(f"its {count} classes are numbered: the file holds no names")
    classes = class_names(hints, count, source)
    single = None if hints.task is None else hints.task == "single"
    made = PublishedHead(head, 1e-5, classes, hints.pool, single)
    return Published(
        "fine-tuned SSAMBA",
        source,
        config,
        found.frames,
        weights,
        made,
        notes=tuple(notes),
        unsaid=unsaid_of_classifier(hints),
    )


_NOTE = "blocks in pairs and the final norm twice, as in all of the authors' scripts"


def _config(
    encoder: dict[str, Tensor], found: Fit, bins: int, hints: Hints, source: str
) -> SsambaConfig:
    dim = encoder["cls_token"].shape[-1]
    inner, states = encoder["layers.0.mixer.A_log"].shape
    config = SsambaConfig(
        dim=dim,
        depth=len({name.split(".")[1] for name in encoder if name.startswith("layers.")}),
        states=states,
        expand=max(1, inner // dim),
        taps=encoder["layers.0.mixer.conv1d.weight"].shape[2],
        wiring="reference",
        patch=_patch(encoder),
        stride=found.stride,
        table=found.grid,
        table_stride=found.stride,
        front=front_end(bins, hints),
    )
    rank = encoder["layers.0.mixer.dt_proj.weight"].shape[1]
    if inner != config.expand * dim or rank != math.ceil(dim / 16):
        raise UserError(
            f"{source}: inner width {inner} and rank {rank} are those of another variant than "
            f"SSAMBA of width {dim}"
        )
    return config


def _renamed(encoder: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors under our names; block 2 i is `blocks.i.one`, the next `blocks.i.other`."""
    found = {}
    for name, value in encoder.items():
        if not name.startswith("layers."):
            found[name.replace("norm_f.", "norm.")] = value
            continue
        _, number, kind, *rest = name.split(".")
        if not number.isdigit():
            raise UserError(f"{source}: unknown tensor v.{name}")
        if kind == "mixer" and rest and rest[0] in PARTS:
            rest = [PARTS[rest[0]], *rest[1:]]
        half = "other" if int(number) % 2 else "one"
        found[".".join(["blocks", str(int(number) // 2), half, kind, *rest])] = value
    return found


def _patch(encoder: dict[str, Tensor]) -> tuple[int, int]:
    high, long = encoder["patch_embed.proj.weight"].shape[2:]
    return int(high), int(long)


def _check(encoder: dict[str, Tensor], source: str) -> None:
    missing = [f"v.{name} missing" for name in _NEEDED if name not in encoder]
    odd = [
        f"shape of v.{name} {tuple(encoder[name].shape)}"
        for name, count in _NEEDED.items()
        if name in encoder and (encoder[name].ndim != count or not encoder[name].numel())
    ]
    if missing or odd:
        raise UserError(f"{source}: is no SSAMBA ({', '.join(missing + odd)})")
    if not any(".mixer.A_b_log" in name for name in encoder):
        raise UserError(
            f"{source}: its Mamba layers have one direction (no A_b_log); SSAMBA's have two"
        )
