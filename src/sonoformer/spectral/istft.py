"""The inverse of the short-time Fourier transform.

Frames are transformed back, windowed again, added where they overlap, and divided by the sum of
the squared windows over each sample: exact for spectra of a sound, and the least-squares waveform
(Griffin and Lim 1984, section II) for others. Samples near a clip's end lie under fewer windows,
so a hop of a quarter of the window or less gives full accuracy everywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.buffers import exporting
from sonoformer.spectral.framing import Framing
from sonoformer.spectral.kernels import inverse_fourier, turns
from sonoformer.spectral.options import configured
from sonoformer.spectral.stft_config import StftConfig
from sonoformer.spectral.tables import Tables

_LEAST = 1e-10
"""Of the summed squared windows: samples under less are not known, and come out 0."""


class Istft(Tables):
    """Real and imaginary parts -> waveforms.

    With a learnt window or learnt kernels (`trainable`) it is a synthesis transform that begins
    as the exact inverse; the division is by the analytic window all the same.
    """

    window: Tensor
    kernels: Tensor

    def __init__(self, config: StftConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(StftConfig, config, options)
        self.framing = config.framing
        refuse_gaps(config)
        self._form = "gemm" if config.trainable == "kernels" else config.backend
        self._lay_tables()
        if config.trainable == "window":
            self.synthesis = nn.Parameter(config.analytic_window().float())
        if config.trainable == "kernels":
            self.kernels = nn.Parameter(inverse_fourier(config.analytic_window()).float())

    def forward(
        self,
        re: Tensor,
        im: Tensor,
        lengths: Tensor | None = None,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Waveforms.

        Args:
            re: `(…, frames, bins)` real parts.
            im: imaginary parts.
            lengths: `(…)` samples of each clip; all of them if absent. Frames past a clip's own
                are left out.
            length: samples of a row; as many as the frames reach if absent.

        Returns:
            `(…, length)`, zero past each clip's length, and `(…)` samples of each clip.
        """
        with torch.autocast(re.device.type, enabled=False):
            kind = torch.float64 if re.dtype == torch.float64 else torch.float32
            re, im = re.to(kind), im.to(kind)
            if self._form in ("gemm", "sym") or (self._form == "auto" and exporting()):
                frames = torch.cat([re, im], -1) @ self._matrix().to(kind)
            else:
                frames = torch.fft.irfft(torch.complex(re, im), n=self.config.n_fft)
                frames = frames * self._synthesis().to(kind)
            return joined(frames, self.window.to(kind), self.framing, lengths, length)

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        start = self.config.analytic_window()
        with torch.no_grad():
            if self.config.trainable == "window":
                self.synthesis.copy_(start)
            elif self.config.trainable == "kernels":
                self.kernels.copy_(inverse_fourier(start))

    def _synthesis(self) -> Tensor:
        return self.synthesis if self.config.trainable == "window" else self.window

    def _matrix(self) -> Tensor:
        """`(2 bins, n_fft)`, with the window."""
        if hasattr(self, "kernels"):
            return self.kernels
        # From one turn of a circle: a graph for export need not carry the whole matrix.
        n_fft, bins = self.config.n_fft, self.config.bins
        step = torch.arange(n_fft, device=self.window.device)
        bin_ = step[:bins].unsqueeze(1)
        place = (bin_ * step) % n_fft
        inner = (bin_ > 0) & (bin_ < n_fft // 2)
        scale = torch.where(inner, 2.0 / n_fft, 1.0 / n_fft).to(self.turns.dtype)
        both = torch.cat([scale * self.turns[0][place], scale * self.turns[1][place]])
        return both * self._synthesis()

    turns: Tensor

    def _tables(self) -> dict[str, Tensor]:
        start = self.config.analytic_window()
        tables = {"window": start}
        if self._form in ("gemm", "sym") and self.config.trainable == "none":
            return {**tables, "kernels": inverse_fourier(start)}
        return {**tables, "turns": turns(self.config.n_fft)}


def inverted(
    re: Tensor,
    im: Tensor,
    window: Tensor,
    framing: Framing,
    lengths: Tensor | None = None,
    length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """As `Istft`, by a Fourier transform with the window `(n_fft,)`."""
    with torch.autocast(re.device.type, enabled=False):
        kind = torch.float64 if re.dtype == torch.float64 else torch.float32
        window = window.to(kind)
        spectrum = torch.complex(re.to(kind), im.to(kind))
        frames = torch.fft.irfft(spectrum, n=framing.n_fft) * window
        return joined(frames, window, framing, lengths, length)


def joined(
    frames: Tensor,
    window: Tensor,
    framing: Framing,
    lengths: Tensor | None,
    length: int | None,
) -> tuple[Tensor, Tensor]:
    """Waveforms `(…, length)` of twice windowed frames `(…, frames, n_fft)`, and their lengths."""
    batch, count, pad = frames.shape[:-2], frames.shape[-2], framing.pad
    if length is None:
        length = max(0, (count - 1) * framing.hop + framing.n_fft - 2 * pad)
    weight = window.square().expand(count, -1)
    if lengths is None:
        ends = torch.full(batch, length, device=frames.device)
    else:
        ends = lengths.to(frames.device, torch.long)
        real = torch.arange(count, device=frames.device) < framing.frame_lengths(ends)[..., None]
        frames = torch.where(real[..., None], frames, 0)
        weight = weight * real[..., None]
    sound, share = added(frames, framing.hop), added(weight, framing.hop)
    known = share > _LEAST
    sound = torch.where(known, sound / torch.where(known, share, 1), 0)
    sound = F.pad(sound[..., pad : pad + length], (0, max(0, pad + length - sound.shape[-1])))
    if lengths is not None:
        inside = torch.arange(length, device=sound.device) < ends[..., None]
        sound = torch.where(inside, sound, 0)
    return sound, ends


def added(frames: Tensor, hop: int) -> Tensor:
    """Frames `(…, frames, n_fft)` every `hop` samples, added where they overlap.

    Returns:
        `(…, samples)`, at least to the end of the last frame.
    """
    count, pieces = frames.shape[-2], -(-frames.shape[-1] // hop)
    frames = F.pad(frames, (0, pieces * hop - frames.shape[-1])).unflatten(-1, (pieces, hop))
    # The first pieces of all frames lie end to end, and so do the second ones, a hop later.
    sound = frames.new_zeros(*frames.shape[:-3], count + pieces - 1, hop)
    for k, part in enumerate(frames.unbind(-2)):
        sound[..., k : k + count, :] += part
    return sound.flatten(-2)


def refuse_gaps(config: StftConfig) -> None:
    """Refuse windows and hops that leave samples out, which no inverse brings back.

    Raises:
        UserError: the squared windows add up to nothing somewhere.
    """
    frames = config.analytic_window().square()
    hop = config.hop_length
    folded = F.pad(frames, (0, -len(frames) % hop)).unflatten(0, (-1, hop)).sum(0)
    if float(folded.min()) <= _LEAST:
        raise UserError(
            f"hop_length: frames every {hop} samples leave samples out of this window; "
            f"take {(config.win_length or config.n_fft) // 2} or less"
        )
