"""Blocks computed again in the backward pass, and computed from the middle on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from sonoformer.adaptation.petl import PetlConfig, install
from sonoformer.encoders import (
    AstEncoder,
    PatchEncoder,
    Ssamba2Encoder,
    SsambaEncoder,
    ast_config,
    ssamba,
    ssamba2_config,
    ssamba_config,
)
from sonoformer.spectral import FbankConfig

FRONT = FbankConfig(sample_rate=8000, n_mels=16, mean=-8.0, std=4.0)
SHAPE = {"dim": 16, "depth": 4, "patch": (8, 8), "stride": (8, 8), "table": (2, 6),
         "table_stride": (8, 8), "front": FRONT, "drop_path": 0.5}  # fmt: skip
STATES = {**SHAPE, "states": 4}
ENCODERS: dict[str, Callable[[], PatchEncoder]] = {
    "ast": lambda: AstEncoder(ast_config(**{**SHAPE, "heads": 2})),
    "ssamba": lambda: SsambaEncoder(ssamba_config(**{**STATES, "cls": "middle"})),
    "pairs": lambda: SsambaEncoder(ssamba_config(**{**STATES, "wiring": "reference"})),
    "ssamba2": lambda: Ssamba2Encoder(ssamba2_config(**{**STATES, "head_width": 16})),
}


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> PatchEncoder:
    torch.manual_seed(0)
    return ENCODERS[request.param]()


def sound() -> tuple[Tensor, Tensor]:
    wave = 0.1 * torch.randn(3, 4000, generator=torch.Generator().manual_seed(1))
    return wave, torch.tensor([4000, 2500, 1500])


def gradients(
    encoder: PatchEncoder, checkpointing: bool, half: bool = False
) -> tuple[dict[str, Tensor], int]:
    """Of a loss of all tokens, and how often a block was computed."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hooks = [block.register_forward_pre_hook(count) for block in encoder.blocks]
    encoder.zero_grad()
    encoder.checkpointing = checkpointing
    torch.manual_seed(7)  # of the branches that are left out
    with torch.autocast("cpu", torch.bfloat16) if half else nullcontext():
        wave, lengths = sound()
        loss = encoder.pooled(wave, lengths, "cls").sin().sum()
        loss = loss + encoder(wave, lengths).pool("mean").sin().sum()
    loss.backward()
    for hook in hooks:
        hook.remove()
    return {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}, calls


@pytest.mark.parametrize("half", [False, True])
def test_gradients_are_the_same(encoder: PatchEncoder, half: bool) -> None:
    encoder.train()
    plain, calls = gradients(encoder, False, half)
    again, more = gradients(encoder, True, half)
    assert more == 2 * calls
    assert plain.keys() == again.keys()
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert any(value.abs().sum() > 0 for value in plain.values())


@pytest.mark.parametrize("name", ["ssamba", "ssamba2"])
def test_state_space_blocks_are_computed_again_for_many_tokens(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = ENCODERS[name]().train()
    plain, calls = gradients(encoder, False)
    monkeypatch.setattr(ssamba, "_MANY", 3 * 13)  # three clips of 12 tokens and cls
    again, more = gradients(encoder, False)
    assert more == 2 * calls
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    monkeypatch.setattr(ssamba, "_MANY", 3 * 13 + 1)
    assert gradients(encoder, False)[1] == calls


def test_adapters_get_theirs() -> None:
    torch.manual_seed(0)
    encoder = ENCODERS["ast"]()
    names = install(encoder, "houlsby", PetlConfig())
    with torch.no_grad():
        for name in names:
            encoder.get_parameter(name).normal_(0, 0.1)
    encoder.train()
    plain, _ = gradients(encoder, False)
    again, _ = gradients(encoder, True)
    assert set(plain) == set(again) == set(names)
    assert all(torch.equal(again[name], value) for name, value in plain.items())


def test_nothing_is_computed_twice_without_gradients(encoder: PatchEncoder) -> None:
    encoder.eval()
    encoder.checkpointing = True
    wave, lengths = sound()
    with torch.no_grad():
        found = encoder(wave, lengths).x
    encoder.checkpointing = False
    assert torch.equal(found, encoder(wave, lengths).x)


def test_blocks_go_on_from_the_middle(encoder: PatchEncoder) -> None:
    encoder.eval()
    wave, lengths = sound()
    whole = encoder(wave, lengths, layers=(0,))
    rest = encoder.encode(whole.layers[0], whole.valid, whole.grid, start=1)
    real = torch.cat([whole.valid.new_ones(3, whole.prefix), whole.valid], 1)
    assert rest.prefix == whole.prefix
    torch.testing.assert_close(rest.x[real], whole.x[real])
