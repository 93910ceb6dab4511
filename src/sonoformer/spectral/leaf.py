"""LEAF, a learnable front end (Zeghidour et al., ICLR 2021).

Complex Gabor filters on the waveform, squared modulus, a Gaussian low-pass for each filter, and
PCEN: centre frequencies, bandwidths, low-passes and the compression are all learned, seven numbers
a filter. At the start it is close to a mel filterbank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.pcen import Pcen, PcenConfig

_PEAK = math.sqrt(2 * math.log(2))
"""Half the width of a Gaussian at half its height, in standard deviations."""


@dataclass(frozen=True)
class LeafConfig:
    """The defaults are the paper's."""

    sample_rate: int = 16000
    """Hz of the waveforms."""
    n_filters: int = 40
    """Filters."""
    window_ms: float = 25.0
    """Length of the filters and of the low-passes in milliseconds."""
    hop_ms: float = 10.0
    """Milliseconds from one frame to the next."""
    low_hz: float = 60.0
    """Lower edge of the mel filters that it starts from."""
    high_hz: float = 7800.0
    """Upper edge."""
    smooth: float = 0.04
    """PCEN's smoothing coefficient at the start."""

    def __post_init__(self) -> None:
        if self.n_filters < 1:
            raise UserError(f"n_filters: must be at least 1; got {self.n_filters}")
        if not 0 < self.low_hz < self.high_hz <= self.sample_rate / 2:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz} to {self.high_hz} Hz must rise and lie within 0 "
                f"to {self.sample_rate / 2:g} Hz"
            )
        if self.hop_length < 1 or self.window_length < 5:
            raise UserError(
                f"window_ms, hop_ms: {self.window_ms} and {self.hop_ms} ms are too short at "
                f"{self.sample_rate} Hz"
            )
        if not 0 < self.smooth < 1:
            raise UserError(f"smooth: must lie between 0 and 1; got {self.smooth}")

    @property
    def window_length(self) -> int:
        """Taps of a filter; odd."""
        return int(self.sample_rate * self.window_ms / 1000) | 1

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.hop_ms / 1000)


class Leaf(nn.Module):
    """Waveforms `(..., samples)` -> `(..., frames, n_filters)`, non-negative, compressed.

    A clip has `ceil(samples / hop_length)` frames, each centred on its hop.
    """

    def __init__(self, config: LeafConfig = LeafConfig()) -> None:
        super().__init__()
        self.config = config
        self.center = nn.Parameter(torch.zeros(config.n_filters))
        """Centre frequencies in radians a sample."""
        self.width = nn.Parameter(torch.zeros(config.n_filters))
        """Standard deviations of the Gabor filters' envelopes in samples."""
        self.lowpass = nn.Parameter(torch.zeros(config.n_filters))
        """Standard deviations of the low-passes, in half windows."""
        rate = config.sample_rate / config.hop_length
        seconds = math.sqrt(1 - config.smooth) / config.smooth / rate
        options = PcenConfig(0.96, 2.0, 0.5, seconds, 1e-12, trainable=True)
        self.compress = Pcen(config.n_filters, rate, options)
        self.reset_to_analytic()

    @torch.no_grad()
    def reset_to_analytic(self) -> None:
        """Give the filters the centres and widths of mel filters, as at the start (section 3.1)."""
        config = self.config
        low, high = (1127 * math.log1p(edge / 700) for edge in (config.low_hz, config.high_hz))
        mel = torch.linspace(low, high, config.n_filters + 2, dtype=torch.float64)
        hertz = 700 * torch.expm1(mel / 1127)
        # A triangle is half its height over half its base.
        full_width = (hertz[2:] - hertz[:-2]) / 2
        self.center.copy_(2 * math.pi * hertz[1:-1] / config.sample_rate)
        self.width.copy_(_PEAK * config.sample_rate / (math.pi * full_width))
        self.lowpass.fill_(0.4)
        self.compress.reset_to_analytic()

    def filters(self) -> Tensor:
        """Real, then imaginary parts of the Gabor filters, `(2 n_filters, window_length)`."""
        taps = self.config.window_length
        center = self.center.clamp(0.0, math.pi)
        width = self.width.clamp(4 * _PEAK / math.pi, taps * _PEAK / math.pi).unsqueeze(1)
        time = torch.arange(taps, device=center.device, dtype=center.dtype) - taps // 2
        envelope = (-0.5 * (time / width).square()).exp() / (math.sqrt(2 * math.pi) * width)
        phase = center.unsqueeze(1) * time
        return torch.cat([envelope * phase.cos(), envelope * phase.sin()])

    def energies(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Before compression; see `forward`."""
        config, taps = self.config, self.config.window_length
        if lengths is None:
            lengths = torch.full(wave.shape[:-1], wave.shape[-1], device=wave.device)
        with torch.autocast(wave.device.type, enabled=False):
            flat = wave.to(self.center.dtype).reshape(-1, 1, wave.shape[-1])
            past = torch.arange(wave.shape[-1], device=wave.device) >= lengths.reshape(-1, 1, 1)
            flat = flat.masked_fill(past, 0)
            real, imaginary = F.conv1d(flat, self.filters().unsqueeze(1), padding=taps // 2).chunk(
                2, 1
            )
            power = (real.square() + imaginary.square()).masked_fill(past, 0)
            frames = -(-power.shape[-1] // config.hop_length)
            left = (taps - config.hop_length) // 2
            right = (frames - 1) * config.hop_length + taps - left - power.shape[-1]
            pooled = F.conv1d(
                F.pad(power, (left, max(right, 0))),
                self._lowpasses().unsqueeze(1),
                stride=config.hop_length,
                groups=config.n_filters,
            )
        out = pooled[..., :frames].mT.reshape(*wave.shape[:-1], frames, config.n_filters)
        counts = (lengths + config.hop_length - 1).div(config.hop_length, rounding_mode="floor")
        return out.clamp_min(1e-5), counts.clamp_min(1)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compressed energies.

        Args:
            wave: `(..., samples)` in [-1, 1].
            lengths: `(...)` samples of each clip; all of them if absent.

        Returns:
            `(..., frames, n_filters)`, low frequency first at the start, and frames of each clip.
        """
        energy, frames = self.energies(wave, lengths)
        return self.compress(energy), frames

    def _lowpasses(self) -> Tensor:
        taps = self.config.window_length
        width = self.lowpass.clamp(2 / taps, 0.5).unsqueeze(1) * (taps - 1) / 2
        time = torch.arange(taps, device=width.device, dtype=width.dtype) - (taps - 1) / 2
        return (-0.5 * (time / width).square()).exp()
