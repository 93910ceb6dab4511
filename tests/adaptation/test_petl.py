"""Every parameter-efficient method on every encoder: the same at the start, and all learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonoformer.adaptation.linears import Dora, Lora
from sonoformer.adaptation.parameters import AdaptationConfig, freeze
from sonoformer.adaptation.petl import METHODS, PetlConfig, install, merge
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.encoders.ssamba import SsambaEncoder, ssamba_config
from sonoformer.encoders.ssamba2 import Ssamba2Encoder, ssamba2_config
from sonoformer.errors import UserError

ENCODERS: dict[str, Callable[[], nn.Module]] = {
    "patches": lambda: AstEncoder(ast_config("micro", dim=32, depth=2)),
    "frames": lambda: AstEncoder(ast_config("micro", "frame", dim=32, depth=2)),
    "ssamba": lambda: SsambaEncoder(ssamba_config("tiny", dim=32, depth=2)),
    "ssamba2": lambda: Ssamba2Encoder(ssamba2_config("tiny", dim=32, depth=2)),
}
ATTENTION = ("prompt", "deep-prompt", "prefix")
PAIRS = [
    (kind, method)
    for kind in ENCODERS
    for method in METHODS
    if "frames" not in kind or method in ("conformer", "lora")
    if "ssamba" not in kind or method not in ATTENTION
]
SMALL = PetlConfig(rank=3, kernel=5, learned=4, experts=3)


def make(kind: str) -> Any:
    torch.manual_seed(0)
    encoder: Any = ENCODERS[kind]().eval()
    with torch.no_grad():  # away from zero biases and equal positions
        for parameter in encoder.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return encoder


def sound(clips: int = 3, samples: int = 9000) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 0.1 * torch.randn(clips, samples, generator=generator)


def stir(encoder: nn.Module, names: list[str]) -> None:
    """Move what trains, as training does."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name in names:
            parameter = encoder.get_parameter(name)
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("kind", "method"), PAIRS)
def test_it_starts_as_the_encoder_was_and_all_of_it_learns(kind: str, method: str) -> None:
    encoder, wave = make(kind), sound()
    lengths = torch.tensor([9000, 6000, 500])
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        before, vector = encoder(wave, lengths).x, encoder.pooled(wave, lengths, "cls")
    names = install(encoder, method, SMALL)
    assert names
    with torch.no_grad():
        torch.testing.assert_close(encoder(wave, lengths).x, before, rtol=0, atol=2e-6)
        torch.testing.assert_close(encoder.pooled(wave, lengths, "cls"), vector, rtol=0, atol=2e-6)
    # Zeros are left behind by the first step, and then everything has a gradient.
    chosen = [encoder.get_parameter(name) for name in names]
    optimiser = torch.optim.SGD(chosen, lr=0.5)
    for _ in range(2):
        optimiser.zero_grad()
        tokens = encoder(wave, lengths)
        weights = torch.randn(tokens.x.shape, generator=torch.Generator().manual_seed(3))
        (tokens.x * weights).mean().backward()
        optimiser.step()
    without = [n for n, p in zip(names, chosen, strict=True) if p.grad is None or not p.grad.any()]
    assert without == []
    frozen = {name for name in state if name not in names}
    now = encoder.state_dict()
    assert all(torch.equal(now[name], state[name]) for name in frozen)


@pytest.mark.parametrize(("kind", "method"), PAIRS)
def test_padding_still_changes_nothing(kind: str, method: str) -> None:
    encoder = make(kind)
    stir(encoder, install(encoder, method, SMALL))
    wave = sound(2)
    wave[1, 5000:] = 0
    with torch.no_grad():
        both = encoder(wave, torch.tensor([9000, 5000]))
        alone = encoder(wave[1:, :5000])
    torch.testing.assert_close(both.pool("mean")[1], alone.pool("mean")[0], rtol=0, atol=2e-5)
    torch.testing.assert_close(both.x[1, 0], alone.x[0, 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", ["patches", "ssamba"])
@pytest.mark.parametrize("method", ["lora", "dora", "ia3"])
@pytest.mark.parametrize("targets", ["qv", "all"])
def test_merged_is_the_same(kind: str, method: str, targets: str) -> None:
    encoder, wave = make(kind), sound()
    names = set(encoder.state_dict())
    options = PetlConfig(rank=3, targets=targets)  # type: ignore[arg-type]
    stir(encoder, install(encoder, method, options))  # type: ignore[arg-type]
    with torch.no_grad():
        before = encoder(wave).x
        cls = encoder.pooled(wave, pool="cls")
        merge(encoder)
        torch.testing.assert_close(encoder(wave).x, before, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(encoder.pooled(wave, pool="cls"), cls, rtol=1e-4, atol=1e-5)
    assert set(encoder.state_dict()) == names
    install(encoder, "bitfit")


def test_lora_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 12)
    for kind in (Lora, Dora):
        lora = kind(layer, [(0, 4), (8, 12)], rank=2, scale=1.5)
        with torch.no_grad():
            for parameter in lora.lora_b:
                parameter.normal_()
        x = torch.randn(5, 6)
        weight = layer.weight.clone()
        for place, (first, last) in enumerate([(0, 4), (8, 12)]):
            down = lora.lora_a[2 * place : 2 * place + 2]
            weight[first:last] += 1.5 * lora.lora_b[place] @ down
            if kind is Dora:
                norm = weight[first:last].norm(dim=1, keepdim=True)
                own = layer.weight[first:last].norm(dim=1, keepdim=True)
                weight[first:last] *= own / norm
        torch.testing.assert_close(lora(x), x @ weight.T + layer.bias)


def test_queries_and_values_only() -> None:
    encoder = make("patches")
    install(encoder, "lora", SMALL)
    attention = encoder.blocks[0].attn
    stir(encoder, ["blocks.0.attn.qkv.lora_b.0", "blocks.0.attn.qkv.lora_b.1"])
    moved = (attention.qkv.adapted()[0] - attention.qkv.weight).abs().sum(1) > 0
    assert moved.tolist() == [True] * 32 + [False] * 32 + [True] * 32


def test_a_parallel_residual_is_an_ablation_and_no_identity() -> None:
    wave = sound()
    for place, residual, same in (
        ("parallel", None, True), ("parallel", False, True), ("parallel", True, False),
        ("sequential", None, True), ("sequential", True, True), ("sequential", False, False),
    ):  # fmt: skip
        encoder = make("patches")
        with torch.no_grad():
            before = encoder(wave).x
            install(encoder, "houlsby", PetlConfig(place=place, residual=residual))  # type: ignore[arg-type]
            assert torch.allclose(encoder(wave).x, before, atol=1e-5) == same


def test_sizes_are_those_of_the_paper() -> None:
    """Weights without the head, of the specification's table for base; the final norm is 1,536."""
    found = {}
    with torch.device("meta"):
        for method, options in {
            "bitfit": {}, "lora": {"rank": 6}, "prefix": {"learned": 12},
            "deep-prompt": {"learned": 25}, "prompt": {"learned": 300},
        }.items():  # fmt: skip
            encoder = AstEncoder(ast_config("base"))
            names = install(encoder, method, PetlConfig(**options, norms="none"))  # type: ignore[arg-type]
            found[method] = sum(encoder.get_parameter(n).numel() for n in names)
    gates = 12 * 12
    assert found["bitfit"] == 102_144 + 768  # theirs freezes the patch embedding's
    assert found["lora"] == 221_184
    assert found["prefix"] == 221_184 + gates
    assert found["deep-prompt"] == 230_400 + gates
    assert found["prompt"] == 230_400 + gates


@pytest.mark.parametrize(
    ("kind", "method", "options", "message"),
    [
        ("ssamba", "prompt", {}, "no attention"),
        ("ssamba", "prefix", {}, "no attention"),
        ("patches", "lora", {"rank": 40}, r"petl\.rank: 40 is more than the 32"),
    ],
)
def test_what_does_not_fit_is_a_sentence(
    kind: str, method: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        install(make(kind), method, PetlConfig(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"rank": 0}, {"kernel": 4}, {"width": -1}, {"alpha": 0.0}, {"learned": 0}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"petl.{next(iter(options))}"):
        PetlConfig(**options)


def test_adapted_twice_or_merged_wrongly() -> None:
    encoder = make("patches")
    install(encoder, "houlsby", SMALL)
    with pytest.raises(UserError, match="adapted before"):
        install(encoder, "lora")
    with pytest.raises(UserError, match="cannot be merged"):
        merge(encoder)


def test_freezing_knows_what_is_adapted() -> None:
    encoder = make("patches")
    names = install(encoder, "lora", SMALL)
    freeze(encoder, AdaptationConfig(), warming=True)
    assert not any(p.requires_grad for p in encoder.parameters())
    freeze(encoder, AdaptationConfig())
    assert [n for n, p in encoder.named_parameters() if p.requires_grad] == names
