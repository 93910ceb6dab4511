"""Frequency responses of a constant-Q transform's kernels, laid out for multiplying and folding.

The transform is a convolution per bin that is wanted at every hop-th sample only. With blocks of
`fold * hop` samples, the spectrum of a block times a bin's response, folded to `fold` values (place
m onto m modulo `fold`) and transformed back, gives the frames (Velasco et al., "Constructing an
invertible constant-Q transform with nonstationary Gabor frames", 2011). A response is all but zero
outside a narrow band, so that only the few rows of `fold` values that it touches are kept.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sonoformer.spectral.cqt_config import CqtConfig

_BLOCK = 2**17
"""Samples that a block has at most, unless the kernels are long."""
_GROUP = 12
"""Bins of a group."""
_KEPT = 2**28
"""Bytes of tables that are kept for later calls."""


@dataclass(frozen=True)
class Blocks:
    """How clips of one length are cut: `count` blocks of `frames` frames each, which read `span`
    samples, `step` apart, padded with zeros to `size = fold * hop`."""

    count: int
    frames: int
    fold: int
    span: int
    step: int
    size: int

    @classmethod
    def of(cls, hop: int, reach: int, frames: int) -> Blocks:
        """The cheapest cut for clips of `frames` frames.

        Folds are of few different sizes, for which transforms are fast and tables are kept. A
        single transform costs several in a batch, so that clips of some length make two blocks.
        """
        lost = -(-(2 * reach + 1) // hop)  # frames whose kernels do not fit in a block, plus one
        largest = max(_BLOCK // hop, 4 * lost, 8)
        best, least, fold = 0, math.inf, 8
        while fold <= largest:
            each = fold - lost + 1
            if each >= 1:
                count = -(-frames // each)
                cost = count * fold * (1.5 if count == 1 and fold > 32 else 1.0)
                if cost < least:
                    best, least = fold, cost
            fold = next_fold(fold)
        count = -(-frames // (best - lost + 1))
        each = -(-frames // count)
        return cls(count, each, best, (each - 1) * hop + 2 * reach + 1, each * hop, best * hop)

    @property
    def covered(self) -> int:
        """Samples that all blocks read together."""
        return (self.count - 1) * self.step + self.span


def next_fold(fold: int) -> int:
    """8, 10, 12, 14, 16, 20, 24, 28, 32, 40, ...: even, and no prime above 7."""
    return fold + (1 << fold.bit_length() - 3)


class Group(NamedTuple):
    """Neighbouring bins.

    Attributes:
        bins: which.
        rows: of the spectrum that any of them touches, counted from the tables' first row.
        response: `(bins, rows, fold)` complex, conjugated and divided by the hop.
        touched: rows of `response` that each bin touches.
    """

    bins: slice
    rows: slice
    response: Tensor
    touched: tuple[slice, ...]


@dataclass(frozen=True)
class Responses:
    """Responses for blocks of `fold * hop` samples; rows `first` to `last` of the spectrum, where
    row r holds frequencies r fold to (r + 1) fold - 1 (negative ones where r is below 0)."""

    first: int
    last: int
    groups: tuple[Group, ...]

    @property
    def bytes(self) -> int:
        """Memory."""
        return sum(g.response.numel() * g.response.element_size() for g in self.groups)


@torch.compiler.assume_constant_result
def responses(
    config: CqtConfig, fold: int, dtype: torch.dtype = torch.complex64, device: str = "cpu"
) -> Responses:
    """The tables of a transform; the last used ones are kept, up to a bound, for all threads."""
    key = (config, fold, dtype, device)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key]
    # Made outside the lock; two threads may make the same.
    with torch.inference_mode(False), torch.no_grad():
        made = _make(config, fold, dtype, torch.device(device))
    with _lock:
        _cache[key] = made
        while len(_cache) > 1 and sum(tables.bytes for tables in _cache.values()) > _KEPT:
            _cache.popitem(last=False)
    return made


_lock = threading.Lock()
_cache: OrderedDict[tuple[CqtConfig, int, torch.dtype, str], Responses] = OrderedDict()


def _make(config: CqtConfig, fold: int, dtype: torch.dtype, device: torch.device) -> Responses:
    size, center = fold * config.hop_length, config.reach
    bands = [response_band(config, bin_, size, center) for bin_ in range(config.n_bins)]
    spans = [(low // fold, -(-(low + len(band)) // fold)) for low, band in bands]
    first = min(0, min(a for a, _ in spans))
    groups = []
    for start in range(0, config.n_bins, _GROUP):
        stop = min(start + _GROUP, config.n_bins)
        bottom = min(a for a, _ in spans[start:stop])
        top = max(b for _, b in spans[start:stop])
        table = torch.zeros(stop - start, (top - bottom) * fold, dtype=torch.complex128)
        for row, (low, band) in zip(table, bands[start:stop], strict=True):
            place = low - bottom * fold
            row[place : place + len(band)] = band / config.hop_length
        table = table.unflatten(1, (-1, fold)).to(device, dtype)
        touched = tuple(slice(a - bottom, b - bottom) for a, b in spans[start:stop])
        groups.append(Group(slice(start, stop), slice(bottom - first, top - first), table, touched))
    return Responses(first, max(b for _, b in spans), tuple(groups))


def response_band(config: CqtConfig, bin_: int, size: int, center: int) -> tuple[int, Tensor]:
    """Where a kernel's response in a transform of `size` samples is not nearly zero.

    Args:
        config: the transform.
        bin_: the bin.
        size: samples of the transform.
        center: sample of the block on which the first frame is centred.

    Returns:
        The lowest frequency (it may be negative, and the highest may lie above size / 2) and
        `(band,)` complex128, the conjugated response.
    """
    start, kernel = config.kernel(bin_)
    padded = torch.zeros(size, dtype=torch.complex128)
    padded[: len(kernel)] = kernel
    response = torch.fft.fft(padded).conj()
    middle = round(config.frequencies[bin_] * size / config.sample_rate)
    place = torch.arange(middle - size // 2, middle - size // 2 + size)
    response = response[place.remainder(size)]
    loud = response.abs()
    heard = (loud > config.response_cut * loud.max()).nonzero().flatten()
    low, high = int(heard[0]), int(heard[-1]) + 1
    turn = ((start + center) * place[low:high]).remainder(size).double()
    phase = torch.polar(torch.ones(high - low, dtype=torch.float64), 2 * math.pi / size * turn)
    return int(place[low]), response[low:high] * phase
