"""The Kaldi-compatible log-mel filterbank of AST and SSAST, batched and differentiable.

Frames of 25 ms every 10 ms, each with its mean removed, pre-emphasised and windowed; power
spectrum; triangular filters on Kaldi's mel scale; natural logarithm. Waveforms stay in [-1, 1]
(Kaldi scales by 2**15), so silence sits at the logarithm's floor of about -15.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError


@dataclass(frozen=True)
class FbankConfig:
    """Filterbank and normalisation; the defaults are AST's and SSAST's on AudioSet."""

    sample_rate: int = 16000
    """Hz of the waveforms."""
    n_mels: int = 128
    """Mel filters."""
    window_ms: float = 25.0
    """Length of a frame in milliseconds."""
    hop_ms: float = 10.0
    """Milliseconds from one frame to the next."""
    low_hz: float = 20.0
    """Lower edge of the lowest filter."""
    high_hz: float | None = None
    """Upper edge of the highest filter; half the sample rate if absent."""
    window: Literal["hann", "hamming", "povey"] = "hann"
    """Symmetric window; povey is hann to the power 0.85."""
    preemphasis: float = 0.97
    """Coefficient of y[i] = x[i] - c x[i-1] inside a frame."""
    log_floor: float = 1.1920929e-7
    """Least energy before the logarithm."""
    mean: float = -4.2677393
    """Mean of the log-mel values; normalised is (x - mean) / (2 std)."""
    std: float = 4.5689974
    """Standard deviation of the log-mel values."""
    padding: Literal["mask", "reference"] = "mask"
    """What frames past a clip's end hold after normalisation: 0 (the mean), or, as the authors'
    loader has it, the value of a raw log-mel of 0.0, which is louder than the mean."""

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.n_mels < 1 or self.std <= 0 or self.log_floor <= 0:
            raise UserError("sample_rate, n_mels, std and log_floor must be above 0")
        if self.hop_length < 1 or self.window_length < 2:
            raise UserError(
                f"window_ms, hop_ms: {self.window_ms} and {self.hop_ms} ms are less than a sample "
                f"at {self.sample_rate} Hz"
            )
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz} to {self.top_hz} Hz must rise and lie within "
                f"0 to {self.sample_rate / 2:g} Hz"
            )

    @property
    def window_length(self) -> int:
        """Samples a frame."""
        return int(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.hop_ms / 1000)

    @property
    def n_fft(self) -> int:
        """The next power of two."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def top_hz(self) -> float:
        """Upper edge of the highest filter in Hz."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    def frames(self, samples: int) -> int:
        """Frames of a clip: those that fit, and at least one."""
        return max(1, 1 + (samples - self.window_length) // self.hop_length)


PRESETS = {
    "audioset": {"mean": -4.2677393, "std": 4.5689974},
    "esc50": {"mean": -6.6268077, "std": 5.358466},
    "speech-commands": {"mean": -6.845978, "std": 5.5654526},
}
"""Normalisation constants of the authors' checkpoints (computed over zero-padded and masked
spectrograms, so a clean pass over the same data gives others)."""

_BLOCK = 256
"""Frames computed at a time without gradient: their buffers stay in a core's cache."""


class KaldiFbank(nn.Module):
    """Waveforms -> raw log-mel energies.

    Without gradient, on a CPU, frames are computed a block at a time in memory that is used again;
    otherwise in one differentiable expression. Both agree to rounding. All in fp32, also under
    autocast (float64 waveforms stay float64).
    """

    def __init__(self, config: FbankConfig = FbankConfig()) -> None:
        super().__init__()
        self.config = config
        filters = mel_filters(config)
        self.register_buffer("window", _window(config), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.bands = _bands(filters)

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
            if plain or (torch.is_grad_enabled() and wave.requires_grad) or _tracing():
                spec = self._whole(wave)
            else:
                with torch.no_grad():
                    spec = self._blocked(wave)
        return spec, frames.clamp_min(1)

    def _whole(self, wave: Tensor) -> Tensor:
        config, window = self.config, self.window.to(wave.dtype)
        frames = wave.unfold(1, config.window_length, config.hop_length)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        spectrum = torch.fft.rfft((frames - config.preemphasis * before) * window, n=config.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        energy = power[..., :-1] @ self.filters.to(wave.dtype)
        return energy.clamp_min(config.log_floor).log()

    def _blocked(self, wave: Tensor) -> Tensor:
        """The same, with pre-emphasis done once on the waveform.

        Inside a frame with mean m, x[i] - m - c (x[i-1] - m) = p[i] - (1 - c) m where p is the
        pre-emphasised waveform; only the frame's first sample differs.
        """
        config = self.config
        length, hop, coefficient = config.window_length, config.hop_length, config.preemphasis
        count = 1 + (wave.shape[1] - length) // hop
        out = wave.new_empty(len(wave), count, config.n_mels)
        rows = min(_BLOCK, count)
        padded = wave.new_zeros(rows, config.n_fft)
        spectrum = torch.empty(rows, config.n_fft // 2 + 1, dtype=torch.complex64)
        power = wave.new_empty(rows, config.n_fft // 2 + 1)
        scratch = torch.empty_like(power)
        for clip, target in zip(wave, out, strict=True):
            emphasised = torch.empty_like(clip)
            torch.sub(clip[1:], clip[:-1], alpha=coefficient, out=emphasised[1:])
            emphasised[0] = (1 - coefficient) * clip[0]
            frames, smooth = clip.unfold(0, length, hop), emphasised.unfold(0, length, hop)
            means = F.avg_pool1d(clip[None, None], length, hop)[0, 0, :, None]
            offset = (1 - coefficient) * means
            for begin in range(0, count, rows):
                stop = min(begin + rows, count)
                part = slice(0, stop - begin)
                block = padded[part, :length]
                torch.sub(smooth[begin:stop], offset[begin:stop], out=block)
                block[:, :1] = (1 - coefficient) * (frames[begin:stop, :1] - means[begin:stop])
                block.mul_(self.window)
                torch.fft.rfft(padded[part], out=spectrum[part])
                planes = torch.view_as_real(spectrum[part])
                torch.mul(planes[..., 0], planes[..., 0], out=power[part])
                torch.mul(planes[..., 1], planes[..., 1], out=scratch[part])
                power[part].add_(scratch[part])
                energy = target[begin:stop]
                for mels, bins in self.bands:
                    energy[:, mels] = power[part, bins] @ self.filters[bins, mels]
                energy.clamp_min_(config.log_floor).log_()
        return out


def mel_filters(config: FbankConfig) -> Tensor:
    """Triangles `(n_fft / 2, n_mels)`, linear in mel = 1127 ln(1 + f / 700), without area norm.

    The bin at half the sample rate has no weight, as in Kaldi, and is left out.
    """
    bins = torch.arange(config.n_fft // 2, dtype=torch.float64) * config.sample_rate / config.n_fft
    low, high = _mel(config.low_hz), _mel(config.top_hz)
    edges = low + (high - low) / (config.n_mels + 1) * torch.arange(config.n_mels + 2).double()
    mel = 1127 * torch.log1p(bins / 700)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rise = (mel[:, None] - left) / (centre - left)
    fall = (right - mel[:, None]) / (right - centre)
    return torch.minimum(rise, fall).clamp_min(0).float()


def _mel(hz: float) -> float:
    return 1127 * math.log1p(hz / 700)


def _window(config: FbankConfig) -> Tensor:
    if config.window == "hamming":
        window = torch.hamming_window(config.window_length, periodic=False, dtype=torch.float64)
    else:
        window = torch.hann_window(config.window_length, periodic=False, dtype=torch.float64)
        if config.window == "povey":
            window = window.pow(0.85)
    return window.float()


def _bands(filters: Tensor, size: int = 16) -> list[tuple[slice, slice]]:
    """Groups of filters and the bins they touch: most of the matrix is zero."""
    bands = []
    for first in range(0, filters.shape[1], size):
        mels = slice(first, min(first + size, filters.shape[1]))
        touched = filters[:, mels].any(1).nonzero().flatten().tolist()
        bins = slice(touched[0], touched[-1] + 1) if touched else slice(0, 1)
        bands.append((mels, bins))
    return bands


def _tracing() -> bool:
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
