"""Parameter-efficient adaptation: a frozen encoder, and a few weights that train.

`install` changes an encoder whose weights are loaded already. It computes the same as before, apart
from options that say otherwise, and every weight that is to train gets a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sonoformer.adaptation.adapters import Adapter, Bottleneck, Convolution, Mixture
from sonoformer.adaptation.linears import AdaptedLinear, Dora, Lora, Rows, Scaled
from sonoformer.adaptation.prompts import Prefix, Prompt
from sonoformer.adaptation.sites import Site, sites
from sonoformer.errors import UserError
from sonoformer.nn.blocks import Attention, Block, Mlp
from sonoformer.nn.patches import grid_of

Petl = Literal[
    "bitfit", "norms", "lora", "dora", "ia3", "houlsby", "pfeiffer", "adaptformer", "conformer",
    "mixture", "prompt", "deep-prompt", "prefix",
]  # fmt: skip
_NAME = "adapter"


@dataclass(frozen=True)
class PetlConfig:
    """Sizes and places of the weights that train beside a frozen encoder."""

    rank: int = 8
    """lora, dora: rank of each product."""
    alpha: float | None = None
    """lora, dora: scale times rank; twice the rank if absent."""
    targets: Literal["qv", "qkv", "all"] = "qv"
    """lora, dora: queries and values; keys too; or every projection of a block. State-space blocks
    have no queries: their first and last projection, or with `all` those of the steps too."""
    width: int = 0
    """houlsby, pfeiffer, adaptformer, conformer, mixture: width of the bottlenecks; 0 for the
    method's own (12, 12, 64, 8, 6 at a dimension of 768, in proportion for others; 8 at least for
    conformer)."""
    place: Literal["parallel", "sequential"] = "parallel"
    """houlsby, pfeiffer: beside the layer, hearing what it hears; or behind, hearing what it
    answers."""
    residual: bool | None = None
    """houlsby, pfeiffer: also add what the adapter hears. Sequential needs it, parallel must not
    have it to begin as the encoder was; that is what absent means."""
    kernel: int = 31
    """conformer: tokens that the convolution spans."""
    experts: int = 7
    """mixture: adapters."""
    slots: int = 1
    """mixture: slots of each adapter."""
    learned: int = 25
    """prompt, deep-prompt, prefix: learned vectors."""
    norms: Literal["none", "final", "sites"] = "final"
    """Which norms of the encoder train too: the last; and those before each adapted layer."""

    def __post_init__(self) -> None:
        for name in ("rank", "kernel", "experts", "slots", "learned"):
            if getattr(self, name) < 1:
                raise UserError(f"petl.{name}: must be at least 1; got {getattr(self, name)}.")
        if self.kernel % 2 == 0:
            raise UserError(f"petl.kernel: must be odd; got {self.kernel}.")
        if self.width < 0:
            raise UserError(f"petl.width: must be at least 0; got {self.width}.")
        if self.alpha is not None and not self.alpha > 0:
            raise UserError(f"petl.alpha: must be above 0; got {self.alpha}.")


class Method(NamedTuple):
    """A method.

    Attributes:
        about: what trains, in a line.
        install: changes the encoder and returns the layers' norms that it concerns.
        rate: peak learning rate by default: those of Cappellazzo et al. (MLSP 2024).
    """

    about: str
    install: Callable[[nn.Module, PetlConfig], list[nn.LayerNorm]]
    rate: float = 5e-3


def install(encoder: nn.Module, method: Petl, config: PetlConfig = PetlConfig()) -> list[str]:
    """Freeze an encoder and give it the weights of a method.

    Args:
        encoder: changed in place; its weights keep their names.
        method: one of `METHODS`.
        config: the options.

    Returns:
        Names of the parameters that train. They stand in `encoder.adapted` too, by which
        `adaptation.parameters` tells them.

    Raises:
        UserError: the method does not fit the encoder, or it was adapted before.
    """
    if getattr(encoder, "adapted", None) is not None:
        raise UserError(
            f"method: the encoder was adapted before; merge that, then install {method}"
        )
    before = {name for name, _ in encoder.named_parameters()}
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    norms = METHODS[method].install(encoder, config)
    for name, parameter in encoder.named_parameters():
        if name not in before:
            parameter.requires_grad_(True)
    if method not in ("bitfit", "norms") and config.norms != "none":
        final = [m for n, m in encoder.named_children() if isinstance(m, nn.LayerNorm)]
        for norm in final + (norms if config.norms == "sites" else []):
            norm.requires_grad_(True)
    names = [name for name, p in encoder.named_parameters() if p.requires_grad]
    encoder.adapted = frozenset(names)  # type: ignore[assignment]
    return names


def merge(encoder: nn.Module) -> None:
    """Make ordinary layers of those that LoRA, DoRA or IA3 adapted; the encoder computes the same.

    Raises:
        UserError: it has adapters or prompts, which no ordinary layer computes.
    """
    if any(isinstance(m, Adapter | Prefix | Prompt) for m in encoder.modules()):
        raise UserError(
            "merge: adapters and prompts cannot be merged; save them beside the encoder"
        )
    for name, module in list(encoder.named_modules()):
        if isinstance(module, AdaptedLinear):
            _replace(encoder, name, module.merged())
    encoder.adapted = None  # type: ignore[assignment]


# Methods ------------------------------------------------------------------------------------------


def _bitfit(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(name.endswith(".bias"))
    return []


def _norms(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    for module in encoder.modules():
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            module.requires_grad_(True)
    return []


def _lora(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    return _products(encoder, config, Lora)


def _dora(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    return _products(encoder, config, Dora)


def _products(encoder: nn.Module, config: PetlConfig, kind: type[Lora]) -> list[nn.LayerNorm]:
    scale = 2.0 if config.alpha is None else config.alpha / config.rank
    norms = []
    for site in sites(encoder):
        for name, rows in _targets(site, config.targets):
            layer = site.layer.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            smallest = min(layer.in_features, *(last - first for first, last in rows))
            if config.rank > smallest:
                raise UserError(
                    f"petl.rank: {config.rank} is more than the {smallest} that {name} of "
                    f"{type(encoder).__name__} has; choose a smaller one"
                )
            _replace(site.layer, name, kind(layer, rows, config.rank, scale))
            norms.append(site.norm)
    return norms


def _targets(site: Site, targets: str) -> list[tuple[str, Rows]]:
    """Linear layers of a site and which of their outputs are adapted."""
    layer = site.layer
    if isinstance(layer, Attention):
        dim = layer.proj.in_features
        thirds = [(0, dim), (dim, 2 * dim), (2 * dim, 3 * dim)]
        rows = [thirds[0], thirds[2]] if targets == "qv" else thirds
        return [("qkv", rows), *([("proj", [(0, dim)])] if targets == "all" else [])]
    wide = targets == "all"
    if isinstance(layer, Mlp) and not wide:
        return []
    found: list[tuple[str, Rows]] = []
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear) and (wide or name in ("in_proj", "out_proj")):
            # Step sizes are chosen through a bottleneck that is narrow already.
            if name.endswith("dt_proj"):
                continue
            found.append((name, [(0, module.out_features)]))
    return found


def _ia3(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    norms = []
    for site in sites(encoder):
        layer = site.layer
        if isinstance(layer, Attention):
            dim = layer.proj.in_features
            places: list[tuple[str, Rows]] = [("qkv", [(dim, 2 * dim), (2 * dim, 3 * dim)])]
        elif isinstance(layer, Mlp):
            places = [("fc2", [])]
        else:
            places = [("out_proj", [])]
        for name, rows in places:
            _replace(layer, name, Scaled(layer.get_submodule(name), rows))  # type: ignore[arg-type]
        norms.append(site.norm)
    return norms


_Make = Callable[[nn.Module, Site, int, PetlConfig], Adapter]


def _adapters(
    kinds: tuple[str, ...], own: int, make: _Make, *, placed: bool = False
) -> Callable[[nn.Module, PetlConfig], list[nn.LayerNorm]]:
    """Adapters at the sites of some kinds; where a block has only one kind, there.

    Args:
        kinds: of sites.
        own: width of the bottlenecks at a dimension of 768.
        make: encoder, site, width and options -> an adapter.
        placed: whether `place` and `residual` may be chosen; else it works beside the layer.
    """

    def installed(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
        places = _places(encoder, kinds)
        for site in places:
            width = _width(config, own, site.norm.normalized_shape[0])
            adapter = make(encoder, site, width, config)
            chosen = (config.place, config.residual) if placed else ("parallel", None)
            _attach(site.layer, adapter, *chosen)
        return [site.norm for site in places]

    return installed


def _bottleneck(encoder: nn.Module, site: Site, width: int, config: PetlConfig) -> Adapter:
    return Bottleneck(site.norm.normalized_shape[0], width)


def _adaptformer(encoder: nn.Module, site: Site, width: int, config: PetlConfig) -> Adapter:
    return Bottleneck(site.norm.normalized_shape[0], width, "relu", scale=0.1)


def _conformer(encoder: nn.Module, site: Site, width: int, config: PetlConfig) -> Adapter:
    shape: Any = encoder.config
    rows, _ = grid_of(shape.front.n_mels, shape.patch[1], shape.patch, shape.stride)
    # State-space blocks see one line of the tokens that are sound, with cls among them.
    lines = (rows, shape.prefix) if isinstance(site.layer, Attention) else (0, 0)
    # Its norm needs some channels to compare.
    width = config.width or max(8, width)
    return Convolution(site.norm.normalized_shape[0], width, config.kernel, *lines)


def _mixture(encoder: nn.Module, site: Site, width: int, config: PetlConfig) -> Adapter:
    return Mixture(site.norm.normalized_shape[0], width, config.experts, config.slots)


def _prompts(deep: bool) -> Callable[[nn.Module, PetlConfig], list[nn.LayerNorm]]:
    def installed(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
        before: Prompt | None = None
        for block in _attention_blocks(encoder, "deep-prompt" if deep else "prompt"):
            first = deep or before is None
            dim = block.norm1.normalized_shape[0]
            made = Prompt(block, 0.02 * torch.randn(config.learned, dim) if first else None)
            if not first:
                assert before is not None
                made.follow(before)
            block.attn.aside = before = made
        return []

    return installed


def _prefix(encoder: nn.Module, config: PetlConfig) -> list[nn.LayerNorm]:
    for block in _attention_blocks(encoder, "prefix"):
        dim = block.norm1.normalized_shape[0]
        block.attn.aside = Prefix(dim, block.attn.heads, config.learned)
    return []


METHODS: dict[str, Method] = {
    "bitfit": Method("all biases", _bitfit),
    "norms": Method("scale and shift of all norms", _norms),
    "lora": Method("low-rank products beside queries and values", _lora),
    "dora": Method("the same, and the lengths of the weights' rows", _dora),
    "ia3": Method("factors on keys, values and what the MLP hides", _ia3),
    "houlsby": Method(
        "a bottleneck at each layer of each block",
        _adapters(("mix", "mlp"), 12, _bottleneck, placed=True),
    ),
    "pfeiffer": Method(
        "a bottleneck at each MLP", _adapters(("mlp",), 12, _bottleneck, placed=True)
    ),
    "adaptformer": Method(
        "a wide bottleneck beside each MLP, scaled by 0.1", _adapters(("mlp",), 64, _adaptformer)
    ),
    "conformer": Method(
        "a bottleneck with a convolution in time at each attention",
        _adapters(("mix",), 8, _conformer),
    ),
    "mixture": Method(
        "a soft mixture of bottlenecks at each attention", _adapters(("mix",), 6, _mixture)
    ),
    "prompt": Method(
        "vectors that the first block hears, and hands on", _prompts(deep=False), rate=1e-2
    ),
    "deep-prompt": Method("vectors that each block hears", _prompts(deep=True), rate=1e-2),
    "prefix": Method("keys and values of each attention", _prefix, rate=1e-2),
}
"""Method -> what trains, and how it is put in."""


# Putting in ---------------------------------------------------------------------------------------


def _places(encoder: nn.Module, kinds: tuple[str, ...]) -> list[Site]:
    every = sites(encoder)
    found = [site for site in every if site.kind in kinds]
    return found or every


def _attention_blocks(encoder: nn.Module, method: str) -> list[Block]:
    blocks = [b for b in encoder.get_submodule("blocks").children() if isinstance(b, Block)]
    if not blocks:
        raise UserError(
            f"method {method}: {type(encoder).__name__} has no attention to give keys to; choose "
            "lora, conformer or another that adapts layers"
        )
    return blocks


def _width(config: PetlConfig, own: int, dim: int) -> int:
    return config.width or max(1, math.ceil(own * dim / 768))


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, module)


def _attach(layer: nn.Module, adapter: Adapter, place: str, residual: bool | None) -> None:
    """Let an adapter work beside or behind a layer, by a hook: the layer's weights keep names."""
    setattr(layer, _NAME, adapter)
    if place == "parallel":
        layer.register_forward_hook(_beside_and_more if residual else _beside, with_kwargs=True)
    else:
        layer.register_forward_hook(_behind_alone if residual is False else _behind)


def _beside(layer: nn.Module, args: tuple, kwargs: dict[str, Any], found: Tensor) -> Tensor:
    added = layer.get_submodule(_NAME)(args[0], _valid(args, kwargs))
    return found + added[:, : found.shape[1]]


def _beside_and_more(
    layer: nn.Module, args: tuple, kwargs: dict[str, Any], found: Tensor
) -> Tensor:
    return _beside(layer, args, kwargs, found) + args[0][:, : found.shape[1]]


def _behind(layer: nn.Module, args: tuple, found: Tensor) -> Tensor:
    return found + layer.get_submodule(_NAME)(found)


def _behind_alone(layer: nn.Module, args: tuple, found: Tensor) -> Tensor:
    return layer.get_submodule(_NAME)(found)


def _valid(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """Which tokens are sound: the mask of attention `(batch, 1, 1, tokens)`, or that of a scan."""
    mask = args[1] if len(args) > 1 else kwargs.get("mask", kwargs.get("valid"))
    return mask[:, 0, 0] if mask is not None and mask.ndim == 4 else mask
