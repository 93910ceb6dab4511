"""The Kaldi-compatible log-mel filterbank of AST and SSAST, batched and differentiable.

Frames of 25 ms every 10 ms, each with its mean removed, pre-emphasised and windowed; power
spectrum; triangular filters on Kaldi's mel scale; natural logarithm. Waveforms stay in [-1, 1]
(Kaldi scales by 2**15), so silence sits at the logarithm's floor of about -15.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.spectral.blocked import Plan, log_mels
from sonoformer.spectral.buffers import exporting, tracing
from sonoformer.spectral.config import FbankConfig
from sonoformer.spectral.mel import mel_filters, symmetric_window


class KaldiFbank(nn.Module):
    """Waveforms -> raw log-mel energies.

    Without gradient, on a CPU, frames are computed a block at a time in memory that is used again
    (`spectral.blocked`); otherwise in one differentiable expression. Both agree to rounding. All
    in fp32, also under autocast and after `.half()` (float64 waveforms stay float64).
    """

    def __init__(self, config: FbankConfig = FbankConfig()) -> None:
        super().__init__()
        self.config = config
        window, filters = self._tables()
        self.register_buffer("window", window.float(), persistent=False)
        self.register_buffer("filters", filters.float(), persistent=False)
        self._plan = Plan.of(
            window, filters, config.hop_length, config.preemphasis, config.log_floor
        )

    window: Tensor
    filters: Tensor

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Log-mel energies.

        Args:
            wave: `(batch, samples)` in [-1, 1], zero past each clip's length.
            lengths: `(batch,)` samples of each clip; all of them if absent.

        Returns:
            `(batch, frames, n_mels)`, low frequency first, and `(batch,)` frames of each clip. A
            clip shorter than a window is padded with zeros to one frame. Frames past a clip's
            length hold what the padding gives.
        """
        return self.scaled(wave, lengths, 0.0, 1.0)

    def scaled(
        self, wave: Tensor, lengths: Tensor | None, shift: float, scale: float
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, with `(log energy - shift) * scale` for the log energy."""
        config = self.config
        if wave.ndim != 2:
            raise ValueError(f"wave should be (batch, samples); got {tuple(wave.shape)}")
        if lengths is None:
            lengths = torch.full((len(wave),), wave.shape[1], device=wave.device)
        frames = (lengths - config.window_length).div(config.hop_length, rounding_mode="floor") + 1
        with torch.autocast(wave.device.type, enabled=False):
            if wave.dtype != torch.float64:
                wave = wave.float()
            short = config.window_length - wave.shape[1]
            if short > 0:
                wave = F.pad(wave, (0, short))
            plain = wave.device.type != "cpu" or wave.dtype == torch.float64
            if plain or (torch.is_grad_enabled() and wave.requires_grad) or tracing():
                spec = (self._whole(wave) - shift) * scale
            else:
                with torch.no_grad():
                    spec = log_mels(wave, self._plan, shift, scale)
        return spec, frames.clamp_min(1)

    def _whole(self, wave: Tensor) -> Tensor:
        config, window = self.config, self.window.to(wave.dtype)
        frames = wave.unfold(1, config.window_length, config.hop_length)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        frames = (frames - config.preemphasis * before) * window
        if exporting():
            # Products run everywhere, and faster than the Fourier operators of other programs.
            planes = (frames @ self._turns(wave)).unflatten(-1, (2, -1))
            power = planes.square().sum(-2)
        else:
            spectrum = torch.fft.rfft(frames, n=config.n_fft)
            power = (spectrum.real.square() + spectrum.imag.square())[..., :-1]
        energy = power @ self.filters.to(wave.dtype)
        return energy.clamp_min(config.log_floor).log()

    def _turns(self, like: Tensor) -> Tensor:
        """Cosines, then sines of all bins but the last, `(window, n_fft)`."""
        step = torch.arange(self.config.window_length, device=like.device).unsqueeze(1)
        bins = torch.arange(self.config.n_fft // 2, device=like.device)
        angle = (step * bins % self.config.n_fft).to(like.dtype) * (2 * math.pi / self.config.n_fft)
        return torch.cat([angle.cos(), angle.sin()], 1)

    def _tables(self) -> tuple[Tensor, Tensor]:
        """Window and filters in float64."""
        config = self.config
        return symmetric_window(config.window, config.window_length), mel_filters(
            config.sample_rate, config.n_fft, config.n_mels, config.low_hz, config.top_hz
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> KaldiFbank:
        # `.half()` on a whole model would round the tables; they are made again instead.
        super()._apply(fn, recurse)
        kind = torch.float64 if self.window.dtype == torch.float64 else torch.float32
        if self.window.dtype != torch.float32:
            device = self.window.device
            self.window, self.filters = (t.to(device, kind) for t in self._tables())
        return self
