"""Waveforms <-> time-frequency pictures, differentiable, on any device."""

from sonoformer.spectral.cfp import Cfp, CfpConfig
from sonoformer.spectral.config import PRESETS, FbankConfig
from sonoformer.spectral.cqt import Cqt, Vqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_inverse import CqtInverse
from sonoformer.spectral.cqt_stream import CqtStream
from sonoformer.spectral.deltas import deltas
from sonoformer.spectral.filterbank import FilterBank
from sonoformer.spectral.front import FrontEnd
from sonoformer.spectral.griffin_lim import GriffinLim
from sonoformer.spectral.inverse_mel import InverseMel
from sonoformer.spectral.istft import Istft
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.leaf import Leaf
from sonoformer.spectral.mel_spectrogram import MelConfig, MelSpectrogram
from sonoformer.spectral.mfcc import Gfcc, Mfcc
from sonoformer.spectral.pcen import Pcen
from sonoformer.spectral.presets import FILTERBANKS
from sonoformer.spectral.statistics import RunningStatistics, Statistics, measure
from sonoformer.spectral.stft import Stft

__all__ = [
    "FILTERBANKS",
    "PRESETS",
    "Cfp",
    "CfpConfig",
    "Cqt",
    "CqtConfig",
    "CqtInverse",
    "CqtStream",
    "FbankConfig",
    "FilterBank",
    "FrontEnd",
    "Gfcc",
    "GriffinLim",
    "InverseMel",
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
    "deltas",
    "measure",
]
