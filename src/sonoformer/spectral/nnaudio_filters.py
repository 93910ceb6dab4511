"""nnAudio's mel, cepstral and gammatone classes over `Stft` and `FilterBank`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.mel_spectrogram import MelSpectrogram as Filtered
from sonoformer.spectral.mfcc import cosine_transform
from sonoformer.spectral.nnaudio_common import clips, padding, window_name
from sonoformer.spectral.tables import Tables


class MelSpectrogram(nn.Module):
    """Mel spectrogram with nnAudio's arguments and shapes.

    Equal to nnAudio's. Differences: computed by FFT unless `trainable_STFT`; only what is trained
    is in a state dict; nothing is printed; arguments that nnAudio hands on to its STFT (iSTFT,
    freq_scale, output_format) are refused, as they cannot change the result for the better.
    """

    kind, unit = "mel", 1.0

    def __init__(
        self,
        sr: int = 22050,
        n_fft: int = 2048,
        win_length: int | None = None,
        n_mels: int = 128,
        hop_length: int = 512,
        window: str = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        power: float = 2.0,
        htk: bool = False,
        fmin: float = 0.0,
        fmax: float | None = None,
        norm: int | None = 1,
        trainable_mel: bool = False,
        trainable_STFT: bool = False,
        verbose: bool = True,
    ) -> None:
        super().__init__()
        self.power = power
        gammatone = self.kind == "gammatone"
        self.filtered = Filtered(
            sample_rate=sr,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length,
            window=window_name(window),
            center=center,
            pad_mode=padding(pad_mode),
            n_mels=n_mels,
            kind="gammatone" if gammatone else "htk" if htk else "slaney",
            low_hz=fmin,
            high_hz=fmax,
            norm="slaney" if norm == 1 and not gammatone else "none",
            power=int(power) if power in (1, 2) else 1,
            compression="none",
            trainable_stft="kernels" if trainable_STFT else "none",
            trainable_filters="weights" if trainable_mel else "none",
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(samples)`, `(batch, samples)` or `(batch, 1, samples)` -> `(batch, bins, frames)`."""
        if self.power in (1, 2):
            energy = self.filtered(clips(x))[0]
        else:
            magnitude = self.filtered.stft.magnitude(clips(x))[0]
            positive = magnitude > 0
            powered = torch.where(positive, magnitude, 1).pow(self.power)
            energy = self.filtered.bank(torch.where(positive, powered, 0))
        return energy.transpose(1, 2) * self.unit


class Gammatonegram(MelSpectrogram):
    """Gammatone spectrogram with nnAudio's arguments and shapes.

    Equal to nnAudio's. Differences as for `MelSpectrogram`; `htk` and `norm` do nothing in nnAudio
    and here, and are accepted only so that calls need no change.
    """

    kind = "gammatone"

    def __init__(
        self,
        sr: int = 22050,
        n_fft: int = 2048,
        win_length: int | None = None,
        n_bins: int = 64,
        hop_length: int = 512,
        window: str = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        power: float = 2.0,
        htk: bool = False,
        fmin: float = 0.0,
        fmax: float | None = None,
        norm: int | None = 1,
        trainable_bins: bool = False,
        trainable_STFT: bool = False,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            sr=sr,
            n_fft=n_fft,
            win_length=win_length,
            n_mels=n_bins,
            hop_length=hop_length,
            window=window,
            center=center,
            pad_mode=pad_mode,
            power=power,
            fmin=fmin,
            fmax=fmax,
            trainable_mel=trainable_bins,
            trainable_STFT=trainable_STFT,
        )
        self.unit = 1 / n_fft


class MFCC(Tables):
    """Mel cepstrum with nnAudio's arguments and shapes: decibels of mel energies not more than
    `top_db` under the loudest of the clip, and their orthonormal cosine transform.

    Equal to nnAudio's. Differences as for `MelSpectrogram`; `norm` must be ortho (nnAudio takes
    every value for that).
    """

    cosines: Tensor

    def __init__(
        self,
        sr: int = 22050,
        n_mfcc: int = 20,
        norm: str = "ortho",
        verbose: bool = True,
        ref: float = 1.0,
        amin: float = 1e-10,
        top_db: float | None = 80.0,
        **kwargs: object,
    ) -> None:
        super().__init__()
        if norm != "ortho":
            raise UserError(f"norm: must be ortho; got {norm!r}")
        if amin <= 0 or (top_db is not None and top_db < 0):
            raise UserError(f"amin, top_db: must be above 0 and at least 0; got {amin}, {top_db}")
        self.melspec_layer = MelSpectrogram(sr=sr, **kwargs)  # type: ignore[arg-type]
        self.amin, self.top_db = amin, top_db
        self.offset = 10 * math.log10(max(amin, abs(ref)))
        count = self.melspec_layer.filtered.config.n_mels
        if not 1 <= n_mfcc <= count:
            raise UserError(f"n_mfcc: must lie within 1 to n_mels ({count}); got {n_mfcc}")
        self.count = count, n_mfcc
        self._lay_tables()

    def forward(self, x: Tensor) -> Tensor:
        """`(samples)`, `(batch, samples)` or `(batch, 1, samples)` -> `(batch, n_mfcc, frames)`."""
        level = 10 * self.melspec_layer(x).clamp_min(self.amin).log10() - self.offset
        if self.top_db is not None:
            level = torch.maximum(level, level.amax((1, 2), keepdim=True) - self.top_db)
        return self.cosines.T.to(level.dtype) @ level

    def _tables(self) -> dict[str, Tensor]:
        return {"cosines": cosine_transform(*self.count)}


__all__ = ["MFCC", "Gammatonegram", "MelSpectrogram"]
