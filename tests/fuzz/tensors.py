"""Mutations of names, shapes, kinds and values of tensors, and of what lies around them."""

from __future__ import annotations

import argparse
import math
import random
from collections import OrderedDict
from typing import Any

import torch
from tests.fuzz.cases import Case
from torch import Tensor, nn

_NAMES = (
    "unknown", "v.unknown.weight", "module.", "", ".", "blocks.", "v.blocks.x.y", "a\nb",
    "a\x1b[1m", "[/red]", "{name}", "v.blocks.99999999999.norm1.weight", "blocks..weight",
    "encoder.", "encoder.encoder.cls_token", "é" * 200, "x" * 5000, "mixer.in_proj.weight",
    "encoder.layer.0.attention.attention.query.weight", "head.", "objective.", "mlp_head.2.weight",
    "p_input_fdim", "cls_token", "v.cls_token", "cpredlayer.9.weight",
)  # fmt: skip
_KINDS = (
    torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.uint16, torch.uint64,
    torch.int32,
)  # fmt: skip


def _one(case: Case, rng: random.Random) -> str:
    return rng.choice(list(case.tensors))


def keys(case: Case, rng: random.Random) -> None:
    """Names dropped, changed, given twice, added, swapped, prefixed."""
    case.tensors = tensors = {str(name): value for name, value in case.tensors.items()}
    if not tensors:
        return
    one, other = _one(case, rng), _one(case, rng)
    match rng.randrange(9):
        case 0:
            del tensors[one]
        case 1:
            tensors[rng.choice(_NAMES)] = tensors.pop(one)
        case 2:
            tensors[rng.choice([other, f"{one}.copy", f"{one}2"])] = tensors[one]
        case 3:
            tensors[rng.choice(_NAMES)] = torch.ones(rng.choice([(), (1,), (2, 3), (0,)]))
        case 4:
            tensors[one], tensors[other] = tensors[other], tensors[one]
        case 5:
            prefix = rng.choice(["module.", "v.", "module.module.", "encoder.", "model."])
            case.tensors = {f"{prefix}{name}": value for name, value in tensors.items()}
        case 6:
            case.tensors = {name.removeprefix("module."): v for name, v in tensors.items()}
        case 7:
            stem = one.rpartition(".")[0]
            case.tensors = {name: v for name, v in tensors.items() if not name.startswith(stem)}
        case 8:
            number = rng.choice(["1", "7", "1023", "-1", "0x", "1e3"])
            copies = {n.replace(".0.", f".{number}.", 1): v for n, v in tensors.items()}
            case.tensors = {**tensors, **copies}


def shapes(case: Case, rng: random.Random) -> None:
    """Shapes that no model has, up to views of a single number that seem huge."""
    for _ in range(rng.choice([1, 1, 2, 200])):
        if not case.tensors:
            return
        name = _one(case, rng)
        value = case.tensors[name]
        if not isinstance(value, Tensor):
            continue
        case.tensors[name] = _reshaped(value, rng, case.pickled)


def _reshaped(value: Tensor, rng: random.Random, views: bool) -> Tensor:
    if value.numel() > 2**20:
        return value
    match rng.randrange(9 if views else 6):
        case 0:
            return value.movedim(0, -1) if value.ndim else value
        case 1:
            return value[: len(value) // 2] if value.ndim and len(value) else value
        case 2:
            return torch.cat([value, value]) if value.ndim else value.repeat(2)
        case 3:
            return torch.tensor(1.0)
        case 4:
            return value[..., :0] if value.ndim else torch.empty(0)
        case 5:
            return value.flatten() if rng.random() < 0.5 else value[None]
        case 6:
            big = rng.choice([2**16, 2**24, 2**31, 2**40])
            sizes = [big if rng.random() < 0.5 else size for size in value.shape] or [big]
            return _view(sizes)
        case 7:
            return _view(list(value.shape))
        case _:
            return _view([s * rng.choice([1, 64, 1024]) for s in value.shape] or [2**33])


def _view(sizes: list[int]) -> Tensor:
    """A view of one number, as large as sizes can be."""
    while math.prod(max(1, size) for size in sizes) >= 2**60:
        sizes[sizes.index(max(sizes))] = 2
    return torch.full((), 0.01).expand(sizes)


def wide(case: Case, rng: random.Random) -> None:
    """Every tensor a view of one number, all fitting a model many times the size of the file."""
    factor = rng.choice([16, 64, 256, 1024])
    for name, value in case.tensors.items():
        if isinstance(value, Tensor) and value.ndim:
            sizes = [s * factor if s % 64 == 0 and s < 256 else s for s in value.shape]
            case.tensors[name] = _view(sizes)


def kinds(case: Case, rng: random.Random) -> None:
    """Other types of numbers, in one tensor or in all."""
    kind = rng.choice(_KINDS)
    names = list(case.tensors) if rng.random() < 0.5 else [_one(case, rng)] if case.tensors else []
    for name in names:
        if isinstance(case.tensors[name], Tensor) and case.tensors[name].numel() < 2**20:
            case.tensors[name] = case.tensors[name].to(kind)


def values(case: Case, rng: random.Random) -> None:
    """Values that are not finite, or not those of a count."""
    if not case.tensors:
        return
    name = _one(case, rng)
    value = case.tensors[name]
    if isinstance(value, Tensor) and value.numel() in range(1, 10**6):
        odd = rng.choice([float("nan"), float("inf"), float("-inf"), -1.0, 0.0, 1e9])
        if value.is_floating_point():
            value = value.clone(memory_format=torch.contiguous_format)
            value.view(-1)[rng.randrange(value.numel())] = odd if abs(odd) < 2 else float("nan")
        else:
            value = torch.full_like(value.float(), odd)
        case.tensors[name] = value


def oddities(case: Case, rng: random.Random) -> None:
    """Tensors that load and are no weights: sparse, meta, parameters, with attributes."""
    if not case.pickled or not case.tensors:
        return
    name = _one(case, rng)
    value = case.tensors[name]
    if type(value) is not Tensor or value.is_nested or value.numel() > 10**6:
        return
    match rng.randrange(7):
        case 0:
            case.tensors[name] = torch.eye(3).to_sparse()
        case 1:
            case.tensors[name] = torch.empty(value.shape, device="meta")
        case 2:
            if value.is_floating_point():
                case.tensors[name] = nn.Parameter(value)
        case 3:
            if value.is_floating_point():
                found = nn.Parameter(value.clone())
                attribute = rng.choice(
                    ["detach", "shape", "numel", "to", "float", "x", "_backward"]
                )
                found.__dict__[attribute] = 5
                case.tensors[name] = found
        case 4:
            case.tensors[name] = torch.view_as_complex(torch.ones(3, 2)).conj().imag
        case 5:
            case.tensors[name] = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
        case 6:
            case.tensors[rng.choice([5, None, ("a", 1), 2.5, True, "\ud800"])] = value


def wrappers(case: Case, rng: random.Random) -> None:
    """Dictionaries around the weights, and other things beside them."""
    if not case.pickled:
        return
    inner, choice = case.content, rng.randrange(9)
    name = rng.choice(["state_dict", "model", "model_state_dict", "net", "weights", "ema"])
    extra: Any = rng.choice(
        [{"epoch": 3}, {"optimizer": {"state": {0: {"step": torch.tensor(1.0)}}}}, {"best": None},
         {"args": argparse.Namespace(lr=1e-4)}, {"a\nb": 1}, {"[/red]": 2}, {("a", 1): 1}]
    )  # fmt: skip

    def content(tensors: dict[str, Any]) -> Any:
        value = inner(tensors)
        if not isinstance(value, dict):
            return value
        match choice:
            case 0:
                return {name: value}
            case 1:
                return {name: value, **extra}
            case 2:
                return {**value, **extra}
            case 3:
                return [value]
            case 4:
                return OrderedDict(value)
            case 5:
                return {"state_dict": {}, "model": value}
            case 6:
                return (value, 1)
            case 7:
                loop: dict[str, Any] = {**extra}
                loop[name] = loop
                return loop
            case _:
                for _ in range(40):
                    value = {name: value}
                return value

    case.content = content
