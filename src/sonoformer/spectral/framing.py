"""How a clip is cut into frames, and what stands before its first and after its last sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

PadMode = Literal["reflect", "zeros", "replicate"]


@dataclass(frozen=True)
class Framing:
    """Frames of `n_fft` samples every `hop` samples.

    Attributes:
        n_fft: samples of a frame, even.
        hop: samples from one frame to the next.
        center: frame t is centred on sample `t * hop`, and half a frame is padded on both sides;
            otherwise it begins there.
        pad_mode: what is padded.
    """

    n_fft: int
    hop: int
    center: bool
    pad_mode: PadMode

    @property
    def pad(self) -> int:
        """Samples padded on either side."""
        return self.n_fft // 2 if self.center else 0

    def frames(self, samples: int) -> int:
        """Frames of a clip: `1 + samples // hop` if centred, else those that fit; at least one."""
        return max(1, 1 + (samples + 2 * self.pad - self.n_fft) // self.hop)

    def frame_lengths(self, lengths: Tensor) -> Tensor:
        """As `frames`, for a tensor of lengths in samples."""
        room = lengths + (2 * self.pad - self.n_fft)
        return (room.div(self.hop, rounding_mode="floor") + 1).clamp_min(1)

    def clips(self, wave: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """A batch of any shape as rows.

        Args:
            wave: `(…, samples)`.
            lengths: `(…)` samples of each clip; all of them if absent.

        Returns:
            `(batch, samples)`, fp32 or float64; `(batch,)` lengths, if there are any; `(…)` frames.

        Raises:
            ValueError: there is no sample axis, the values are no real sound, or lengths do not
                fit.
        """
        if wave.ndim < 1 or not wave.is_floating_point():
            raise ValueError(
                f"wave should be (…, samples) of real numbers; got {tuple(wave.shape)} {wave.dtype}"
            )
        batch, samples = wave.shape[:-1], wave.shape[-1]
        # The product of the sizes, unlike numel(), may stay unknown in an exported graph.
        clips = wave.reshape(math.prod(batch), samples)
        clips = clips if wave.dtype == torch.float64 else clips.float()
        if lengths is None:
            ends = torch.full(batch, wave.shape[-1], device=wave.device)
            return clips, None, self.frame_lengths(ends)
        if lengths.shape != batch:
            raise ValueError(f"lengths should be {tuple(batch)}; got {tuple(lengths.shape)}")
        ends = lengths.to(wave.device, torch.long)
        return clips, ends.reshape(-1), self.frame_lengths(ends)

    def padded(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        """Clips with what stands around them; differentiable.

        Args:
            wave: `(batch, samples)`.
            lengths: `(batch,)` samples of each clip; all of them if absent. Each clip is padded
                at its own end, and what the row holds beyond is not read by the clip's frames.

        Returns:
            `(batch, samples + 2 pad)`, at least `n_fft` samples long.
        """
        if wave.shape[1] == 0:
            wave = F.pad(wave, (0, 1))
        if self.center:
            return self._around(wave, lengths)
        if lengths is not None:
            real = torch.arange(wave.shape[1], device=wave.device) < lengths.unsqueeze(1)
            wave = torch.where(real, wave, 0)
        return F.pad(wave, (0, max(0, self.n_fft - wave.shape[1])))

    def _around(self, wave: Tensor, lengths: Tensor | None) -> Tensor:
        batch, samples = wave.shape
        steps = torch.arange(self.pad, device=wave.device).expand(batch, -1)
        ends = torch.full_like(steps[:, :1], samples) if lengths is None else lengths.unsqueeze(1)
        before, after = (
            self._read(wave, steps - self.pad, ends),
            self._read(wave, steps + ends, ends),
        )
        if lengths is None:
            return torch.cat([before, wave, after], 1)
        whole = torch.cat([before, wave, torch.zeros_like(before)], 1)
        return whole.scatter(1, steps + ends + self.pad, after)

    def _read(self, wave: Tensor, index: Tensor, lengths: Tensor) -> Tensor:
        """What stands at places outside of the clips."""
        if self.pad_mode == "zeros":
            return torch.zeros_like(index, dtype=wave.dtype)
        return wave.gather(1, self.folded(index, lengths))

    def folded(self, index: Tensor, lengths: Tensor) -> Tensor:
        """The places inside a clip that stand for places outside; for clips of any length.

        A reflection does not repeat the end sample, and goes back and forth in a clip shorter
        than the padding.
        """
        last = (lengths - 1).clamp_min(0)
        if self.pad_mode == "replicate":
            return torch.minimum(index.clamp_min(0), last)
        period = (2 * last).clamp_min(1)
        place = index.remainder(period)
        return torch.minimum(place, period - place).clamp_min(0)


def as_clips(wave: Tensor) -> Tensor:
    """`(…, samples)` -> `(batch, samples)`, fp32 or float64.

    Raises:
        ValueError: there is no sample axis, or the values are no real sound.
    """
    if wave.ndim < 1 or not wave.is_floating_point():
        raise ValueError(
            f"wave should be (…, samples) of real numbers; got {tuple(wave.shape)} {wave.dtype}"
        )
    clips = wave.reshape(wave.shape[:-1].numel(), wave.shape[-1])
    return clips if wave.dtype == torch.float64 else clips.float()
