"""Frequency scales: published values, inverses, gradients."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from sonoformer.spectral.scales import Scale, from_scale, to_scale

SCALES = get_args(Scale)


@pytest.mark.parametrize("scale", SCALES)
def test_there_and_back(scale: Scale) -> None:
    hertz = torch.cat([torch.logspace(-1, 4.6, 200, dtype=torch.float64), torch.tensor([1000.0])])
    found = to_scale(hertz, scale)
    assert torch.allclose(from_scale(found, scale), hertz, rtol=1e-9, atol=1e-9)
    assert (found[:200].diff() > 0).all()


@pytest.mark.parametrize("scale", SCALES)
def test_gradients(scale: Scale) -> None:
    hertz = torch.tensor([20.0, 900.0, 1100.0, 9000.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: to_scale(h, scale), hertz)
    value = to_scale(hertz.detach(), scale).requires_grad_()
    loose = {"rtol": 1e-2} if scale == "log" else {}
    assert torch.autograd.gradcheck(lambda v: from_scale(v, scale), value, **loose)


@pytest.mark.parametrize(
    ("scale", "hertz", "value"),
    [
        ("slaney", 200.0, 3.0),
        ("slaney", 6400.0, 42.0),
        ("htk", 1000.0, 999.9855),
        ("kaldi", 1000.0, 999.9907),
        # 26.81 f / (1960 + f) - 0.53
        ("bark", 1960.0, 12.875),
        # Zwicker's bands: 1 kHz lies at 8.5 Bark.
        ("bark-zwicker", 1000.0, 8.51),
        # Glasberg and Moore: 15.6 ERB at 1 kHz
        ("erb", 1000.0, 15.57),
        ("linear", 440.0, 440.0),
        ("log", 8.0, 3.0),
    ],
)
def test_published_values(scale: Scale, hertz: float, value: float) -> None:
    found = to_scale(torch.tensor(hertz, dtype=torch.float64), scale).item()
    assert found == pytest.approx(value, abs=5e-2 if scale in ("bark-zwicker", "erb") else 1e-3)
