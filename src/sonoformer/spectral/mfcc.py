"""Cepstral coefficients: the cosine transform of a filtered, compressed spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.options import configured, refuse_outside
from sonoformer.spectral.streaming import FrameState
from sonoformer.spectral.tables import Tables


@dataclass(frozen=True)
class MfccConfig:
    """Coefficients, and the spectrogram that they are of; the defaults are librosa's."""

    n_mfcc: int = 20
    """Coefficients, from the 0th on."""
    lifter: float = 0.0
    """Weigh coefficient n by 1 + lifter / 2 * sin(pi (n + 1) / lifter); 0 leaves them."""
    mel: MelConfig = field(default_factory=lambda: MelConfig(compression="db", top_db=80.0))
    """The spectrogram."""

    def __post_init__(self) -> None:
        refuse_outside(self, 1, self.mel.n_mels, "n_mfcc")
        if not 0 <= self.lifter < math.inf:
            raise UserError(f"lifter: must be at least 0 and finite; got {self.lifter}")

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""
        return self.mel.frames(samples)


@dataclass(frozen=True)
class GfccConfig(MfccConfig):
    """The same of gammatone filters with a cube root (Shao, Srinivasan and Wang 2007)."""

    mel: MelConfig = field(
        default_factory=lambda: MelConfig(
            kind="gammatone", n_mels=64, low_hz=50.0, compression="root"
        )
    )
    """The spectrogram."""


class Mfcc(Tables):
    """Waveforms -> cepstral coefficients, `(…, frames, n_mfcc)`; fp32 also under autocast."""

    cosines: Tensor

    def __init__(self, config: MfccConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(MfccConfig, config, options)
        self.mel = MelSpectrogram(config.mel)
        self._lay_tables()

    def forward(self, wave: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Coefficients.

        Args:
            wave: `(…, samples)`.
            lengths: `(…)` samples of each clip; all of them if absent.

        Returns:
            `(…, frames, n_mfcc)`, the 0th first, and `(…)` frames of each clip. Frames past a
            clip's length are finite and say nothing.
        """
        level, frames = self.mel(wave, lengths)
        return self._coefficients(level), frames

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        self.mel.reset_to_analytic()

    @property
    def latency_samples(self) -> int:
        """Samples after the moment that a frame stands for, before it is given."""
        return self.mel.latency_samples

    def stream_state(self, batch_shape: Sequence[int] = ()) -> FrameState:
        """The state before the first chunk of `(*batch_shape, samples)`.

        Raises:
            UserError: an option needs the whole clip (`top_db` is on by default).
        """
        return self.mel.stream_state(batch_shape)

    def stream(self, chunk: Tensor, state: FrameState) -> tuple[Tensor, FrameState]:
        """The frames that `chunk` completes, `(…, frames, n_mfcc)`, and the state after it."""
        level, state = self.mel.stream(chunk, state)
        return self._coefficients(level), state

    def flush(self, state: FrameState) -> Tensor:
        """The last frames, at the end of the sound."""
        return self._coefficients(self.mel.flush(state))

    def _coefficients(self, level: Tensor) -> Tensor:
        with torch.autocast(level.device.type, enabled=False):
            return level @ self.cosines.to(level.dtype)

    def _tables(self) -> dict[str, Tensor]:
        config = self.config
        cosines = cosine_transform(config.mel.n_mels, config.n_mfcc)
        if config.lifter:
            turn = math.pi * torch.arange(1, config.n_mfcc + 1, dtype=torch.float64)
            cosines = cosines * (1 + config.lifter / 2 * (turn / config.lifter).sin())
        return {"cosines": cosines}


class Gfcc(Mfcc):
    """Waveforms -> gammatone-frequency cepstral coefficients."""

    def __init__(self, config: GfccConfig | None = None, **options: Any) -> None:
        super().__init__(configured(GfccConfig, config, options))


def cosine_transform(size: int, count: int) -> Tensor:
    """The first `count` columns of the orthonormal cosine transform, type 2: `(size, count)`."""
    place = torch.arange(size, dtype=torch.float64).unsqueeze(1) + 0.5
    order = torch.arange(count, dtype=torch.float64)
    table = (math.pi / size * place * order).cos() * math.sqrt(2 / size)
    table[:, 0] /= math.sqrt(2)
    return table
