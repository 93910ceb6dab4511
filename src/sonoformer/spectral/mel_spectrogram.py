"""Filtered spectrograms: mel, Bark, ERB, gammatone, linear or logarithmic.

Spectrum, power, filters, compression. Without gradient on a CPU a block of frames goes through
all of it but the compression in memory that is used again; otherwise in one differentiable
expression. Both agree to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral import blocked_stft
from sonoformer.spectral.blocked_stft import FilterPlan
from sonoformer.spectral.compress import compressed
from sonoformer.spectral.filterbank import FilterBank
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.options import configured
from sonoformer.spectral.planes import measured
from sonoformer.spectral.stft import Stft
from sonoformer.spectral.streaming import FrameState

__all__ = ["MelConfig", "MelSpectrogram"]


class MelSpectrogram(torch.nn.Module):
    """Waveforms -> filtered, compressed spectrograms, in fp32 also under autocast."""

    def __init__(self, config: MelConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(MelConfig, config, options)
        self.stft = Stft(config.stft)
        self.bank = FilterBank(config.filters)
        self._plan = self._chunk_plan = None
        if self.stft.plan is not None and self.bank.fixed:
            weights, stft = config.filters.analytic_weights(), self.stft.plan
            self._plan = FilterPlan.of(stft, weights, config.power)
            uncentred = replace(stft, framing=replace(stft.framing, center=False))
            self._chunk_plan = replace(self._plan, stft=uncentred)

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Spectrograms.

        Args:
            wave: `(…, samples)`.
            lengths: `(…)` samples of each clip; all of them if absent.

        Returns:
            `(…, frames, n_mels)`, low frequency first, and `(…)` frames of each clip. Frames past
            a clip's length are finite and say nothing.
        """
        energy, frames = self.energies(wave, lengths)
        with torch.autocast(energy.device.type, enabled=False):
            return self.compressed(energy, None if lengths is None else frames), frames

    def energies(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, before compression."""
        stft = self.stft
        clips, ends, frames = stft.framing.clips(wave, lengths)
        with torch.autocast(clips.device.type, enabled=False):
            if self._plan is not None and stft.reuses(clips):
                with torch.no_grad():
                    energy = blocked_stft.filtered(clips, ends, self._plan)
            else:
                energy = self._filtered(stft.framing.padded(clips, ends))
        if not self.config.last_frame:
            energy = energy[:, : max(1, energy.shape[1] - 1)]
            frames = (frames - 1).clamp_min(1)
        return energy.reshape(*wave.shape[:-1], *energy.shape[1:]), frames

    def compressed(self, energy: Tensor, frames: Tensor | None = None) -> Tensor:
        """Levels of energies `(…, frames, n_mels)`, of which `frames` `(…)` are each clip's."""
        config = self.config
        level = compressed(
            energy,
            config.compression,
            floor=config.floor,
            top_db=config.top_db,
            power=config.power,
            frames=frames,
        )
        if config.shift or config.scale != 1:
            level = (level - config.shift) * config.scale
        return level

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        self.stft.reset_to_analytic()
        self.bank.reset_to_analytic()

    # Streaming ------------------------------------------------------------------------------------

    @property
    def latency_samples(self) -> int:
        """Samples after the moment that a frame stands for, before it is given."""
        return self.stft.latency_samples

    def stream_state(self, batch_shape: Sequence[int] = ()) -> FrameState:
        """The state before the first chunk of `(*batch_shape, samples)`.

        Raises:
            UserError: an option needs the whole clip.
        """
        if self.config.top_db is not None:
            raise UserError("top_db: the loudest value of a stream is not known; set it to None")
        if not self.config.last_frame:
            raise UserError("last_frame: a stream does not know which frame is its last; keep it")
        return self.stft.stream_state(batch_shape)

    def stream(self, chunk: Tensor, state: FrameState) -> tuple[Tensor, FrameState]:
        """The frames that `chunk` completes, `(…, frames, n_mels)`, and the state after it."""
        ready, state = self.stft.frames.push(chunk, state)
        return self._of_ready(ready), state

    def flush(self, state: FrameState) -> Tensor:
        """The last frames, at the end of the sound."""
        return self._of_ready(self.stft.frames.finish(state))

    def _of_ready(self, ready: Tensor) -> Tensor:
        clips, _, _ = self.stft.framing.clips(ready, None)
        if clips.shape[1] == 0:
            return clips.new_zeros(*ready.shape[:-1], 0, self.config.n_mels)
        if self._chunk_plan is not None and self.stft.reuses(clips):
            with torch.no_grad():
                energy = blocked_stft.filtered(clips, None, self._chunk_plan)
        else:
            energy = self._filtered(clips)
        return self.compressed(energy).reshape(*ready.shape[:-1], *energy.shape[1:])

    def _filtered(self, padded: Tensor) -> Tensor:
        """Energies of padded clips `(batch, samples)`; differentiable."""
        return self.bank(measured(*self.stft.of_padded(padded), self.config.power))
