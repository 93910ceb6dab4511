"""A Fourier transform at frequencies of one's own: linear between two, or logarithmic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.framing import Framing, PadMode
from sonoformer.spectral.kernels import fourier
from sonoformer.spectral.options import (
    configured,
    refuse_not_positive,
    refuse_outside,
    refuse_unknown,
)
from sonoformer.spectral.planes import measured, phase
from sonoformer.spectral.scales import Scale, from_scale, to_scale
from sonoformer.spectral.stft_config import StftConfig
from sonoformer.spectral.tables import Tables
from sonoformer.spectral.windows import WindowName


@dataclass(frozen=True)
class ScaledStftConfig:
    """Frames, window and frequencies."""

    sample_rate: int = 22050
    """Hz of the waveforms."""
    n_fft: int = 2048
    """Samples of a frame, even."""
    win_length: int | None = None
    """Samples of the window, in the middle of the frame; all of it if absent."""
    hop_length: int = 512
    """Samples from one frame to the next."""
    window: WindowName = "hann"
    """Periodic window."""
    center: bool = True
    """Frame t is centred on sample t * hop_length; otherwise it begins there."""
    pad_mode: PadMode = "reflect"
    """What a centred transform puts before and after a clip."""
    n_bins: int = 256
    """Frequencies."""
    scale: Scale = "log"
    """The scale that they are equally spaced on."""
    low_hz: float = 50.0
    """The first frequency."""
    high_hz: float = 6000.0
    """Where the frequency after the last one would be."""
    trainable: bool = False
    """Learn every cosine and sine."""

    def __post_init__(self) -> None:
        _ = self.stft
        refuse_outside(self, 1, 2**16, "n_bins")
        refuse_not_positive(self, "sample_rate")
        refuse_unknown(self, scale=Scale)
        if not 0 <= self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz} to {self.high_hz} Hz must rise and lie within "
                f"0 to {self.sample_rate / 2:g} Hz"
            )
        if self.scale == "log" and self.low_hz == 0:
            raise UserError("low_hz: a logarithmic scale begins above 0 Hz")
        if self.n_bins * self.n_fft > 2**27:
            raise UserError(
                f"n_bins, n_fft: {self.n_bins} bins over {self.n_fft} samples are too many"
            )

    @property
    def stft(self) -> StftConfig:
        """Frames and window."""
        return StftConfig(
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            window=self.window,
            center=self.center,
            pad_mode=self.pad_mode,
        )

    @property
    def framing(self) -> Framing:
        """Where frames stand."""
        return self.stft.framing

    def hertz(self) -> Tensor:
        """`(n_bins,)` float64: the frequencies."""
        ends = torch.tensor([self.low_hz, self.high_hz], dtype=torch.float64)
        low, high = to_scale(ends, self.scale).tolist()
        steps = torch.arange(self.n_bins, dtype=torch.float64) / self.n_bins
        return from_scale(low + (high - low) * steps, self.scale)

    def analytic_kernels(self) -> Tensor:
        """`(n_fft, 2 n_bins)` float64."""
        return fourier(self.stft.analytic_window(), self.hertz() / self.sample_rate)


class ScaledStft(Tables):
    """Waveforms -> spectra at chosen frequencies, by one matrix product; fp32 also under autocast.

    All frequencies have the frame's resolution, sample_rate / n_fft: a logarithmic scale lies
    closer than that below, and leaves gaps above. For a resolution that follows the frequency
    there is the constant-Q transform.
    """

    kernels: Tensor

    def __init__(self, config: ScaledStftConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(ScaledStftConfig, config, options)
        self._lay_tables()
        if config.trainable:
            self.kernels = nn.Parameter(config.analytic_kernels().float())

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Complex spectra `(…, frames, n_bins)` of `(…, samples)`, and frames of each clip."""
        re, im, frames = self.planes(wave, lengths)
        return torch.complex(re, im), frames

    def planes(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Real and imaginary parts `(…, frames, n_bins)`, and frames of each clip."""
        config, framing = self.config, self.config.framing
        clips, ends, frames = framing.clips(wave, lengths)
        with torch.autocast(clips.device.type, enabled=False):
            cut = framing.padded(clips, ends).unfold(1, config.n_fft, config.hop_length)
            both = cut @ self.kernels.to(clips.dtype)
            both = both.reshape(*wave.shape[:-1], *both.shape[1:])
        return both[..., : config.n_bins], both[..., config.n_bins :], frames

    def power(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Squared magnitudes `(…, frames, n_bins)`, and frames of each clip."""
        re, im, frames = self.planes(wave, lengths)
        return measured(re, im, 2), frames

    def magnitude(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Magnitudes `(…, frames, n_bins)`, and frames of each clip; their gradient at 0 is 0."""
        re, im, frames = self.planes(wave, lengths)
        return measured(re, im, 1), frames

    def phase(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Phases `(…, frames, n_bins)` in radians, and frames of each clip."""
        re, im, frames = self.planes(wave, lengths)
        return phase(re, im), frames

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        if self.config.trainable:
            with torch.no_grad():
                self.kernels.copy_(self.config.analytic_kernels())

    def _tables(self) -> dict[str, Tensor]:
        return {} if self.config.trainable else {"kernels": self.config.analytic_kernels()}
