"""Encoders adapted by a few weights, as they are trained, saved and put together again.

A checkpoint holds the tensors that are not the base's own, and how to tell the base; kilobytes
instead of the whole encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sonoformer.adaptation.petl import METHODS, Petl, PetlConfig, install
from sonoformer.data.keys import key
from sonoformer.encoders import load_encoder
from sonoformer.encoders.checkpoint import described, divided, filled
from sonoformer.encoders.shipped import shipped
from sonoformer.errors import UserError
from sonoformer.settings import build, plain
from sonoformer.weights import identity, load_checkpoint


@dataclass(frozen=True)
class Adapted:
    """How an encoder was adapted.

    Attributes:
        method, petl: what was put in.
        base: path or shipped name of the encoder; empty if it was given as a module.
        weights: identity of the base's weights.
        names: tensors of the encoder that are not the base's.
    """

    method: Petl
    petl: PetlConfig
    base: str
    weights: str
    names: frozenset[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `config.json`; the names are those of the tensors beside it."""
        base = {"path": self.base, "weights": self.weights}
        return {"method": self.method, "petl": plain(self.petl), "base": base}


def adapt(
    encoder: nn.Module,
    init: str | Path | nn.Module | None,
    method: Petl,
    petl: PetlConfig,
    seed: int,
) -> Adapted:
    """Install a method in the encoder that training starts from.

    Args:
        encoder: made of `init`, with its own statistics, strides and positions; changed in place.
        init: the base.
        method, petl: what to install.
        seed: of the weights that begin at random.

    Raises:
        UserError: there is no base, or the method does not fit it.
    """
    if init is None:
        raise UserError(f"method: {method} adapts a pretrained encoder; name one by --init")
    base = init if isinstance(init, nn.Module) else load_encoder(init)
    before, own = base.state_dict(), encoder.state_dict()
    changed = {n for n, v in own.items() if n not in before or not torch.equal(v, before[n])}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(seed, "adapter"))
        names = install(encoder, method, petl)
    place = "" if isinstance(init, nn.Module) else _place(init)
    # Buffers of what was installed come with it.
    made = {n for n in encoder.state_dict() if n not in own}
    return Adapted(method, petl, place, identity(before), frozenset({*names, *changed, *made}))


def read_adapted(
    folder: Path, base: str | Path | nn.Module | None = None
) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any], Adapted | None]:
    """The encoder of a checkpoint, put together with its base if it was adapted.

    Args:
        folder: the checkpoint.
        base: see `tasks.model.load_model`.

    Returns:
        As `encoders.read_encoder`, and how it was adapted, if it was.

    Raises:
        UserError: the checkpoint, or its base, is missing or damaged, or they do not belong to each
            other.
    """
    tensors, config = load_checkpoint(folder)
    encoder_class, options = described(config, folder)
    own, rest = divided(tensors)
    entry = config.get("adapted")
    if entry is None:
        if base is not None:
            raise UserError(f"base: {folder} holds a whole encoder and needs no other")
        return filled(encoder_class, options, own, str(folder)), rest, config, None
    method, petl, place, weights = _entry(entry, folder)
    found = _base(base, place, weights, folder)
    state = found.state_dict()

    def made(options: Any) -> nn.Module:
        encoder: nn.Module = encoder_class(options)
        install(encoder, method, petl)
        return encoder

    fitting = {n: v for n, v in state.items() if n not in own}
    encoder = filled(made, options, {**fitting, **own}, str(folder))
    if isinstance(base, nn.Module):
        _share(encoder, base, fitting)
    return encoder, rest, config, Adapted(method, petl, place, weights, frozenset(own))


def _entry(entry: Any, folder: Path) -> tuple[Petl, PetlConfig, str, str]:
    source = f"{folder}/config.json"
    base = entry.get("base") if isinstance(entry, dict) else None
    if not isinstance(base, dict) or entry.get("method") not in METHODS:
        raise UserError(f"{source}: adapted should name a method and a base")
    petl = build(PetlConfig, entry.get("petl", {}), source)
    return cast(Petl, entry["method"]), petl, str(base.get("path")), str(base.get("weights"))


def _base(
    given: str | Path | nn.Module | None, place: str, weights: str, folder: Path
) -> nn.Module:
    """The encoder that a checkpoint needs."""
    if given is None and not place:
        raise UserError(f"{folder}: was trained on an encoder of no file; give it as base")
    try:
        base = given if isinstance(given, nn.Module) else load_encoder(given or place)
    except UserError as error:
        raise UserError(f"{folder}: needs the encoder it was trained on: {error}") from None
    if identity(base.state_dict()) != weights:
        name = "the given base" if isinstance(given, nn.Module) else str(given or place)
        raise UserError(f"{folder}: was trained on other weights than those of {name}")
    return base


def _place(init: str | Path) -> str:
    """Where to find the base later: a shipped name as it is, a path from the root."""
    name = str(init)
    return name if name in shipped() and not Path(init).exists() else str(Path(init).resolve())


def _share(encoder: nn.Module, base: nn.Module, names: Mapping[str, Tensor]) -> None:
    """Let an encoder compute with the base's own tensors, so that many of them take little room."""
    for name in names:
        parent, _, last = name.rpartition(".")
        module = encoder.get_submodule(parent)
        if last in module._parameters:
            module._parameters[last] = base.get_parameter(name)
