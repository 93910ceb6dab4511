"""Mean and spread of a front end's values over real frames only, in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.config import FbankConfig
from sonoformer.spectral.front import FrontEnd


@dataclass(frozen=True)
class Statistics:
    """What `RunningStatistics` found.

    Attributes:
        mean: of all values.
        std: population standard deviation.
        frames: real frames seen.
    """

    mean: float
    std: float
    frames: int

    def apply(self, config: FbankConfig) -> FbankConfig:
        """The front end's configuration with these statistics."""
        return replace(config, mean=self.mean, std=self.std)


class RunningStatistics:
    """Welford's update, a batch at a time, in float64; padding is left out.

    The published constants were averaged over batches with padding and masking switched on; these
    are those of the sound alone.
    """

    def __init__(self) -> None:
        self._count = 0
        self._frames = 0
        self._mean = 0.0
        self._squares = 0.0

    def update(self, spec: Tensor, lengths: Tensor | None = None) -> None:
        """Add `(batch, frames, bins)`, of which `lengths` `(batch,)` frames are real.

        Raises:
            UserError: a value is NaN or infinite.
        """
        if lengths is None:
            values = spec.reshape(-1, spec.shape[2]).double()
        else:
            real = torch.arange(spec.shape[1], device=spec.device) < lengths.unsqueeze(1)
            values = spec[real].double()
        if values.numel() == 0:
            return
        mean = values.mean()
        if not bool(torch.isfinite(mean)):
            raise UserError("the sound holds NaN or infinite values; no statistics can be measured")
        other = RunningStatistics()
        other._count, other._frames = values.numel(), len(values)
        other._mean, other._squares = mean.item(), (values - mean).square().sum().item()
        self.merge(other)

    def merge(self, other: RunningStatistics) -> None:
        """Add what another pass over other data has seen (Chan's formula)."""
        total = self._count + other._count
        if total == 0:
            return
        step = other._mean - self._mean
        self._squares += other._squares + step**2 * self._count * other._count / total
        self._mean += step * other._count / total
        self._count, self._frames = total, self._frames + other._frames

    def result(self) -> Statistics:
        """Mean and standard deviation so far.

        Raises:
            UserError: nothing was seen, or all values are equal (digital silence).
        """
        if self._count == 0:
            raise UserError("no sound to measure the front end's statistics on")
        std = (self._squares / self._count) ** 0.5
        if std < 1e-6:
            raise UserError("all sound is silent: its statistics cannot normalise anything")
        return Statistics(self._mean, std, self._frames)


@torch.no_grad()
def measure(front: FrontEnd, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Statistics:
    """Statistics of a front end's raw log-mels over batches of (waveforms, lengths)."""
    running = RunningStatistics()
    for wave, lengths in batches:
        running.update(*front.raw(wave, lengths))
    return running.result()
