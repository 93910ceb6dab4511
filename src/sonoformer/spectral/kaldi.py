"""The Kaldi-compatible log-mel filterbank of AST and SSAST, batched and differentiable.

Frames of 25 ms every 10 ms, each with its mean removed, pre-emphasised and windowed; power
spectrum; triangular filters on Kaldi's mel scale; natural logarithm. Waveforms stay in [-1, 1]
(Kaldi scales by 2**15), so silence sits at the logarithm's floor of about -15.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.blocked import Plan, log_mels
from sonoformer.spectral.mel import Window, mel_filters, symmetric_window

Padding = Literal["mask", "reference"]
Level = Literal["keep", "equal"]
_LARGEST_TABLE = 2**25  # of filters, in cells


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
    window: Window = "hann"
    """Symmetric window; povey is hann to the power 0.85."""
    preemphasis: float = 0.97
    """Coefficient of y[i] = x[i] - c x[i-1] inside a frame."""
    log_floor: float = 1.1920929e-7
    """Least energy before the logarithm."""
    mean: float = -4.2677393
    """Mean of the log-mel values; normalised is (x - mean) / (2 std)."""
    std: float = 4.5689974
    """Standard deviation of the log-mel values."""
    level: Level = "keep"
    """equal: every clip is brought to the same mean level (-26 dBFS) first, for recordings whose
    level tells of the recorder rather than of the sound."""
    padding: Padding = "mask"
    """What frames past a clip's end hold after normalisation: 0 (the mean), or, as the authors'
    loader has it, the value of a raw log-mel of 0.0, which is louder than the mean."""
    fixed_frames: int | None = None
    """Pad or cut every clip to this many frames and take padding for sound, as AST, SSAST and
    transformers do; if absent, clips keep their lengths and padding is never attended to."""

    def __post_init__(self) -> None:
        for name, kind in (("window", Window), ("padding", Padding), ("level", Level)):
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise UserError(f"{name}: must be one of {', '.join(known)}; got {value!r}")
        for name in ("sample_rate", "n_mels", "std", "log_floor", "window_ms", "hop_ms"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}: must be above 0 and finite; got {getattr(self, name)}")
        if not math.isfinite(self.mean):
            raise UserError(f"mean: must be finite; got {self.mean}")
        if not 0 <= self.preemphasis <= 1:
            raise UserError(f"preemphasis: must lie within 0 to 1; got {self.preemphasis}")
        if self.hop_length < 1 or self.window_length < 2:
            raise UserError(
                f"window_ms, hop_ms: {self.window_ms} and {self.hop_ms} ms are less than a sample "
                f"at {self.sample_rate} Hz"
            )
        if self.n_mels * self.n_fft > _LARGEST_TABLE:
            raise UserError(
                f"n_mels, window_ms: {self.n_mels} filters over {self.n_fft} samples are too many"
            )
        if self.fixed_frames is not None and not 1 <= self.fixed_frames <= 10**6:
            raise UserError(
                f"fixed_frames: must lie within 1 to a million; got {self.fixed_frames}"
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
        """Frames of a clip: those that fit, and at least one; or as many as are fixed."""
        if self.fixed_frames is not None:
            return self.fixed_frames
        return max(1, 1 + (samples - self.window_length) // self.hop_length)


PRESETS = {
    "audioset": {"mean": -4.2677393, "std": 4.5689974},
    "esc50": {"mean": -6.6268077, "std": 5.358466},
    "speech-commands": {"mean": -6.845978, "std": 5.5654526},
}
"""Normalisation constants of the authors' checkpoints (computed over zero-padded and masked
spectrograms, so a clean pass over the same data gives others)."""


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
            if plain or (torch.is_grad_enabled() and wave.requires_grad) or _tracing():
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
        spectrum = torch.fft.rfft((frames - config.preemphasis * before) * window, n=config.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        energy = power[..., :-1] @ self.filters.to(wave.dtype)
        return energy.clamp_min(config.log_floor).log()

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


def _tracing() -> bool:
    return torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
