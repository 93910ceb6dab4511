"""PCEN: the recursion frame by frame, streaming, gradients, and what it takes away."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.pcen import Pcen, PcenConfig, one_pole


def energies(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).exp()


def transcribed(energy: Tensor, config: PcenConfig, smooth: float) -> Tensor:
    """The formulas, a frame at a time."""
    mean, out = energy[0], []
    for frame in energy:
        mean = (1 - smooth) * mean + smooth * frame
        level = frame / (config.eps + mean) ** config.gain
        out.append((level + config.bias) ** config.root - config.bias**config.root)
    return torch.stack(out)


@pytest.mark.parametrize("frames", [1, 2, 63, 64, 65, 300])
@pytest.mark.parametrize(
    "config", [PcenConfig(), PcenConfig(0.8, 10.0, 0.25, 0.06), PcenConfig(gain=0.0)]
)
def test_is_the_recursion(frames: int, config: PcenConfig) -> None:
    energy = energies(frames, 5)
    pcen = Pcen(5, 100.0, config).double()
    smooth = pcen.logit_smooth.sigmoid()[0].item()
    assert (pcen(energy) - transcribed(energy, config, smooth)).abs().max() < 1e-6
    assert pcen(energy.float()).dtype == torch.float32
    assert (pcen(energy.float()) - pcen(energy)).abs().max() < 1e-4


def test_the_smoother_has_the_wanted_time_constant() -> None:
    """Its impulse response has the same centre of gravity as an exponential of that constant."""
    pcen = Pcen(1, 100.0, PcenConfig(seconds=0.2)).double()
    impulse = torch.zeros(2000, 1, dtype=torch.float64)
    impulse[0] = 1
    answer = one_pole(impulse, pcen.logit_smooth.sigmoid(), torch.zeros(1, dtype=torch.float64))
    time = torch.arange(2000, dtype=torch.float64)
    spread = (answer[:, 0] * time).sum() ** 2 / answer[:, 0].sum() ** 2
    assert spread.sqrt() == pytest.approx(20.0, rel=0.03)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=6))
def test_any_chunks_give_the_whole(chunks: list[int]) -> None:
    energy = energies(2, sum(chunks), 3)
    pcen = Pcen(3, 50.0).double()
    state, parts = None, []
    for chunk in energy.split(chunks, dim=1):
        part, state = pcen.stream(chunk, state)
        parts.append(part)
    assert (torch.cat(parts, 1) - pcen(energy)).abs().max() < 1e-9


def test_level_and_stationary_colour_are_taken_away() -> None:
    energy = energies(400, 8)
    pcen = Pcen(8, 100.0, PcenConfig(gain=1.0, eps=1e-12)).double()
    colour = torch.logspace(-4, 4, 8, dtype=torch.float64)
    assert (pcen(energy * colour) - pcen(energy)).abs().max() < 1e-6


def test_gradients_and_reset() -> None:
    pcen = Pcen(2, 50.0, PcenConfig(trainable=True)).double()
    energy = energies(9, 2).requires_grad_()
    names = [name for name, _ in pcen.named_parameters()]

    def run(energy: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(pcen, dict(zip(names, values, strict=True)), energy)

    assert torch.autograd.gradcheck(run, (energy, *pcen.parameters()))
    pcen.reset_to_analytic()
    before = pcen(energy).detach()
    with torch.no_grad():
        for value in pcen.parameters():
            value.add_(0.3)
    assert (pcen(energy) - before).abs().max() > 1e-3
    pcen.reset_to_analytic()
    assert torch.equal(pcen(energy), before)
    assert not any(p.requires_grad for p in Pcen(2, 50.0).parameters())


def test_silence_has_finite_gradients() -> None:
    energy = torch.zeros(20, 3, requires_grad=True)
    Pcen(3, 100.0, PcenConfig(trainable=True))(energy).sum().backward()
    assert energy.grad is not None
    assert torch.isfinite(energy.grad).all()


@pytest.mark.parametrize(
    "bad", [{"gain": 1.5}, {"bias": 0.0}, {"root": -1.0}, {"seconds": 0.0}, {"eps": float("nan")}]
)
def test_bad_options(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        PcenConfig(**bad)
