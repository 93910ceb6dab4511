"""Calls laid into noise, block by block, at known times and levels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sonoformer.data.keys import below, numpy_generator
from sonoformer.data.soundscapes.clips import Clips
from sonoformer.data.soundscapes.config import SoundscapeConfig
from sonoformer.data.soundscapes.noise import Noise
from sonoformer.data.soundscapes.voices import VOICES, Call, Wave

_LOUDEST = 0.5  # peak of an event: what is louder is lowered, and its ratio with it
_SILENCE = 1e-10  # mean power (-100 dBFS) that digital silence is taken to have
_BLOCK = 20  # seconds written at a time


class Placed(NamedTuple):
    """An event of a soundscape."""

    first: int
    """sample at which it begins"""
    call: Call
    """its samples at the level at which they were added"""
    snr_db: float
    """the ratio it has, which a limited peak may have lowered"""


class Mixer:
    """One soundscape as blocks; its events are known once the blocks were made.

    Args:
        config: what it holds.
        seed: of everything random.
        file: number of the soundscape.
        noise: the background.
        clips: real clips; generated voices without.
    """

    def __init__(
        self, config: SoundscapeConfig, seed: int, file: int, noise: Noise, clips: Clips | None
    ) -> None:
        self.config, self.seed, self.file = config, seed, file
        self.noise, self.clips = noise, clips
        self.rows: list[tuple[float, float, str, float | None, float | None, float]] = []
        """start, end, label, low_hz, high_hz, snr_db"""

    def blocks(self, size: int | None = None) -> Iterator[np.ndarray]:
        """The sound as float32 blocks of `size` samples; the same sound whatever the size."""
        total = self.config.samples
        size = size or _BLOCK * self.config.sample_rate
        coming, sounding = self._events(), list[Placed]()
        following = next(coming, None)
        for first in range(0, total, size):
            last = min(first + size, total)
            while following is not None and following.first < last:
                sounding.append(following)
                following = next(coming, None)
            mixed = self.noise(first, last)
            for event in sounding:
                _add(mixed, first, event)
            sounding = [e for e in sounding if e.first + len(e.call.samples) > last]
            yield np.clip(mixed, -1, 1).astype(np.float32)

    def _events(self) -> Iterator[Placed]:
        """Events in the order of their starts: a Poisson process, by its exponential gaps."""
        config, at, number = self.config, 0, 0
        mean = 60 / config.rate * config.sample_rate
        while True:
            gap = numpy_generator(self.seed, "gap", self.file, number).exponential(mean)
            at += max(1, round(gap))
            if at >= config.samples:
                return
            call = self._call(number)
            number += 1
            end = at + len(call.samples)
            if end > config.samples:
                continue  # it would be cut off: an event is heard whole
            event = self._at_level(at, call, number)
            self._note(event)
            yield event
            at = at if config.overlaps else end

    def _call(self, number: int) -> Call:
        """The call of an event: each voice, and the clips together, equally often."""
        sung = self.config.sung
        choice = below(len(sung) + (self.clips is not None), self.seed, "voice", self.file, number)
        if self.clips is not None and choice == len(sung):
            return self.clips.draw(self.file, number, seed=self.seed)
        rng = numpy_generator(self.seed, "call", self.file, number)
        wave, low, high = VOICES[sung[choice]].make(rng, self.config.sample_rate)
        return Call((sung[choice],), wave, low, min(high, self.config.sample_rate / 2))

    def _at_level(self, first: int, call: Call, number: int) -> Placed:
        rate = self.config.sample_rate
        wanted = numpy_generator(self.seed, "snr", self.file, number).uniform(*self.config.snr)
        noise = self.noise(first, first + len(call.samples))
        own = max(band_power(call.samples, call.low_hz, call.high_hz, rate), 1e-30)
        other = max(band_power(noise, call.low_hz, call.high_hz, rate), _SILENCE)
        gain = np.sqrt(10 ** (wanted / 10) * other / own)
        gain = min(gain, _LOUDEST / np.abs(call.samples).max())
        found = 10 * np.log10(gain**2 * own / other)
        return Placed(first, call._replace(samples=gain * call.samples), float(found))

    def _note(self, event: Placed) -> None:
        rate, call = self.config.sample_rate, event.call
        start, end = event.first / rate, (event.first + len(call.samples)) / rate
        self.rows += [
            (start, end, label, call.low_hz, call.high_hz, event.snr_db) for label in call.labels
        ]


def band_power(wave: Wave, low: float | None, high: float | None, rate: int) -> float:
    """Mean power between two frequencies in Hz; of all where they are not given."""
    if low is None or high is None:
        return float(np.mean(wave**2))
    power = np.abs(np.fft.rfft(wave)) ** 2
    hertz = np.fft.rfftfreq(len(wave), 1 / rate)
    inside = (hertz >= low) & (hertz <= high)
    if not inside.any():
        inside[np.abs(hertz - (low + high) / 2).argmin()] = True
    return float(2 * power[inside].sum() / len(wave) ** 2)


def _add(mixed: Wave, first: int, event: Placed) -> None:
    samples = event.call.samples
    low, high = max(event.first, first), min(event.first + len(samples), first + len(mixed))
    mixed[low - first : high - first] += samples[low - event.first : high - event.first]
