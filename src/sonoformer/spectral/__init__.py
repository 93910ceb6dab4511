"""Waveforms <-> time-frequency pictures, differentiable, on any device."""

from sonoformer.spectral.cfp import Cfp, CfpConfig
from sonoformer.spectral.config import PRESETS, FbankConfig
from sonoformer.spectral.cqt import Cqt, Vqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_inverse import CqtInverse
from sonoformer.spectral.cqt_stream import CqtStream
from sonoformer.spectral.deltas import deltas
from sonoformer.spectral.filterbank import FilterBank, FilterBankConfig
from sonoformer.spectral.front import FrontEnd
from sonoformer.spectral.griffin_lim import GriffinLim, GriffinLimConfig
from sonoformer.spectral.inverse_mel import InverseMel, InverseMelConfig
from sonoformer.spectral.istft import Istft
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.kaldi_stream import FbankStream
from sonoformer.spectral.leaf import Leaf, LeafConfig
from sonoformer.spectral.mel_spectrogram import MelConfig, MelSpectrogram
from sonoformer.spectral.mfcc import Gfcc, GfccConfig, Mfcc, MfccConfig
from sonoformer.spectral.pcen import Pcen, PcenConfig
from sonoformer.spectral.presets import FILTERBANKS
from sonoformer.spectral.scaled_stft import ScaledStft, ScaledStftConfig
from sonoformer.spectral.statistics import RunningStatistics, Statistics, measure
from sonoformer.spectral.stft import Stft, StftConfig

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
    "FbankStream",
    "FilterBank",
    "FilterBankConfig",
    "FrontEnd",
    "Gfcc",
    "GfccConfig",
    "GriffinLim",
    "GriffinLimConfig",
    "InverseMel",
    "InverseMelConfig",
    "Istft",
    "KaldiFbank",
    "Leaf",
    "LeafConfig",
    "MelConfig",
    "MelSpectrogram",
    "Mfcc",
    "MfccConfig",
    "Pcen",
    "PcenConfig",
    "RunningStatistics",
    "ScaledStft",
    "ScaledStftConfig",
    "Statistics",
    "Stft",
    "StftConfig",
    "Vqt",
    "deltas",
    "measure",
]
