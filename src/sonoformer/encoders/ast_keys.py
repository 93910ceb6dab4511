"""State dictionaries of the AST and SSAST programs -> ours.

The authors save the state of a DataParallel wrapper. `v.` holds the transformer under timm's names,
which are ours too; `v.head` and `v.head_dist` are the image model's heads, which nothing uses.

* pretrained SSAST: `p_input_fdim`, `p_input_tdim` (bins and frames), `mask_embed`, and the pretext
  heads `cpredlayer` and `gpredlayer`;
* AST, and fine-tuned SSAST: `mlp_head` instead. The two cannot be told apart, and strides, pooling,
  loss and normalisation are not stored;
* the DeiT image model that AST starts from: timm's names without `v.`, patches of three colours.
"""

from __future__ import annotations

import math
from dataclasses import replace

from torch import Tensor

from sonoformer.encoders.ast import AstConfig
from sonoformer.encoders.ast_grid import Fit, choose
from sonoformer.encoders.published import (
    Hints,
    Published,
    PublishedHead,
    class_names,
    front_end,
    unsaid_of_classifier,
)
from sonoformer.errors import UserError

_DEAD = ("head.", "head_dist.")
_PRETEXT = ("cpredlayer.", "gpredlayer.", "mask_embed")
_SIZES = ("p_input_fdim", "p_input_tdim")
_HEAD = "mlp_head."
_NEEDED = {
    "cls_token": 3,
    "pos_embed": 3,
    "patch_embed.proj.weight": 4,
    "blocks.0.mlp.fc1.weight": 2,
}
"""What sizes are read from, and the number of dimensions."""
_BINS = 128


def from_authors(tensors: dict[str, Tensor], source: str, hints: Hints = Hints()) -> Published:
    """Read the state dictionary (without `module.`) of an AST or SSAST program.

    Raises:
        UserError: another model, tensors that are missing, unknown or contradict each other, or a
            stride that cannot be known from the shapes and is not given.
    """
    if "v.cls_token" not in tensors and "cls_token" in tensors:
        return _image_model(tensors, source, hints)
    if "v.cls_token" not in tensors:
        raise UserError(f"{source}: {_strange(tensors)}")
    encoder = _transformer(tensors, "v.", source)
    rest = {name: value for name, value in tensors.items() if not name.startswith("v.")}
    if any(name in rest for name in (*_SIZES, "mask_embed", "cpredlayer.0.weight")):
        return _pretrained(encoder, rest, source, hints)
    return _classifier(encoder, rest, source, hints)


def _pretrained(
    encoder: dict[str, Tensor], rest: dict[str, Tensor], source: str, hints: Hints
) -> Published:
    missing = [name for name in _SIZES if name not in rest]
    odd = [name for name in _SIZES if name in rest and not _is_count(rest[name])]
    if missing or odd:
        raise UserError(
            f"{source}: is no whole pretrained SSAST ({', '.join([*missing, *odd])} missing or no "
            "count)"
        )
    bins, frames = (int(rest.pop(name)) for name in _SIZES)
    unknown = [name for name in rest if not name.startswith(_PRETEXT)]
    if unknown:
        raise UserError(f"{source}: unknown tensors {', '.join(unknown[:8])}")
    patch = _patch(encoder)
    table = (bins // patch[0], frames // patch[1])
    prefix = _positions(encoder) - table[0] * table[1]
    if prefix not in (1, 2) or min(table) < 1:
        raise UserError(
            f"{source}: patches {patch} and {_positions(encoder)} positions do not fit a "
            f"spectrogram of {bins} bins and {frames} frames"
        )
    if hints.stride not in (None, patch):
        raise UserError(
            f"--stride: {source} was pretrained with patches side by side ({patch[0]} {patch[1]}); "
            "another stride is for what is trained from it"
        )
    config = _config(encoder, Fit(patch, table, frames, frames), prefix, bins, hints, source)
    return Published("pretrained SSAST", source, config, frames, encoder, pretext=rest)


def _classifier(
    encoder: dict[str, Tensor], rest: dict[str, Tensor], source: str, hints: Hints
) -> Published:
    head = {n.removeprefix(_HEAD): t for n, t in rest.items() if n.startswith(_HEAD)}
    unknown = [name for name in rest if not name.startswith(_HEAD)]
    shapes = {name: tuple(value.shape) for name, value in head.items()}
    dim = encoder["cls_token"].shape[-1]
    count = next(iter(shapes.get("1.weight", ())), 0)
    wanted = {"0.weight": (dim,), "0.bias": (dim,), "1.weight": (count, dim), "1.bias": (count,)}
    if unknown or (head and (shapes != wanted or not count)):
        names = ", ".join(unknown or (f"{_HEAD}{n} {s}" for n, s in shapes.items()))
        raise UserError(f"{source}: tensors that no AST or SSAST classifier has: {names[:300]}")
    prefix = 2 if "dist_token" in encoder else 1
    patch = _patch(encoder)
    found = choose(_positions(encoder) - prefix, patch, _BINS, hints.stride, source)
    config = _config(encoder, found, prefix, _BINS, hints, source)
    notes = [] if hints.stride else [f"stride {found}: the only published one that fits the table"]
    if not head:
        return Published("AST encoder", source, config, found.frames, encoder, notes=tuple(notes))
    if hints.classes is None:
        notes.append(f"its {count} classes are numbered: the file holds no names")
    single = None if hints.task is None else hints.task == "single"
    classes = class_names(hints, count, source)
    made = PublishedHead(head, 1e-5, classes, hints.pool, single)
    return Published(
        "AST or fine-tuned SSAST",
        source,
        config,
        found.frames,
        encoder,
        made,
        notes=tuple(notes),
        unsaid=unsaid_of_classifier(hints),
    )


def _image_model(tensors: dict[str, Tensor], source: str, hints: Hints) -> Published:
    """AST section 2.2: colours are summed, and the square table is cut or stretched to the grid."""
    encoder = _transformer(tensors, "", source)
    colours = encoder["patch_embed.proj.weight"]
    prefix = 2 if "dist_token" in encoder else 1
    side = math.isqrt(max(0, _positions(encoder) - prefix))
    patch = _patch(encoder)
    if colours.shape[1] != 3 or side * side != _positions(encoder) - prefix or not side:
        raise UserError(
            f"{source}: is no DeiT image model (patches of {colours.shape[1]} colours, "
            f"{_positions(encoder)} positions), and its names are not those of an AST program"
        )
    if colours.is_floating_point():
        # Kinds of 8 bits cannot be added, and half precision would round the sum.
        colours = colours.float()
    encoder["patch_embed.proj.weight"] = colours.sum(1, keepdim=True)
    stride = hints.stride or (10, 10)
    rows = (_BINS - patch[0]) // stride[0] + 1
    frames = 1024
    grid = (rows, (frames - patch[1]) // stride[1] + 1)
    config = _config(encoder, Fit(stride, grid, frames, frames), prefix, _BINS, hints, source)
    config = replace(config, table=(side, side), positions="reference")
    note = "its table of an image's rows and columns is read by AST's rule"
    return Published("DeiT image model", source, config, frames, encoder, notes=(note,))


def _transformer(tensors: dict[str, Tensor], prefix: str, source: str) -> dict[str, Tensor]:
    """The transformer's tensors without `prefix` and without the image model's heads."""
    found = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix) and not name.removeprefix(prefix).startswith(_DEAD)
    }
    missing = [name for name in _NEEDED if name not in found]
    odd = [
        f"{name} {tuple(found[name].shape)}"
        for name, count in _NEEDED.items()
        if name in found and (found[name].ndim != count or not found[name].numel())
    ]
    if missing or odd:
        parts = [f"{prefix}{name} missing" for name in missing] + [f"shape of {o}" for o in odd]
        raise UserError(f"{source}: is no AST ({', '.join(parts)})")
    return found


def _config(
    encoder: dict[str, Tensor], found: Fit, prefix: int, bins: int, hints: Hints, source: str
) -> AstConfig:
    dim = encoder["cls_token"].shape[-1]
    if dim % 64:
        raise UserError(f"{source}: width {dim} is no multiple of 64, the width of a head")
    depth = len({name.split(".")[1] for name in encoder if name.startswith("blocks.")})
    return AstConfig(
        dim=dim,
        depth=depth,
        heads=dim // 64,
        mlp_ratio=encoder["blocks.0.mlp.fc1.weight"].shape[0] / dim,
        patch=_patch(encoder),
        stride=found.stride,
        table=found.grid,
        table_stride=found.stride,
        prefix=prefix,
        front=front_end(bins, hints),
    )


def _patch(encoder: dict[str, Tensor]) -> tuple[int, int]:
    high, long = encoder["patch_embed.proj.weight"].shape[2:]
    return int(high), int(long)


def _is_count(value: Tensor) -> bool:
    return value.ndim == 0 and 1 <= value.item() <= 2**20


def _positions(encoder: dict[str, Tensor]) -> int:
    return encoder["pos_embed"].shape[1]


def _strange(tensors: dict[str, Tensor]) -> str:
    """What a dictionary that is no AST seems to be."""
    names = list(tensors)
    if any("audio_spectrogram_transformer" in name for name in names):
        return (
            "holds weights of transformers without their settings; name the folder that holds "
            "them and config.json"
        )
    if any("mixer." in name for name in names):
        return "holds a state-space model of another layout than SSAMBA's"
    some = ", ".join(names[:4])
    return f"holds no AST of a known layout; its first tensors are {some}"
