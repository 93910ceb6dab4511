"""nnAudio's constant-Q classes over `Cqt` and `Cfp`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.cfp import Cfp
from sonoformer.spectral.cqt import Cqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.nnaudio_common import (
    bins_first,
    clips,
    padding,
    refuse_format,
    window_name,
)


class CQT1992v2(nn.Module):
    """Constant-Q transform with nnAudio's arguments, shapes and scales; also called `CQT`.

    Equal to nnAudio's. Differences: computed by FFT unless `trainable`; the trained parameters are
    those of `Cqt` (an octave a table) and no others are in a state dict; magnitudes have no 1e-8
    under the root when trained; clips shorter than a kernel are reflected to and fro instead of
    zero-padded or refused; nothing is printed.
    """

    def __init__(
        self,
        sr: int = 22050,
        hop_length: int = 512,
        fmin: float = 32.70,
        fmax: float | None = None,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        filter_scale: float = 1,
        norm: int = 1,
        window: str | tuple[str, float] = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
        trainable: bool = False,
        output_format: str = "Magnitude",
        verbose: bool = True,
        *,
        gamma: float = 0.0,
    ) -> None:
        super().__init__()
        refuse_format(output_format)
        if fmax is not None:
            n_bins = math.ceil(bins_per_octave * math.log2(fmax / fmin))
        self.config = CqtConfig(
            sample_rate=sr,
            hop_length=hop_length,
            fmin=fmin,
            n_bins=n_bins,
            bins_per_octave=bins_per_octave,
            filter_scale=filter_scale,
            gamma=gamma,
            kernel_norm=int(norm or 0),
            scale="convolutional",
            center=center,
            pad_mode=padding(pad_mode),
            trainable=trainable,
            **_window(window),
        )
        self.cqt = Cqt(self.config)
        self.output_format = output_format
        self.frequencies = self.config.frequencies
        self.kernel_width = self.config.width

    def forward(
        self,
        x: Tensor,
        output_format: str | None = None,
        normalization_type: str = "librosa",
    ) -> Tensor:
        """The transform.

        Args:
            x: `(samples)`, `(batch, samples)` or `(batch, 1, samples)`.
            output_format: Magnitude, Complex or Phase; as constructed if absent.
            normalization_type: librosa, convolutional or wrap.

        Returns:
            `(batch, bins, frames)`, and a last axis of two for Complex and Phase.
        """
        output_format = output_format or self.output_format
        scale = self._scale(normalization_type, x)
        if output_format == "Magnitude":
            return (self.cqt(clips(x))[0] * scale).transpose(1, 2)
        real, imaginary, _ = self.cqt.planes(clips(x))
        return bins_first(real * scale, imaginary * scale, output_format)

    def _scale(self, kind: str, like: Tensor) -> Tensor:
        """`(bins,)`."""
        lengths = torch.tensor(self.config.lengths, dtype=torch.float64)
        scales = {
            "librosa": lengths.sqrt(),
            "convolutional": torch.ones_like(lengths),
            "wrap": torch.full_like(lengths, 2.0),
        }
        if kind not in scales:
            raise UserError(f"normalization_type: must be one of {', '.join(scales)}; got {kind!r}")
        precise = torch.float64 if like.dtype == torch.float64 else torch.float32
        return scales[kind].to(like.device, precise)


class CQT(CQT1992v2):
    """`CQT1992v2`."""


class CQT1992(CQT1992v2):
    """`CQT1992v2` with the arguments of nnAudio's CQT1992; `trainable_STFT` or `trainable_CQT`
    trains the kernels in time.

    Difference: with `normalization_type` convolutional nnAudio's is larger by its `kernel_width`
    than its CQT1992v2; ours are the same. nnAudio's Phase has the sign of the imaginary part
    turned around; ours is the phase of Complex.
    """

    def __init__(
        self,
        sr: int = 22050,
        hop_length: int = 512,
        fmin: float = 220,
        fmax: float | None = None,
        n_bins: int = 84,
        trainable_STFT: bool = False,
        trainable_CQT: bool = False,
        bins_per_octave: int = 12,
        filter_scale: float = 1,
        output_format: str = "Magnitude",
        norm: int = 1,
        window: str | tuple[str, float] = "hann",
        center: bool = True,
        pad_mode: str = "reflect",
    ) -> None:
        super().__init__(
            sr=sr,
            hop_length=hop_length,
            fmin=fmin,
            fmax=fmax,
            n_bins=n_bins,
            bins_per_octave=bins_per_octave,
            filter_scale=filter_scale,
            norm=norm,
            window=window,
            center=center,
            pad_mode=pad_mode,
            trainable=trainable_STFT or trainable_CQT,
            output_format=output_format,
        )


class CQT2010v2(CQT1992v2):
    """The exact transform with the arguments of nnAudio's CQT2010v2.

    Differences: nnAudio lowers the sample rate octave by octave, and its magnitudes are off (0.09
    of the largest for harmonic tones and noise, 0.3 and more with `earlydownsample`, its default);
    this is CQT1992v2, to rounding. nnAudio's complex values and its default scale go with the
    lowered rate; ours do not. Hops need not be divisible
    by a power of two. `earlydownsample` and `norm` have no part in an exact result and are
    accepted only so that calls need no change.
    """

    def __init__(
        self,
        sr: int = 22050,
        hop_length: int = 512,
        fmin: float = 32.70,
        fmax: float | None = None,
        n_bins: int = 84,
        filter_scale: float = 1,
        bins_per_octave: int = 12,
        norm: bool = True,
        basis_norm: int = 1,
        window: str | tuple[str, float] = "hann",
        pad_mode: str = "reflect",
        earlydownsample: bool = True,
        trainable: bool = False,
        output_format: str = "Magnitude",
        verbose: bool = True,
        *,
        gamma: float = 0.0,
    ) -> None:
        super().__init__(
            sr=sr,
            hop_length=hop_length,
            fmin=fmin,
            fmax=fmax,
            n_bins=n_bins,
            bins_per_octave=bins_per_octave,
            filter_scale=filter_scale,
            norm=basis_norm,
            window=window,
            pad_mode=pad_mode,
            trainable=trainable,
            output_format=output_format,
            gamma=gamma,
        )


class CQT2010(CQT2010v2):
    """The exact transform with the arguments of nnAudio's CQT2010; differences as for CQT2010v2.
    `trainable_STFT` or `trainable_CQT` trains the kernels in time."""

    def __init__(
        self,
        sr: int = 22050,
        hop_length: int = 512,
        fmin: float = 32.70,
        fmax: float | None = None,
        n_bins: int = 84,
        bins_per_octave: int = 12,
        norm: bool = True,
        basis_norm: int = 1,
        window: str | tuple[str, float] = "hann",
        pad_mode: str = "reflect",
        trainable_STFT: bool = False,
        filter_scale: float = 1,
        trainable_CQT: bool = False,
        output_format: str = "Magnitude",
        earlydownsample: bool = True,
        verbose: bool = True,
    ) -> None:
        super().__init__(
            sr=sr,
            hop_length=hop_length,
            fmin=fmin,
            fmax=fmax,
            n_bins=n_bins,
            filter_scale=filter_scale,
            bins_per_octave=bins_per_octave,
            basis_norm=basis_norm,
            window=window,
            pad_mode=pad_mode,
            trainable=trainable_STFT or trainable_CQT,
            output_format=output_format,
        )


class VQT(CQT2010v2):
    """The exact variable-Q transform with the arguments of nnAudio's VQT; differences as for
    CQT2010v2. (nnAudio computes with a Hann window whatever `window` is.)"""

    def __init__(
        self,
        sr: int = 22050,
        hop_length: int = 512,
        fmin: float = 32.70,
        fmax: float | None = None,
        n_bins: int = 84,
        filter_scale: float = 1,
        bins_per_octave: int = 12,
        norm: bool = True,
        basis_norm: int = 1,
        gamma: float = 0,
        window: str | tuple[str, float] = "hann",
        pad_mode: str = "reflect",
        earlydownsample: bool = True,
        trainable: bool = False,
        output_format: str = "Magnitude",
        verbose: bool = True,
    ) -> None:
        super().__init__(
            sr=sr,
            hop_length=hop_length,
            fmin=fmin,
            fmax=fmax,
            n_bins=n_bins,
            filter_scale=filter_scale,
            bins_per_octave=bins_per_octave,
            basis_norm=basis_norm,
            window=window,
            pad_mode=pad_mode,
            trainable=trainable,
            output_format=output_format,
            gamma=gamma,
        )


class Combined_Frequency_Periodicity(nn.Module):  # noqa: N801
    """`Cfp` with nnAudio's arguments; salience, magnitude, spectrum and cepstrum, each
    `(batch, bins, frames)` without the first and the last frame.

    Equal to nnAudio's, whose own does not run with scipy 1.17 and torch 2.13. Differences: spectra
    have an even number of samples.
    """

    def __init__(
        self,
        fr: float = 2,
        fs: int = 16000,
        hop_length: int = 320,
        window_size: int = 2049,
        fc: float = 80,
        tc: float = 1 / 1000,
        g: Sequence[float] = (0.24, 0.6, 1),
        NumPerOct: int = 48,
    ) -> None:
        super().__init__()
        self.cfp = Cfp(
            sample_rate=fs,
            hop_length=hop_length,
            window_length=window_size,
            resolution_hz=fr,
            low_hz=fc,
            high_hz=1 / tc,
            powers=tuple(float(power) for power in g),
            bins_per_octave=NumPerOct,
            grid="nnaudio",
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Four of `(batch, bins, frames - 2)`, of `(samples)` or `(batch, samples)`."""
        parts, _ = self.cfp.parts(clips(x))
        z, magnitude, low, high = (part[:, 1:-1].transpose(1, 2) for part in parts)
        return z, magnitude, low, high


class CFP(Combined_Frequency_Periodicity):
    """The salience alone, `(batch, bins, frames)`, of all frames."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """`(batch, bins, frames)`."""
        return self.cfp(clips(x))[0].transpose(1, 2)


def _window(window: str | tuple[str, float]) -> dict[str, Any]:
    if isinstance(window, str):
        return {"window": window_name(window)}
    if len(window) == 2 and window[0] == "gaussian":
        return {"window": "gaussian", "attenuation_db": float(window[1])}
    raise UserError(f"window: must be a name or ('gaussian', decibels); got {window!r}")
