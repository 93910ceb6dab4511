"""nnAudio's short-time Fourier transforms over `Stft` and `Istft`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.griffin_lim import GriffinLim
from sonoformer.spectral.istft import Istft, inverted
from sonoformer.spectral.nnaudio_common import (
    bins_first,
    clips,
    padding,
    refuse_format,
    window_name,
)
from sonoformer.spectral.planes import phase
from sonoformer.spectral.scaled_stft import ScaledStft
from sonoformer.spectral.stft import Stft
from sonoformer.spectral.stft_config import StftConfig


class STFT(nn.Module):
    """Short-time Fourier transform with nnAudio's arguments and shapes.

    Equal to nnAudio's. Differences: computed by FFT unless `trainable` or on another frequency
    scale; `n_fft` is even; `fmax` is at most half the sample rate; magnitudes have no 1e-8 under
    the root when trained; clips shorter than half a frame are reflected to and fro instead of
    refused; nothing is printed.
    """

    def __init__(
        self,
        n_fft: int = 2048,
        win_length: int | None = None,
        freq_bins: int | None = None,
        hop_length: int | None = None,
        window: str = "hann",
        freq_scale: str = "no",
        center: bool = True,
        pad_mode: str = "reflect",
        iSTFT: bool = False,
        fmin: float = 50,
        fmax: float = 6000,
        sr: int = 22050,
        trainable: bool = False,
        output_format: str = "Complex",
        verbose: bool = True,
    ) -> None:
        super().__init__()
        refuse_format(output_format)
        self.output_format, self.freq_bins, self.iSTFT = output_format, freq_bins, iSTFT
        frames: dict[str, Any] = {
            "n_fft": n_fft,
            "win_length": win_length,
            "hop_length": hop_length or (win_length or n_fft) // 4,
            "window": window_name(window),
            "center": center,
            "pad_mode": padding(pad_mode),
        }
        self.stft: Stft | ScaledStft
        if freq_scale == "no":
            self.stft = Stft(**frames, trainable="kernels" if trainable else "none")
            self.bins2freq = [k * sr / n_fft for k in range(freq_bins or n_fft // 2 + 1)]
        else:
            self.stft = ScaledStft(
                **frames,
                sample_rate=sr,
                n_bins=freq_bins or n_fft // 2 + 1,
                scale=_scale(freq_scale),
                low_hz=fmin,
                high_hz=fmax,
                trainable=trainable,
            )
            self.bins2freq = self.stft.config.hertz().tolist()

    def forward(self, x: Tensor, output_format: str | None = None) -> Tensor:
        """The transform.

        Args:
            x: `(samples)`, `(batch, samples)` or `(batch, 1, samples)`.
            output_format: Magnitude, Complex or Phase (radians); as constructed if absent.

        Returns:
            `(batch, bins, frames)`, and a last axis of two for Complex.
        """
        output_format = output_format or self.output_format
        if output_format == "Magnitude" and isinstance(self.stft, Stft):
            return self.stft.magnitude(clips(x))[0][..., : self.freq_bins].transpose(1, 2)
        real, imaginary, _ = self.stft.planes(clips(x))
        real, imaginary = real[..., : self.freq_bins], imaginary[..., : self.freq_bins]
        if output_format == "Phase":
            return phase(real, imaginary).transpose(1, 2)
        return bins_first(real, imaginary, output_format)

    def inverse(
        self, X: Tensor, onesided: bool = True, length: int | None = None, refresh_win: bool = True
    ) -> Tensor:
        """Waveforms `(batch, samples)` of spectra `(batch, bins, frames, 2)`.

        Raises:
            UserError: the module was made without `iSTFT`, or has other frequencies.
        """
        if not self.iSTFT:
            raise UserError("iSTFT: make the module with iSTFT=True to use inverse")
        if not isinstance(self.stft, Stft):
            raise UserError("freq_scale: only spectra of freq_scale 'no' have an inverse")
        real, imaginary = _halves(X, onesided)
        config = self.stft.config
        window = config.analytic_window().to(X.device)
        return inverted(real, imaginary, window, config.framing, None, length)[0]


class iSTFT(nn.Module):  # noqa: N801
    """Inverse short-time Fourier transform with nnAudio's arguments and shapes.

    Equal to nnAudio's. Differences: `trainable_kernels` trains the windowed kernels, with which
    `trainable_window` is trained too; the division by the overlapping windows stays as it was;
    `freq_scale` must be no (nnAudio's result with others is no inverse); `refresh_win` has nothing
    to do, as no window sum is kept; nothing is printed.
    """

    def __init__(
        self,
        n_fft: int = 2048,
        win_length: int | None = None,
        freq_bins: int | None = None,
        hop_length: int | None = None,
        window: str = "hann",
        freq_scale: str = "no",
        center: bool = True,
        fmin: float = 50,
        fmax: float = 6000,
        sr: int = 22050,
        trainable_kernels: bool = False,
        trainable_window: bool = False,
        verbose: bool = True,
        refresh_win: bool = True,
    ) -> None:
        super().__init__()
        if freq_scale != "no":
            raise UserError("freq_scale: only spectra of freq_scale 'no' have an inverse")
        learnt = "kernels" if trainable_kernels else "window" if trainable_window else "none"
        self.istft = Istft(
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length or (win_length or n_fft) // 4,
            window=window_name(window),
            center=center,
            trainable=learnt,
        )

    def forward(
        self,
        X: Tensor,
        onesided: bool = False,
        length: int | None = None,
        refresh_win: bool | None = None,
    ) -> Tensor:
        """Waveforms `(batch, samples)` of spectra `(batch, bins, frames, 2)`; with all `n_fft` bins
        unless `onesided`."""
        real, imaginary = _halves(X, onesided)
        return self.istft(real, imaginary, length=length)[0]


class Griffin_Lim(nn.Module):  # noqa: N801
    """Waveforms from magnitudes, with nnAudio's arguments and shapes.

    Differences: nnAudio's own does not run with torch 2.13, whose inverse transform takes no real
    pairs; the first phases follow from a fixed seed and are uniform (nnAudio draws normal ones
    from the global generator); `device` is accepted only so that calls need no change: sound is
    computed where the magnitudes are.
    """

    def __init__(
        self,
        n_fft: int,
        n_iter: int = 32,
        hop_length: int | None = None,
        win_length: int | None = None,
        window: str = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        momentum: float = 0.99,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        config = StftConfig(
            n_fft=n_fft,
            win_length=win_length,
            hop_length=hop_length or n_fft // 4,
            window=window_name(window),  # type: ignore[arg-type]
            center=center,
            pad_mode=padding(pad_mode),
        )
        self.griffin_lim = GriffinLim(iterations=n_iter, momentum=momentum, stft=config)

    def forward(self, S: Tensor) -> Tensor:
        """Magnitudes `(batch, n_fft / 2 + 1, frames)` -> waveforms `(batch, samples)`."""
        if S.ndim != 3:
            raise ValueError(f"S should be (batch, bins, frames); got {tuple(S.shape)}")
        return self.griffin_lim(S.transpose(1, 2))[0]


def _scale(freq_scale: str) -> str:
    scales = {"linear": "linear", "log": "log", "log2": "log"}
    if freq_scale not in scales:
        raise UserError(f"freq_scale: must be no, {', '.join(scales)}; got {freq_scale!r}")
    return scales[freq_scale]


def _halves(X: Tensor, onesided: bool) -> tuple[Tensor, Tensor]:
    """Planes `(batch, frames, n_fft / 2 + 1)`, of all bins the part that makes a real sound."""
    if X.ndim != 4 or X.shape[-1] != 2:
        raise ValueError(f"X should be (batch, bins, frames, 2); got {tuple(X.shape)}")
    real, imaginary = (plane.transpose(1, 2) for plane in X.unbind(-1))
    if onesided:
        return real, imaginary
    half = real.shape[-1] // 2 + 1

    def other(plane: Tensor) -> Tensor:
        return torch.cat([plane[..., :1], plane[..., half - 1 :].flip(-1)], -1)

    return (real[..., :half] + other(real)) / 2, (imaginary[..., :half] - other(imaginary)) / 2


__all__ = ["STFT", "Griffin_Lim", "iSTFT"]
