"""Token columns of waveforms of any length, each with its time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sonoformer.nn.tokens import Encoder


def column_times(encoder: Encoder, count: int) -> NDArray[np.float64]:
    """`(count,)` seconds: the middles of the first columns of a clip.

    For an encoder with patches: the middle of the analysis windows that a patch covers, else the
    middle of the column's own step.
    """
    config: Any = encoder.config
    step = float(encoder.seconds_per_token)
    first = step / 2
    if hasattr(config, "patch") and hasattr(config, "front"):
        front = config.front
        heard = (config.patch[1] - 1) / 2 * front.hop_ms + front.window_ms / 2
        first = heard * front.speed / 1000
    return np.asarray(first + step * np.arange(count), np.float64)


@dataclass(frozen=True)
class Cut:
    """How long sound is cut into parts, between columns.

    Attributes:
        columns: columns of a part.
        samples: from one part to the next.
        overhang: samples past its end that a part's last column needs.
    """

    columns: int
    samples: int
    overhang: int

    @classmethod
    def of(cls, encoder: Encoder, seconds: float) -> Cut:
        """Parts of about `seconds`."""
        config: Any = encoder.config
        step, rate = float(encoder.seconds_per_token), encoder.sample_rate
        columns = max(1, round(seconds / step))
        past = 0.0
        if hasattr(config, "patch") and hasattr(config, "front"):
            front = config.front
            frames = config.patch[1] - config.stride[1]
            heard = frames * front.hop_ms + front.window_ms - front.hop_ms
            past = max(0.0, heard) * front.speed / 1000
        return cls(columns, round(columns * step * rate), math.ceil(past * rate))


def columns_of(
    encoder: nn.Module, wave: Tensor, seconds: float = 10.0
) -> tuple[Tensor, NDArray[np.float64]]:
    """All tokens of each time side by side: `(batch, time, rows x dim)`, and the times.

    Long sound is heard in parts of `seconds`, cut between columns, so that memory does not grow
    with its square. Columns whose middle lies past the sound's end are left out, but for the first.

    Args:
        encoder: an `nn.tokens.Encoder` in evaluation mode.
        wave: `(batch, samples)` at its sample rate, all of the same length.
        seconds: longest part.
    """
    model: Any = encoder
    cut = Cut.of(model, seconds)
    pieces, times = [], []
    for start in range(0, max(1, wave.shape[1]), cut.samples):
        tokens = model(wave[:, start : start + cut.samples + cut.overhang])
        columns = tokens.framewise()[:, tokens.valid_frames()[0]][:, : cut.columns]
        if not columns.shape[1]:
            columns = tokens.framewise()[:, :1]
        pieces.append(columns.flatten(2))
        times.append(start / model.sample_rate + column_times(model, columns.shape[1]))
    where = np.concatenate(times)
    keep = where < wave.shape[1] / model.sample_rate
    keep[0] = True
    return torch.cat(pieces, 1)[:, torch.from_numpy(keep)], where[keep]
