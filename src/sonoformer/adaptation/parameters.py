"""Full, partial or head-only training, as parameter groups for an optimiser.

An encoder's weights lie at levels: 0 for everything before its blocks (patch embedding, position
table, cls token), i + 1 for block i, depth + 1 for what follows them (the final norm). The head
comes after all of them. An encoder only has to expose its `blocks` in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from sonoformer.errors import UserError


@dataclass(frozen=True)
class AdaptationConfig:
    """Which weights train, and at which share of the learning rate."""

    weights: Literal["full", "partial", "head"] = "full"
    """full: every weight; partial: the last `blocks` blocks, the final norm and the head; head: the
    head alone."""
    blocks: int = 4
    """partial: how many of the encoder's last blocks train."""
    layer_decay: float = 1.0
    """Factor on the learning rate for each level further from the head; 1 treats all alike. 0.65 to
    0.9 keeps early layers near their pretrained values (Clark et al. 2020, section 3.1)."""
    head_multiplier: float | None = None
    """Factor on the learning rate of the head; 1 by default, and less for a head that starts as a
    probe, which knows already and learns at 3e-5 at most."""
    freeze_epochs: float = 0.0
    """Epochs in which the head trains alone, before the encoder joins."""
    decay_norms: bool = True
    """Apply weight decay to norms, biases, tokens and position tables too, as SSAST and AST do."""

    def __post_init__(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay: must be above 0 and at most 1; got {self.layer_decay}.")
        if self.head_multiplier is not None and self.head_multiplier <= 0:
            raise UserError(f"head_multiplier: must be above 0; got {self.head_multiplier}.")
        if self.blocks < 1:
            raise UserError(f"blocks: must be at least 1; got {self.blocks}.")
        if self.freeze_epochs < 0:
            raise UserError(f"freeze_epochs: must be at least 0; got {self.freeze_epochs}.")


def levels(encoder: nn.Module) -> dict[str, int]:
    """Parameter name -> level, from 0 (embeddings) to depth + 1 (final norm).

    Raises:
        ValueError: the encoder has no `blocks`.
    """
    children = [name for name, _ in encoder.named_children()]
    if "blocks" not in children:
        raise ValueError(f"{type(encoder).__name__} exposes no blocks")
    depth = len(encoder.get_submodule("blocks"))  # type: ignore[arg-type]
    after = set(children[children.index("blocks") + 1 :])
    found = {}
    for name, _ in encoder.named_parameters():
        first, _, rest = name.partition(".")
        if first == "blocks":
            found[name] = int(rest.partition(".")[0]) + 1
        else:
            found[name] = depth + 1 if first in after else 0
    return found


def freeze(encoder: nn.Module, config: AdaptationConfig, *, warming: bool = False) -> None:
    """Let exactly those weights of the encoder train that `config` names.

    Args:
        encoder: the encoder; `requires_grad` of its parameters is set.
        config: the options.
        warming: the head trains alone for now (`freeze_epochs`).

    Raises:
        UserError: `blocks` is more than the encoder has.
    """
    level = levels(encoder)
    depth = max(level.values()) - 1
    first = {"full": 0, "partial": depth - config.blocks + 1, "head": depth + 2}[config.weights]
    if config.weights == "partial" and config.blocks > depth:
        raise UserError(f"blocks: the encoder has {depth} blocks; got {config.blocks}.")
    adapted = getattr(encoder, "adapted", None)  # names, after `petl.install`
    for name, parameter in encoder.named_parameters():
        chosen = level[name] >= first if adapted is None else name in adapted
        parameter.requires_grad_(not warming and chosen)


def parameter_groups(
    encoder: nn.Module, head: nn.Module, config: AdaptationConfig, lr: float
) -> list[dict[str, Any]]:
    """Groups for an optimiser: `params`, `lr`, `name`, and `weight_decay` where it is switched off.

    Level l of an encoder of depth d trains at lr x layer_decay^(d + 2 - l), the head at
    lr x head_multiplier (1 if that is left open). Frozen weights are left out; those that
    `freeze_epochs` holds back for now are in, because an optimiser cannot be extended without
    losing its state.
    """
    freeze(encoder, config)
    level = levels(encoder)
    top = max(level.values()) + 1
    above = 1.0 if config.head_multiplier is None else config.head_multiplier
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    parameters = [
        *((level[name], name, p) for name, p in encoder.named_parameters() if p.requires_grad),
        *((top, f"head.{name}", p) for name, p in head.named_parameters()),
    ]
    for where, name, parameter in parameters:
        decays = config.decay_norms or not _bias_like(name, parameter)
        if (where, decays) not in groups:
            factor = above if where == top else config.layer_decay ** (top - where)
            title = "head" if where == top else f"level {where}"
            group = {"params": [], "lr": lr * factor, "name": title}
            groups[where, decays] = group if decays else {**group, "weight_decay": 0.0}
        groups[where, decays]["params"].append(parameter)
    return list(groups.values())


def _bias_like(name: str, parameter: nn.Parameter) -> bool:
    """Norms and biases (one dimension), learned tokens, position tables, decays of states."""
    last = name.rpartition(".")[2]
    return parameter.ndim < 2 or "token" in last or "pos" in last or last == "A_log"
