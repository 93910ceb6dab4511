"""Randomness as a pure function of where it is used: (seed, stream, epoch, position, ...).

No generator is carried along, so a resumed run, another number of workers or another number of
processes finds the same numbers at the same place. The hash is the finaliser of SplitMix64 (Steele,
Lea and Flood 2014): integer arithmetic only, the same on every machine and version.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


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


def below(count: int, seed: int, *parts: int | str) -> int:
    """A whole number in 0 .. count - 1, uniform, at `key(seed, *parts)`."""
    return key(seed, *parts) * count >> 63


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """A torch generator on the CPU at `key(seed, *parts)`; its engine takes 32 bits of that."""
    import torch

    return torch.Generator().manual_seed(key(seed, *parts))


def numpy_generator(seed: int, *parts: int | str) -> np.random.Generator:
    """A NumPy generator at `key(seed, *parts)`."""
    return np.random.Generator(np.random.PCG64(key(seed, *parts)))


def uniforms(key: int, count: int) -> np.ndarray:
    """`(count,)` float32 in [0, 1), multiples of 2**-24: the numbers of SplitMix64 from `key`.

    The first numbers do not depend on how many are drawn.
    """
    state = np.arange(1, count + 1, dtype=np.uint64)
    state *= np.uint64(_STEP)
    state += np.uint64(key)
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        state ^= state >> np.uint64(shift)
        state *= np.uint64(factor)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _mix(value: int) -> int:
    value = (value + _STEP) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)
