"""Randomness as a pure function of where it is used: (seed, stream, epoch, position, ...).

No generator is carried along, so a resumed run, another number of workers or another number of
processes finds the same numbers at the same place.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_MASK = (1 << 64) - 1


def key(seed: int, *parts: int | str) -> int:
    """A 63-bit number that depends on every argument; names stand for streams.

    Each part goes through one round of splitmix64, so neighbouring places share nothing.

    >>> key(0, "crop", 3, 17) == key(0, "crop", 3, 17)
    True
    """
    state = _mix(seed & _MASK)
    for part in parts:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else part
        state = _mix(state ^ (number & _MASK))
    return state >> 1


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """A torch generator on the CPU at `key(seed, *parts)`."""
    import torch

    return torch.Generator().manual_seed(key(seed, *parts))


def numpy_generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A NumPy generator at `key(seed, *parts)`."""
    return np.random.Generator(np.random.PCG64(key(seed, *parts)))


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
