"""Encoders <-> checkpoint folders.

Tensors of the encoder stand under `encoder.`, those of a head or an objective under their own
names, so that an encoder can be taken out of any checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sonoformer.encoders.ast import AstConfig, AstEncoder
from sonoformer.encoders.shipped import shipped
from sonoformer.encoders.ssamba import SsambaConfig, SsambaEncoder
from sonoformer.encoders.ssamba2 import Ssamba2Config, Ssamba2Encoder
from sonoformer.errors import UserError, brief, nearest
from sonoformer.settings import build, plain
from sonoformer.weights import assign, is_checkpoint, load_checkpoint, save_checkpoint

ENCODERS: dict[str, tuple[type, type]] = {
    "ast": (AstConfig, AstEncoder),
    "ssamba": (SsambaConfig, SsambaEncoder),
    "ssamba2": (Ssamba2Config, Ssamba2Encoder),
}
"""Name -> (configuration, encoder)."""

_E = TypeVar("_E", bound=nn.Module)
_PLACES = ("", "model")
"""Where a checkpoint lies in a folder that is named: the folder itself, or a run's model."""


def encoder_of(config: Any) -> type:
    """The class of the encoder that a configuration describes."""
    return next(made for kind, made in ENCODERS.values() if type(config) is kind)


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder that `path` means: itself, the model of a run folder, or a shipped one.

    A file or folder of that name comes before a shipped encoder's name.

    Raises:
        UserError: there is none.
    """
    path = Path(path)
    for place in _PLACES:
        if is_checkpoint(path / place):
            return path / place
    if not path.exists():
        known = shipped()
        if str(path) in known:
            return known[str(path)]
        names = f", or one of {', '.join(known)}" if known else ""
        raise UserError(
            f"{path}: no such folder; name a run or a checkpoint folder{names}."
            + nearest(str(path), known)
        )
    raise UserError(f"{path}: holds no checkpoint (model.safetensors and config.json)")


def save_encoder(
    encoder: nn.Module,
    folder: str | Path,
    card: str,
    *,
    extra: dict[str, Any] | None = None,
    tensors: dict[str, Tensor] | None = None,
    only: Collection[str] | None = None,
) -> Path:
    """Write an encoder, and whatever comes with it.

    Args:
        encoder: an instance of a class in `ENCODERS`.
        folder: the checkpoint folder.
        card: README.md.
        extra: further entries of config.json (head, classes, objective).
        tensors: further tensors, under names that do not begin with `encoder.`.
        only: names of the encoder's tensors to write, where the others can be had elsewhere.
    """
    name = next(name for name, (_, kind) in ENCODERS.items() if type(encoder) is kind)
    state = encoder.state_dict().items()
    weights = {f"encoder.{key}": value for key, value in state if only is None or key in only}
    config = {"encoder": {"name": name, "config": plain(encoder.config)}, **(extra or {})}
    return save_checkpoint(folder, {**weights, **(tensors or {})}, config, card)


def read_encoder(path: str | Path) -> tuple[nn.Module, dict[str, Tensor], dict[str, Any]]:
    """The encoder of a run or checkpoint folder, the other tensors, and config.json.

    Raises:
        UserError: the folder holds no checkpoint, or one that does not fit its configuration.
    """
    folder = find_checkpoint(path)
    tensors, config = load_checkpoint(folder)
    encoder_class, options = described(config, folder)
    if "adapted" in config:
        raise UserError(
            f"{folder}: holds what was trained beside an encoder, and not the encoder; "
            "sonoformer.load_model puts them together"
        )
    own, rest = divided(tensors)
    return filled(encoder_class, options, own, str(folder)), rest, config


def described(config: dict[str, Any], folder: Path) -> tuple[type, Any]:
    """Class and configuration of the encoder that a checkpoint's config.json tells of.

    Raises:
        UserError: it tells of none that is known.
    """
    entry = config.get("encoder")
    name = str(entry.get("name")) if isinstance(entry, dict) else ""
    if not isinstance(entry, dict) or name not in ENCODERS:
        raise UserError(f"{folder}: unknown encoder {brief(name)!r}.{nearest(name, ENCODERS)}")
    kind, encoder_class = ENCODERS[name]
    return encoder_class, build(kind, entry.get("config", {}), f"{folder}/config.json")


def divided(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A checkpoint's tensors: the encoder's, by its own names, and all others."""
    own: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for key, value in tensors.items():
        stem = key.removeprefix("encoder.")
        (rest if stem == key else own)[stem] = value
    return own, rest


def filled(kind: Callable[[Any], _E], config: Any, tensors: dict[str, Tensor], source: str) -> _E:
    """An encoder with the given weights; nothing is drawn at random to be overwritten.

    Args:
        kind: class of the encoder.
        config: its configuration.
        tensors: its weights by name.
        source: where they come from, for messages.

    Raises:
        UserError: the tensors do not fit the configuration; no memory was taken for it.
    """
    with torch.device("meta"):
        encoder = kind(config)
    assign(encoder, tensors, source)
    return encoder
