"""Noise of the open air, each sample a pure function of seed and place.

So that any stretch can be made alone and a file does not depend on how it is cut into blocks. Made
in tiles, each from a generator of its own, of which the last few are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from sonoformer.data.keys import numpy_generator
from sonoformer.data.soundscapes.voices import Wave

_HOP = 1 << 15  # samples from one tile of coloured noise to the next
_GUST = 1.5  # seconds between the points that a gust goes through
_DROPS = 30.0  # drops of rain a second
_TAIL = 0.03  # seconds that a drop may sound
_SHARES = {"floor": -6.0, "wind": 0.0, "rain": -6.0, "insects": -10.0}
"""dB of each noise against the level asked for."""

Noise = Callable[[int, int], Wave]
"""Samples from the first up to the last place."""


def weather(kinds: Sequence[str], seed: int, file: int, rate: int, level_db: float) -> Noise:
    """The noises of `kinds` over a floor of pink noise.

    Args:
        kinds: of wind, rain, insects.
        seed: of everything.
        file: number of the file; each has noise of its own.
        rate: Hz.
        level_db: dBFS.
    """
    made = [(_SHARES["floor"], _coloured(seed, file, rate, "floor", 0.5))]
    if "wind" in kinds:
        made.append((_SHARES["wind"], _wind(seed, file, rate)))
    if "rain" in kinds:
        made.append((_SHARES["rain"], _rain(seed, file, rate)))
    if "insects" in kinds:
        made.append((_SHARES["insects"], _insects(seed, file, rate)))
    gains = [(10 ** ((level_db + share) / 20), noise) for share, noise in made]

    def at(first: int, last: int) -> Wave:
        total = np.zeros(last - first)
        for gain, noise in gains:
            total += gain * noise(first, last)
        return total

    return at


def _coloured(seed: int, file: int, rate: int, name: str, slope: float, low: float = 10.0) -> Noise:
    """Noise of amplitude 1 / f^slope above `low` Hz and mean power 1, in overlapping tiles."""
    size = 2 * _HOP
    hertz = np.fft.rfftfreq(size, 1 / rate)
    shape = np.where(hertz >= min(low, rate / 8), np.maximum(hertz, 1.0) ** -slope, 0)
    shape *= np.sqrt(size / (2 * np.sum(shape**2)))
    # Sines that add up to power 1 where two tiles overlap.
    window = np.sin(np.pi * (np.arange(size) + 0.5) / size)

    @lru_cache(maxsize=4)
    def tile(number: int) -> Wave:
        rng = numpy_generator(seed, name, file, number)
        return window * np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * shape, size)

    return _laid(tile, _HOP, 2)


def _wind(seed: int, file: int, rate: int) -> Noise:
    """Low noise, 1 / f, that comes in gusts."""
    hiss = _coloured(seed, file, rate, "wind", 1.0, 3.0)

    @lru_cache(maxsize=64)
    def strength(number: int) -> float:
        return float(0.2 + 1.5 * numpy_generator(seed, "gust", file, number).random() ** 2)

    def at(first: int, last: int) -> Wave:
        place = np.arange(first, last) / (_GUST * rate)
        low = int(place[0])
        points = np.array([strength(n) for n in range(low, int(place[-1]) + 2)])
        index = place.astype(np.int64) - low
        share = (1 - np.cos(np.pi * (place - np.floor(place)))) / 2
        return hiss(first, last) * (points[index] * (1 - share) + points[index + 1] * share)

    return at


def _rain(seed: int, file: int, rate: int) -> Noise:
    """Drops: short decaying tones at random times."""
    tail = round(_TAIL * rate)

    @lru_cache(maxsize=4)
    def second(number: int) -> Wave:
        rng = numpy_generator(seed, "rain", file, number)
        wave = np.zeros(2 * rate)
        time = np.arange(tail) / rate
        for _ in range(rng.poisson(_DROPS)):
            place = rng.integers(rate)
            hertz, decay = rng.uniform(0.1, 0.42) * rate, rng.uniform(0.002, 0.006)
            drop = np.exp(-time / decay) * np.sin(2 * np.pi * hertz * time)
            wave[place : place + tail] += rng.exponential(5.0) * drop
        return wave

    return _laid(second, rate, 2)


def _insects(seed: int, file: int, rate: int) -> Noise:
    """Three narrow bands that pulsate and swell."""
    rng = numpy_generator(seed, "insects", file)
    singers = [
        (rng.uniform(0.22, 0.42) * rate, rng.uniform(8, 40), rng.uniform(0.05, 0.2), *rng.random(3))
        for _ in range(3)
    ]

    def at(first: int, last: int) -> Wave:
        time = np.arange(first, last) / rate
        total = np.zeros(last - first)
        for hertz, pulse, swell, *phases in singers:
            # Whole turns are taken off first, so that hours cost no precision.
            turns = [
                (f * time + p) % 1.0 for f, p in zip((hertz, pulse, swell), phases, strict=True)
            ]
            carrier, beat, wave = (np.sin(2 * np.pi * turn) for turn in turns)
            total += carrier * np.maximum(beat, 0) * (1 + wave)
        return total

    return at


def _laid(tile: Callable[[int], Wave], hop: int, count: int) -> Noise:
    """Tiles of `count` hops laid over each other, one a hop; the first begins before place 0."""

    def at(first: int, last: int) -> Wave:
        total = np.zeros(last - first)
        for number in range(first // hop - count + 1, (last - 1) // hop + 1):
            begins = number * hop
            low, high = max(first, begins), min(last, begins + count * hop)
            total[low - first : high - first] += tile(number)[low - begins : high - begins]
        return total

    return at
