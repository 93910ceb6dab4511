"""The short-time Fourier transform.

Frames of `n_fft` samples every `hop_length` samples, windowed, and their spectrum from 0 Hz to
half the sample rate: what librosa and torch.stft compute, frames before bins, with each clip of a
padded batch ending where it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral import blocked_stft
from sonoformer.spectral.blocked_istft import InversePlan
from sonoformer.spectral.blocked_stft import StftPlan
from sonoformer.spectral.buffers import exporting, may_reuse
from sonoformer.spectral.framing import as_clips
from sonoformer.spectral.istft import inverted, refuse_gaps
from sonoformer.spectral.kernels import folded_planes, folded_tables, fourier, turns
from sonoformer.spectral.options import configured
from sonoformer.spectral.planes import measured, phase
from sonoformer.spectral.stft_config import Backend, StftConfig, Trainable
from sonoformer.spectral.streaming import Frames, FrameState
from sonoformer.spectral.tables import Tables

__all__ = ["Backend", "Stft", "StftConfig", "Trainable", "as_clips"]


class Stft(Tables):
    """Waveforms -> spectra.

    `forward` gives complex spectra, `planes` their real and imaginary parts, `power`, `magnitude`
    and `phase` what they say, and `inverse` the waveform again. Everything takes `(…, samples)`
    and optionally the clips' lengths in samples, `(…)`, and gives `(…, frames, bins)` and the
    lengths in frames. Computed in fp32, also under autocast; float64 stays float64.
    """

    window: Tensor

    def __init__(self, config: StftConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(StftConfig, config, options)
        self.framing = config.framing
        self.frames = Frames(self.framing)
        self._form = "gemm" if config.trainable == "kernels" else config.backend
        window = config.analytic_window().float()
        self.plan = StftPlan(window, self.framing) if config.trainable == "none" else None
        self._inverse_plan = InversePlan(window, self.framing)
        self._lay_tables()
        if config.trainable == "window":
            self.window = nn.Parameter(config.analytic_window().float())
        if config.trainable == "kernels":
            self.kernels = nn.Parameter(fourier(config.analytic_window()).float())

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Complex spectra.

        Args:
            wave: `(…, samples)`.
            lengths: `(…)` samples of each clip; all of them if absent.

        Returns:
            `(…, frames, bins)` complex, low frequency first, and `(…)` frames of each clip.
            Frames past a clip's length are finite and say nothing.
        """
        clips, ends, frames = self.framing.clips(wave, lengths)
        if self.reuses(clips):
            return _shaped(self._in_blocks(clips, ends), wave), frames
        re, im, frames = self.planes(wave, lengths)
        return torch.complex(re, im), frames

    def planes(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Real and imaginary parts `(…, frames, bins)`, and frames of each clip."""
        clips, ends, frames = self.framing.clips(wave, lengths)
        with torch.autocast(clips.device.type, enabled=False):
            if self.reuses(clips):
                re, im = torch.view_as_real(self._in_blocks(clips, ends)).unbind(-1)
            else:
                re, im = self.of_padded(self.framing.padded(clips, ends))
        return _shaped(re, wave), _shaped(im, wave), frames

    def power(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Squared magnitudes `(…, frames, bins)`, and frames of each clip."""
        return self._measured(wave, lengths, 2)

    def magnitude(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Magnitudes `(…, frames, bins)`, and frames of each clip; their gradient at 0 is 0."""
        return self._measured(wave, lengths, 1)

    def phase(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Phases `(…, frames, bins)` in radians, and frames of each clip."""
        re, im, frames = self.planes(wave, lengths)
        return phase(re, im), frames

    def inverse(
        self,
        re: Tensor,
        im: Tensor,
        lengths: Tensor | None = None,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Waveforms `(…, length)` of real and imaginary parts, as `Istft` has it.

        Raises:
            UserError: the window leaves samples out, or the kernels are learnt.
        """
        if self.config.trainable != "none":
            raise UserError("trainable: the inverse of a learnt transform is not known; use Istft")
        refuse_gaps(self.config)
        plan = self._inverse_plan
        return inverted(re, im, self.window, self.framing, lengths, length, plan)

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        start = self.config.analytic_window()
        with torch.no_grad():
            if self.config.trainable == "window":
                self.window.copy_(start)
            elif self.config.trainable == "kernels":
                self.kernels.copy_(fourier(start))

    # Streaming ------------------------------------------------------------------------------------

    @property
    def latency_samples(self) -> int:
        """Samples after the moment that a frame stands for, before it is given."""
        return self.frames.latency

    def stream_state(self, batch_shape: Sequence[int] = ()) -> FrameState:
        """The state before the first chunk of `(*batch_shape, samples)`."""
        return self.frames.start(batch_shape, self.window)

    def stream(self, chunk: Tensor, state: FrameState) -> tuple[Tensor, FrameState]:
        """Complex spectra of the frames that `chunk` completes, and the state after it."""
        ready, state = self.frames.push(chunk, state)
        return torch.complex(*self.ready_planes(ready)), state

    def flush(self, state: FrameState) -> Tensor:
        """Complex spectra of the last frames, at the end of the sound."""
        return torch.complex(*self.ready_planes(self.frames.finish(state)))

    def ready_planes(self, ready: Tensor) -> tuple[Tensor, Tensor]:
        """Planes of a stretch of sound that its frames fill, `(…, samples)`."""
        clips, _, _ = self.framing.clips(ready, None)
        if clips.shape[1] == 0:
            empty = clips.new_zeros(len(clips), 0, self.config.bins)
            return _shaped(empty, ready), _shaped(empty, ready)
        re, im = self.of_padded(clips)
        return _shaped(re, ready), _shaped(im, ready)

    # The parts ------------------------------------------------------------------------------------

    def reuses(self, clips: Tensor) -> bool:
        """Whether blocks in reused memory may be used."""
        return self.plan is not None and self._form == "auto" and may_reuse(clips)

    def of_padded(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Planes of clips `(batch, samples)` that need no more padding; differentiable."""
        frames = padded.unfold(1, self.config.n_fft, self.config.hop_length)
        if self._form == "sym":
            return folded_planes(frames, self.even, self.odd)
        if self._form == "gemm" or (self._form == "auto" and exporting()):
            product = frames @ self._matrix().to(padded.dtype)
            return product[..., : self.config.bins], product[..., self.config.bins :]
        spectrum = torch.fft.rfft(frames * self.window.to(padded.dtype))
        return spectrum.real, spectrum.imag

    even: Tensor
    odd: Tensor
    turns: Tensor
    kernels: Tensor

    def _matrix(self) -> Tensor:
        """Cosines and sines with the window, `(n_fft, 2 bins)`."""
        if hasattr(self, "kernels"):
            return self.kernels
        # From one turn of a circle: a graph for export need not carry the whole matrix.
        step = torch.arange(self.config.n_fft, device=self.window.device).unsqueeze(1)
        place = (step * step[: self.config.bins, 0]) % self.config.n_fft
        return self.window.unsqueeze(1) * torch.cat([self.turns[0][place], self.turns[1][place]], 1)

    def _tables(self) -> dict[str, Tensor]:
        start = self.config.analytic_window()
        tables = {} if self.config.trainable == "window" else {"window": start}
        if self._form == "sym":
            even, odd = folded_tables(start)
            return {**tables, "even": even, "odd": odd}
        if self._form == "gemm" and self.config.trainable == "none":
            return {**tables, "kernels": fourier(start)}
        return {**tables, "turns": turns(self.config.n_fft)}

    @torch.no_grad()
    def _in_blocks(self, clips: Tensor, ends: Tensor | None) -> Tensor:
        assert self.plan is not None
        return blocked_stft.spectra(clips, ends, self.plan)

    def _measured(self, wave: Tensor, lengths: Tensor | None, power: int) -> tuple[Tensor, Tensor]:
        clips, ends, frames = self.framing.clips(wave, lengths)
        with torch.autocast(clips.device.type, enabled=False):
            if self.reuses(clips):
                assert self.plan is not None
                with torch.no_grad():
                    found = blocked_stft.magnitudes(clips, ends, self.plan, power)
            else:
                found = measured(*self.of_padded(self.framing.padded(clips, ends)), power)
        return _shaped(found, wave), frames


def _shaped(clips: Tensor, wave: Tensor) -> Tensor:
    """`(batch, frames, bins)` with the batch dimensions of `wave`."""
    return clips.reshape(*wave.shape[:-1], *clips.shape[1:])
