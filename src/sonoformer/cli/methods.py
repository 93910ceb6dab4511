"""`sonoformer finetune --method list`: what can train, and how much of the encoder that is."""

from __future__ import annotations

import copy

import torch
from torch import nn

from sonoformer.adaptation.petl import METHODS, Petl, PetlConfig, install
from sonoformer.cli.options import say
from sonoformer.encoders import AstEncoder, ast_config, load_encoder
from sonoformer.errors import UserError


def list_methods(init: str | None) -> None:
    """Print each method with the weights that it trains, of the encoder of `--init` or of base."""
    encoder = load_encoder(init) if init else AstEncoder(ast_config("base"))
    whole = sum(p.numel() for p in encoder.parameters())
    say(f"of {whole:,} weights of {init or 'an AST base (or --init another)'}; heads come to it")
    say(f"{'method':12} {'weights':>11}    share  rate")
    say(f"{'train':12} {whole:>11,}   100 %   0.0003  everything, or --weights partial, or head")
    say(f"{'probe':12} {0:>11,}     0 %       -   a linear classifier of frozen features")
    for name, method in METHODS.items():
        try:
            count = _count(encoder, name)  # type: ignore[arg-type]
        except UserError:
            say(f"{name:12} {'-':>11}       -       -   {method.about}: does not fit it")
            continue
        say(
            f"{name:12} {count:>11,} {100 * count / whole:5.2f} %  {method.rate:7g}  {method.about}"
        )


def _count(encoder: nn.Module, method: Petl) -> int:
    with torch.device("meta"):
        made = copy.deepcopy(encoder).to("meta")
        names = install(made, method, PetlConfig())
    return sum(made.get_parameter(name).numel() for name in names)
