"""The judge of every constant-Q transform: inner products in float64, a bin at a time."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sonoformer.spectral.cqt_config import CqtConfig


def direct(wave: Tensor, config: CqtConfig) -> Tensor:
    """`(samples)` -> `(frames, bins)` complex128, for Hann windows and reflected ends."""
    alpha = 2 ** (1 / config.bins_per_octave) - 1
    hertz = config.fmin * 2 ** (np.arange(config.n_bins) / config.bins_per_octave)
    width = hertz + config.gamma / alpha
    lengths = np.ceil(config.filter_scale / alpha * config.sample_rate / width).astype(int)
    edge = lengths.max() // 2 + 1
    sound = np.pad(wave.double().numpy(), edge + config.hop_length, mode="reflect")
    columns = []
    for f, length in zip(hertz, lengths, strict=True):
        place = np.arange(-((length + 1) // 2), length // 2)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        kernel = hann * np.exp(2j * np.pi * f / config.sample_rate * place)
        kernel /= np.abs(kernel).sum()
        if config.scale == "librosa":
            kernel *= np.sqrt(length)
        first = edge + config.hop_length + place[0]
        rows = np.lib.stride_tricks.sliding_window_view(sound, length)[first :: config.hop_length]
        columns.append(rows[: 1 + len(wave) // config.hop_length] @ kernel.conj())
    return torch.from_numpy(np.stack(columns, 1))


def sounds(samples: int, sample_rate: int) -> dict[str, Tensor]:
    """Noise, tones in and outside of bins, clicks and a sweep, float32."""
    time = torch.arange(samples, dtype=torch.float64) / sample_rate
    turn = 2 * torch.pi * time
    clicks = torch.zeros(samples)
    # One of them where a frame is, so that the largest magnitude is that of a kernel's middle.
    clicks[[4096, 4097, samples // 2]] = 1
    tones = sum((turn * f).sin() for f in (220.0, 440.0, 441.7, 1300.0, 3100.0))
    assert isinstance(tones, Tensor)
    sweep = (turn * (100 + 0.25 * sample_rate * time / (samples / sample_rate)) * 0.5).sin()
    return {
        "noise": torch.randn(samples, generator=torch.Generator().manual_seed(0)),
        "tones": tones.float(),
        "clicks": clicks,
        "sweep": sweep.float(),
    }
