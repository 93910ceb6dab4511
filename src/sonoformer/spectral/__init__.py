"""Waveforms <-> time-frequency pictures, differentiable, on any device."""

from sonoformer.spectral.front import FrontEnd
from sonoformer.spectral.kaldi import PRESETS, FbankConfig, KaldiFbank
from sonoformer.spectral.statistics import RunningStatistics, Statistics, measure

__all__ = [
    "PRESETS",
    "FbankConfig",
    "FrontEnd",
    "KaldiFbank",
    "RunningStatistics",
    "Statistics",
    "measure",
]
