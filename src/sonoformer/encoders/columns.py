"""Where an encoder's token columns lie in time, and its token rows in frequency."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sonoformer.nn.patches import grid_of
from sonoformer.spectral.config import FbankConfig
from sonoformer.spectral.scales import Scale, from_scale, to_scale

_SCALES: dict[str, Scale] = {
    **{name: name for name in ("kaldi", "slaney", "htk", "bark", "erb", "linear", "log")},
    "gammatone": "erb",
}
"""The scale on which the bins of a transform are spaced evenly."""
_CENTRED = ("cqt", "vqt", "leaf")
"""Transforms whose frame t stands around sample `t * hop`, not behind it."""


@dataclass(frozen=True)
class ColumnGrid:
    """The columns of an encoder of patches.

    Column k is made of the analysis frames of one patch. Its *cell* is the stretch of one step
    around the middle of those frames: cells lie side by side, and a label belongs to the columns
    whose cells it covers.

    Attributes:
        rate: Hz of the waveforms.
        front: how the encoder hears.
        patch: frames of a patch.
        stride: frames from one column to the next.
        bins: bins of the spectrogram.
    """

    rate: int
    front: FbankConfig
    patch: int
    stride: int
    bins: int

    @classmethod
    def of(cls, encoder: Any) -> ColumnGrid:
        """The grid of an encoder with `config.patch`, `config.stride` and `config.front`."""
        config = encoder.config
        front = replace(config.front, fixed_frames=None)
        return cls(int(encoder.sample_rate), front, config.patch[1], config.stride[1], front.n_mels)

    @property
    def samples(self) -> int:
        """Samples from one column to the next."""
        return self.stride * self.front.hop_length

    @property
    def step(self) -> float:
        """Seconds from one column to the next."""
        return self.samples / self.rate

    @property
    def first(self) -> float:
        """Seconds from the beginning of the sound to the middle of column 0."""
        middle = (self.patch - 1) / 2 * self.front.hop_length + self._frame / 2
        return middle / self.rate

    @property
    def _frame(self) -> int:
        """Samples of an analysis frame that lie behind its place."""
        front = self.front
        if front.transform in _CENTRED:
            return 0
        return front.window_length if front.transform == "kaldi" else front.n_fft

    def count(self, samples: int) -> int:
        """Columns that are wholly made of `samples` samples; 0 if there are too few for one."""
        if samples < self.needed(1):
            return 0
        shape = (self.bins, self.front.frames(samples), (self.bins, self.patch))
        return grid_of(*shape, (self.bins, self.stride))[1]

    def needed(self, columns: int) -> int:
        """Fewest samples that make `columns` columns."""
        frames = (columns - 1) * self.stride + self.patch
        # A strided convolution gives a frame as soon as its first sample is there.
        last = 1 if self.front.transform == "leaf" else self._frame
        return max(1, (frames - 1) * self.front.hop_length + last)

    def edges(self, columns: int, start: float = 0.0) -> NDArray[np.float64]:
        """`(columns + 1,)` seconds: the borders of the first cells of sound that begins at
        `start`."""
        return np.asarray(start + self.first + self.step * (np.arange(columns + 1) - 0.5))

    def times(self, columns: int) -> NDArray[np.float64]:
        """`(columns,)` seconds: the middles of the first columns."""
        return np.asarray(self.first + self.step * np.arange(columns))


def row_hertz(encoder: Any) -> NDArray[np.float64] | None:
    """`(rows, 2)` Hz of the recordings: the lowest and highest filter edge of each token row; None
    where rows mean no band (cepstra, learned filters)."""
    config = encoder.config
    front, (high, step) = config.front, (config.patch[0], config.stride[0])
    edges = _bin_edges(front)
    if edges is None:
        return None
    rows = (front.n_mels - high) // step + 1
    # A model that is played recordings faster hears them higher.
    edges = edges * int(encoder.sample_rate) / front.sample_rate
    # Bin b is a triangle from edge b to edge b + 2.
    return np.array([[edges[r * step], edges[r * step + high + 1]] for r in range(rows)])


def _bin_edges(front: FbankConfig) -> NDArray[np.float64] | None:
    """`(n_mels + 2,)` Hz."""
    if front.transform in ("cqt", "vqt"):
        steps = np.arange(-1, front.n_mels + 1)
        return np.asarray(front.low_hz * 2.0 ** (steps / front.bins_per_octave))
    scale = _SCALES.get(front.transform)
    if scale is None:
        return None
    ends = to_scale(torch.tensor([front.low_hz, front.top_hz], dtype=torch.float64), scale)
    places = torch.linspace(float(ends[0]), float(ends[1]), front.n_mels + 2, dtype=torch.float64)
    return from_scale(places, scale).numpy()
