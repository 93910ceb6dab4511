"""Filter banks that published models were trained with."""

from __future__ import annotations

from sonoformer.spectral.kaldi import FbankConfig
from sonoformer.spectral.mel_config import MelConfig


def _whisper(n_mels: int) -> MelConfig:
    """`(log10 power + 4) / 4`, not more than 80 dB below the clip's loudest value."""
    return MelConfig(
        sample_rate=16000,
        n_fft=400,
        hop_length=160,
        n_mels=n_mels,
        high_hz=8000.0,
        compression="log10",
        top_db=80.0,
        shift=-4.0,
        scale=0.25,
        last_frame=False,
    )


FILTERBANKS: dict[str, FbankConfig | MelConfig] = {
    "ast": FbankConfig(),
    "kaldi": FbankConfig(window="povey", n_mels=23),
    "whisper": _whisper(80),
    "whisper-large-v3": _whisper(128),
}
"""By name: for `KaldiFbank` (ast; kaldi, which are Kaldi's own defaults without dither, for sound
in [-1, 1]: Kaldi's own values for 16-bit numbers are 20.79 higher), and for `MelSpectrogram`
(whisper, of which transformers' extractor pads clips to 30 s first)."""
