"""nnAudio's class names, arguments and shapes (version 0.3.4) over this package's transforms.

`from sonoformer.spectral.nnaudio import CQT, MelSpectrogram` in place of nnAudio's import is all
that a change takes. Input is `(samples)`, `(batch, samples)` or `(batch, 1, samples)`; output has
bins first, `(batch, bins, frames)`, and real and imaginary parts in a last axis. Each class says
where its values differ from nnAudio's.
"""

from sonoformer.spectral.nnaudio_cqt import (
    CFP,
    CQT,
    CQT1992,
    CQT2010,
    VQT,
    Combined_Frequency_Periodicity,
    CQT1992v2,
    CQT2010v2,
)
from sonoformer.spectral.nnaudio_filters import MFCC, Gammatonegram, MelSpectrogram
from sonoformer.spectral.nnaudio_stft import STFT, Griffin_Lim, iSTFT

__all__ = [
    "CFP",
    "CQT",
    "CQT1992",
    "CQT2010",
    "MFCC",
    "STFT",
    "VQT",
    "CQT1992v2",
    "CQT2010v2",
    "Combined_Frequency_Periodicity",
    "Gammatonegram",
    "Griffin_Lim",
    "MelSpectrogram",
    "iSTFT",
]
