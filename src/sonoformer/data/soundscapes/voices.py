"""Calls made of numbers: like those of elephants and birds in band, length and modulation.

Each is zero before its first and after its last sample, and sounds from the first to the last: its
endpoints are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]


class Call(NamedTuple):
    """A sound to be placed."""

    labels: tuple[str, ...]
    samples: Wave
    """`(samples,)`, at any level"""
    low_hz: float | None
    high_hz: float | None


class Voice(NamedTuple):
    """How calls of a class are made."""

    make: Callable[[np.random.Generator, int], tuple[Wave, float, float]]
    """from a generator and a sample rate: samples, lowest and highest frequency in Hz"""
    least_rate: int
    """Hz; the sample rate that its band needs"""


def rumble(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """2 to 8 s, 10 to 35 Hz moving slowly, ten harmonics with a formant near 90 Hz."""
    count = _samples(rng, 2, 8, rate)
    pitch = np.clip(rng.uniform(12, 28) * (1 + 0.15 * _slow(rng, count)), 10, 35)
    harmonics = np.arange(1, 11)
    formant = 1 + 2 * np.exp(-(((harmonics * pitch.mean() - 90) / 40) ** 2))
    wave = _harmonic(rng, pitch, formant / harmonics**0.7, rate)
    return wave * _envelope(count, 0.15, 0.25), float(pitch.min()), 10 * float(pitch.max())


def roar(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """1 to 3 s of rough broadband noise from 50 to 2000 Hz over a falling tone."""
    count = _samples(rng, 1, 3, rate)
    noise = _band_noise(rng, count, 50, 2000, rate)
    time = np.arange(count) / rate
    rough = 1 + 0.6 * np.sin(2 * np.pi * rng.uniform(30, 70) * time + rng.uniform(0, 6))
    pitch = np.linspace(rng.uniform(90, 130), rng.uniform(60, 90), count)
    tone = _harmonic(rng, pitch, 1 / np.arange(1, 9), rate)
    wave = noise * rough + tone / max(float(tone.std()), 1e-9)
    return wave * _envelope(count, 0.1, 0.3), 50.0, 2000.0


def trumpet(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """0.4 to 1.8 s, 300 to 600 Hz with eight harmonics, beating 25 to 45 times a second."""
    count = _samples(rng, 0.4, 1.8, rate)
    pitch = np.clip(rng.uniform(350, 550) * (1 + 0.1 * _slow(rng, count)), 300, 600)
    time = np.arange(count) / rate
    beat = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(25, 45) * time)
    wave = _harmonic(rng, pitch, 1 / np.arange(1, 9) ** 0.5, rate) * beat
    return wave * _envelope(count, 0.08, 0.12), float(pitch.min()), 8 * float(pitch.max())


def bark(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """0.2 to 0.6 s, abrupt, 100 to 900 Hz."""
    count = _samples(rng, 0.2, 0.6, rate)
    return _band_noise(rng, count, 100, 900, rate) * _envelope(count, 0.05, 0.7), 100.0, 900.0


def squelch(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """0.1 to 0.4 s, rising from 500 towards 1500 Hz and falling again."""
    count = _samples(rng, 0.1, 0.4, rate)
    top = rng.uniform(1000, 1500)
    pitch = 500 + (top - 500) * np.sin(np.pi * np.linspace(0.05, 0.95, count))
    return _sung(rng, pitch, rate) * _envelope(count, 0.1, 0.2), 500.0, 2 * top


def chirp(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """0.08 to 0.35 s, one sweep between 2 and 6 kHz."""
    count = _samples(rng, 0.08, 0.35, rate)
    low, high = np.sort(rng.uniform(2000, 6000, 2))
    ends = (low, high) if rng.random() < 0.5 else (high, low)
    wave = _harmonic(rng, np.linspace(*ends, count), np.ones(1), rate)
    return wave * _envelope(count, 0.2, 0.2), float(low) - 50, float(high) + 50


def trill(rng: np.random.Generator, rate: int) -> tuple[Wave, float, float]:
    """0.6 to 2 s of 12 to 25 equal sweeps a second between 3 and 6.5 kHz."""
    note = round(rate / rng.uniform(12, 25))
    notes = int(rng.uniform(0.6, 2) * rate / note)
    low, width = rng.uniform(3000, 5000), rng.uniform(500, 1500)
    one = _harmonic(rng, np.linspace(low + width, low, note), np.ones(1), rate)
    wave = np.tile(one * _envelope(note, 0.2, 0.4), notes)
    return wave * _envelope(len(wave), 0.2, 0.1), low - 50, low + width + 50


VOICES: dict[str, Voice] = {
    "rumble": Voice(rumble, 800),
    "roar": Voice(roar, 4500),
    "trumpet": Voice(trumpet, 11000),
    "bark": Voice(bark, 2000),
    "squelch": Voice(squelch, 7000),
    "chirp": Voice(chirp, 13000),
    "trill": Voice(trill, 14000),
}
"""By class."""


def _samples(rng: np.random.Generator, least: float, most: float, rate: int) -> int:
    return round(rng.uniform(least, most) * rate)


def _envelope(count: int, attack: float, decay: float) -> Wave:
    """Rises and falls as squared sines over shares of the length; nowhere zero inside."""
    envelope = np.ones(count)
    rise, fall = max(1, round(attack * count)), max(1, round(decay * count))
    envelope[:rise] *= np.sin(np.pi / 2 * (np.arange(rise) + 0.5) / rise) ** 2
    envelope[count - fall :] *= np.cos(np.pi / 2 * (np.arange(fall) + 0.5) / fall) ** 2
    return envelope


def _slow(rng: np.random.Generator, count: int) -> Wave:
    """A slow movement within -1 to 1: two sines of 0.5 to 2 periods."""
    place = np.linspace(0, 2 * np.pi, count)
    parts = [np.sin(rng.uniform(0.5, 2) * place + rng.uniform(0, 2 * np.pi)) for _ in range(2)]
    return (parts[0] + parts[1]) / 2


def _harmonic(rng: np.random.Generator, pitch: Wave, levels: Wave, rate: int) -> Wave:
    """Harmonics of a moving pitch in Hz, those above 0.48 of the sample rate left out."""
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    wave = np.zeros(len(pitch))
    for number, level in enumerate(levels, 1):
        shift = rng.uniform(0, 2 * np.pi)
        if number * pitch.max() < 0.48 * rate:
            wave += level * np.sin(number * phase + shift)
    return wave


def _sung(rng: np.random.Generator, pitch: Wave, rate: int) -> Wave:
    return _harmonic(rng, pitch, np.array([1, 0.5]), rate)


def _band_noise(rng: np.random.Generator, count: int, low: float, high: float, rate: int) -> Wave:
    """Noise between two frequencies, 3 dB an octave weaker upwards, of mean power 1."""
    hertz = np.fft.rfftfreq(count, 1 / rate)
    shape = np.where((hertz >= low) & (hertz <= high), 1 / np.sqrt(np.maximum(hertz, low)), 0)
    wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * shape, count)
    return wave / max(float(wave.std()), 1e-12)
