"""Frequency scales: hertz to mel, Bark, ERB rate, octaves, and back; differentiable."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["slaney", "htk", "kaldi", "bark", "bark-zwicker", "erb", "linear", "log"]

EAR_Q, LEAST_BANDWIDTH = 9.26449, 24.7
"""The equivalent rectangular bandwidth at f is f / 9.26449 + 24.7 Hz (Glasberg and Moore 1990)."""

_SLANEY_HZ, _SLANEY_MEL = 1000.0, 15.0
_SLANEY_STEP = math.log(6.4) / 27
"""Slaney's mel is linear to 1 kHz (mel 15), then logarithmic, 27 to a factor of 6.4."""
_MEL = {"htk": 2595 / math.log(10), "kaldi": 1127.0}


def to_scale(hertz: Tensor, scale: Scale) -> Tensor:
    """Hertz on a scale.

    Args:
        hertz: any shape, at least 0 (above 0 for `log`).
        scale: slaney, the mel scale of librosa; htk and kaldi, 2595 log10(1 + f/700) and
            1127 ln(1 + f/700); bark, Traunmüller 1990 without his corrections at the ends;
            bark-zwicker, Zwicker and Terhardt 1980; erb, the ERB rate of Glasberg and Moore 1990;
            linear, hertz; log, octaves above 1 Hz.
    """
    if scale == "slaney":
        log = (hertz.clamp_min(_SLANEY_HZ) / _SLANEY_HZ).log() / _SLANEY_STEP
        return torch.where(hertz < _SLANEY_HZ, 3 * hertz / 200, _SLANEY_MEL + log)
    if scale in _MEL:
        return _MEL[scale] * (hertz / 700).log1p()
    if scale == "bark":
        return 26.81 * hertz / (1960 + hertz) - 0.53
    if scale == "bark-zwicker":
        return 13 * (0.00076 * hertz).atan() + 3.5 * (hertz / 7500).square().atan()
    if scale == "erb":
        return EAR_Q * (hertz / (EAR_Q * LEAST_BANDWIDTH)).log1p()
    return hertz.log2() if scale == "log" else hertz


def from_scale(value: Tensor, scale: Scale) -> Tensor:
    """The inverse of `to_scale`."""
    if scale == "slaney":
        log = _SLANEY_HZ * ((value.clamp_min(_SLANEY_MEL) - _SLANEY_MEL) * _SLANEY_STEP).exp()
        return torch.where(value < _SLANEY_MEL, 200 * value / 3, log)
    if scale in _MEL:
        return 700 * (value / _MEL[scale]).expm1()
    if scale == "bark":
        return 1960 * (value + 0.53) / (26.28 - value)
    if scale == "bark-zwicker":
        return _from_zwicker(value)
    if scale == "erb":
        return EAR_Q * LEAST_BANDWIDTH * (value / EAR_Q).expm1()
    return value.exp2() if scale == "log" else value


def _from_zwicker(value: Tensor) -> Tensor:
    """Halving, since there is no formula; then a step of Newton, which also has the gradient."""
    with torch.no_grad():
        low, high = torch.zeros_like(value), torch.full_like(value, 2.0**20)
        for _ in range(60):
            middle = (low + high) / 2
            above = to_scale(middle, "bark-zwicker") > value
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        hertz = (low + high) / 2
        slope = 13 * 0.00076 / (1 + (0.00076 * hertz).square())
        slope = slope + 7 * hertz / 7500**2 / (1 + (hertz / 7500).pow(4))
        reached = to_scale(hertz, "bark-zwicker")
    return hertz + (value - reached) / slope
