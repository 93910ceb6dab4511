"""Waveforms <-> time-frequency pictures, differentiable, on any device."""

from sonoformer.spectral.cfp import Cfp
from sonoformer.spectral.config import PRESETS, FbankConfig
from sonoformer.spectral.cqt import Cqt, Vqt
from sonoformer.spectral.filterbank import FilterBank
from sonoformer.spectral.front import FrontEnd
from sonoformer.spectral.istft import Istft
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.leaf import Leaf
from sonoformer.spectral.mel_spectrogram import MelConfig, MelSpectrogram
from sonoformer.spectral.mfcc import Gfcc, Mfcc
from sonoformer.spectral.pcen import Pcen
from sonoformer.spectral.statistics import RunningStatistics, Statistics, measure
from sonoformer.spectral.stft import Stft

__all__ = [
    "PRESETS",
    "Cfp",
    "Cqt",
    "FbankConfig",
    "FilterBank",
    "FrontEnd",
    "Gfcc",
    "Istft",
    "KaldiFbank",
    "Leaf",
    "MelConfig",
    "MelSpectrogram",
    "Mfcc",
    "Pcen",
    "RunningStatistics",
    "Statistics",
    "Stft",
    "Vqt",
    "measure",
]
