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
from sonoformer.spectral.blocked_istft import InversePlan, overlapped
from sonoformer.spectral.buffers import exporting, may_reuse
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
        self._plan = None
        if config.trainable == "none":
            self._plan = InversePlan(config.analytic_window().float(), self.framing)
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
                return joined(frames, self.window.to(kind), self.framing, lengths, length)
            if self._form == "auto" and self._plan is not None:
                return inverted(re, im, self.window, self.framing, lengths, length, self._plan)
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
    plan: InversePlan | None = None,
) -> tuple[Tensor, Tensor]:
    """As `Istft`, by a Fourier transform: in reused memory where it may be, or differentiable.

    Args:
        re: `(…, frames, bins)` real parts.
        im: imaginary parts.
        window: `(n_fft,)`.
        framing: where frames stand.
        lengths: `(…)` samples of each clip.
        length: samples of a row.
        plan: of the same window and framing, for reused memory; without one there is none.
    """
    kind = torch.float64 if re.dtype == torch.float64 else torch.float32
    with torch.autocast(re.device.type, enabled=False):
        re, im, window = re.to(kind), im.to(kind), window.to(kind)
        if plan is not None and may_reuse(re) and may_reuse(im):
            return _blocked(re, im, plan, lengths, length)
        frames = torch.fft.irfft(torch.complex(re, im), n=framing.n_fft) * window
        return joined(frames, window, framing, lengths, length)


@torch.no_grad()
def _blocked(
    re: Tensor, im: Tensor, plan: InversePlan, lengths: Tensor | None, length: int | None
) -> tuple[Tensor, Tensor]:
    batch, (most, bins) = re.shape[:-2], re.shape[-2:]
    counts = [most] * batch.numel()
    if lengths is not None:
        found = plan.framing.frame_lengths(lengths.to(torch.long)).flatten()
        counts = found.clamp_max(most).tolist()
    rows = (re.reshape(-1, most, bins), im.reshape(-1, most, bins))
    sound = overlapped(*rows, counts, plan).reshape(*batch, -1)
    return _divided(sound, most, plan.window, plan.framing, lengths, length)


def joined(
    frames: Tensor,
    window: Tensor,
    framing: Framing,
    lengths: Tensor | None,
    length: int | None,
) -> tuple[Tensor, Tensor]:
    """Waveforms `(…, length)` of twice windowed frames `(…, frames, n_fft)`, and their lengths."""
    count = frames.shape[-2]
    if lengths is not None:
        frames = torch.where(_real(count, framing, lengths, frames)[..., None], frames, 0)
    return _divided(added(frames, framing.hop), count, window, framing, lengths, length)


def _real(count: int, framing: Framing, lengths: Tensor, like: Tensor) -> Tensor:
    """`(…, frames)`: which frames are a clip's own."""
    frames = framing.frame_lengths(lengths.to(like.device, torch.long))
    return torch.arange(count, device=like.device) < frames[..., None]


def _divided(
    sound: Tensor,
    count: int,
    window: Tensor,
    framing: Framing,
    lengths: Tensor | None,
    length: int | None,
) -> tuple[Tensor, Tensor]:
    """Overlapping frames `(…, samples)` divided by the windows over each sample, and cut out."""
    batch, pad, device = sound.shape[:-1], framing.pad, sound.device
    if length is None:
        length = max(0, (count - 1) * framing.hop + framing.n_fft - 2 * pad)
    if lengths is None:
        ends = torch.full(batch, length, device=device)
        real = torch.ones(count, dtype=torch.bool, device=device)
    else:
        ends = lengths.to(device, torch.long)
        real = _real(count, framing, lengths, sound)
    share = _share(real, window, framing.hop)[..., pad : pad + length]
    known = share > _LEAST
    # What no window reaches is divided by 1 and then dropped: no NaN, also in gradients.
    sound = sound[..., pad : pad + length] / torch.where(known, share, 1)
    sound = torch.where(known, sound, 0)
    sound = F.pad(sound, (0, length - sound.shape[-1]))
    if lengths is not None:
        inside = torch.arange(length, device=device) < ends[..., None]
        sound = torch.where(inside, sound, 0)
    return sound, ends


def _share(real: Tensor, window: Tensor, hop: int) -> Tensor:
    """Squared windows of the real frames `(…, frames)`, added where they overlap."""
    pieces = -(-len(window) // hop)
    squares = F.pad(window.square(), (0, pieces * hop - len(window))).unflatten(0, (pieces, hop))
    # Which frames lie over each stretch of a hop: the earliest brings its last piece.
    over = F.pad(real.to(window.dtype), (pieces - 1, pieces - 1)).unfold(-1, pieces, 1)
    return (over @ squares.flip(0)).flatten(-2)


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
