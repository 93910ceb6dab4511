"""Real clips to place, and real recordings to place them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from sonoformer.audio import find, probe, read
from sonoformer.data.keys import below
from sonoformer.data.manifest import Manifest
from sonoformer.data.soundscapes.noise import Noise
from sonoformer.data.soundscapes.voices import Call, Wave
from sonoformer.errors import AudioError, UserError

Problem = Callable[[str, str], object]
"""Is told the path of a file that was left out, and why."""

LONGEST = 30.0
"""Seconds of a clip that are taken at most."""

_FADE = 0.25  # seconds in which one background goes over into the next
_TILE = 10  # seconds of a background decoded at a time
_TRIES = 50


class Clips:
    """Labelled clips, drawn at random; of one with pauses, one of its sounds, drawn as well.

    Args:
        path: what `Manifest.read` takes: a folder per class or a table.
        rate: Hz.
        trim_db, pause: see `sounds`.
        problem: told of clips that cannot be used.
    """

    def __init__(
        self, path: Path, rate: int, trim_db: float, pause: float, problem: Problem
    ) -> None:
        manifest = Manifest.read(path, allow_absolute=True).require_labels()
        labelled = manifest.table.filter(manifest.table["labels"].list.len() > 0)
        columns = ("path", "start", "end", "channel", "labels", "low_hz", "high_hz")
        self.rows = labelled.select(columns).rows()
        self.source, self.rate, self.problem = str(path), rate, problem
        self.trim_db, self.pause = trim_db, pause
        self._bad: set[int] = set()

    def draw(self, *place: int | str, seed: int) -> Call:
        """The clip for a place; another one where it cannot be used.

        Raises:
            UserError: no clip of many can be used.
        """
        for attempt in range(_TRIES):
            number = below(len(self.rows), seed, "clip", *place, attempt)
            if number not in self._bad and (parts := self._sounds(number)):
                return parts[below(len(parts), seed, "sound", *place, attempt)]
        raise UserError(f"{self.source}: none of {_TRIES} clips could be used")

    def _sounds(self, number: int) -> list[Call]:
        """What is heard in a clip; nothing if it cannot be used."""
        path, start, end, channel, labels, low, high = self.rows[number]
        last = start + LONGEST if end is None else min(end, start + LONGEST)
        try:
            wave = read(
                path,
                self.rate,
                start=start,
                end=last,
                channel="mix" if channel is None else channel,
            )
        except AudioError as error:
            self._bad.add(number)
            self.problem(path, error.reason)
            return []
        found = sounds(wave.astype(np.float64), self.rate, self.trim_db, self.pause)
        if not found:
            self._bad.add(number)
            self.problem(path, "is silent or shorter than 10 ms")
        return [Call(tuple(labels), one, low, high) for one in found]


def sounds(wave: Wave, rate: int, trim_db: float, pause: float) -> list[Wave]:
    """A clip cut into what is heard in it: from a loud frame of 10 ms to the last one before a
    pause, each faded at both ends within 5 ms.

    Labels would otherwise speak of silence: a recording of two barks is not one bark of 5 s, and
    what a bark leaves in the room is lost in any other place.

    Args:
        wave: `(samples,)`.
        rate: Hz.
        trim_db: loud is a mean power within so many dB of the loudest frame's.
        pause: seconds without a loud frame that part one sound from the next; at infinity the clip
            is trimmed alone.
    """
    frame = max(1, rate // 100)
    count = len(wave) // frame
    power = np.mean(wave[: count * frame].reshape(count, frame) ** 2, axis=1)
    if not count or not power.max() > 0:
        return []
    loud = np.flatnonzero(power >= power.max() * 10 ** (-trim_db / 10))
    apart = np.flatnonzero(np.diff(loud) - 1 > pause * rate / frame) + 1
    return [
        _faded(wave[part[0] * frame : (part[-1] + 1) * frame], rate)
        for part in np.split(loud, apart)
    ]


def _faded(wave: Wave, rate: int) -> Wave:
    fade = min(rate // 200, len(wave) // 2)
    ramp = (np.arange(fade) + 0.5) / max(fade, 1)
    wave = wave.copy()
    wave[:fade] *= ramp
    wave[len(wave) - fade :] *= ramp[::-1]
    return wave


def backgrounds(folder: Path, seed: int, file: int, rate: int, problem: Problem) -> Noise:
    """Real recordings one after the other, drawn at random, at the level they were recorded with.

    Each is heard whole and goes over into the next within 0.25 s at even power. A recording shorter
    than a second is left out; one that breaks off is silent from there on.

    Raises:
        UserError: the folder holds no recording that can be used.
    """
    usable = _usable(find([folder]), problem)
    if not usable:
        raise UserError(f"{folder}: holds no recording of a second or more that can be read")
    fade = round(_FADE * rate)
    ramp = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / fade)
    begins, order = [0], [below(len(usable), seed, "background", file, 0)]

    @lru_cache(maxsize=4)
    def tile(path: str, number: int) -> Wave:
        wave = np.zeros(_TILE * rate)
        try:
            found = read(path, rate, start=number * _TILE, end=(number + 1) * _TILE)
            wave[: len(found)] = found
        except AudioError as error:
            problem(path, error.reason)
        return wave

    def one(number: int, first: int, last: int) -> Wave:
        """Places of the `number`-th recording, faded at its ends."""
        path, seconds = usable[order[number]]
        length, size = int(seconds * rate), _TILE * rate
        parts = range(first // size, (last - 1) // size + 1)
        wave = np.concatenate([tile(path, part) for part in parts])
        wave = wave[first - parts[0] * size : last - parts[0] * size].copy()
        place = np.arange(first, last)
        if number and first < fade:
            wave[: fade - first] *= ramp[first : min(fade, last)]
        over = place >= length - fade
        wave[over] *= ramp[length - 1 - place[over]]
        return wave

    def at(first: int, last: int) -> Wave:
        while begins[-1] < last:
            length = int(usable[order[-1]][1] * rate)
            begins.append(begins[-1] + length - fade)
            order.append(below(len(usable), seed, "background", file, len(order)))
        total = np.zeros(last - first)
        for number, begin in enumerate(begins):
            length = int(usable[order[number]][1] * rate)
            low, high = max(first, begin), min(last, begin + length)
            if low < high:
                total[low - first : high - first] += one(number, low - begin, high - begin)
        return total

    return at


def _usable(paths: Sequence[Path], problem: Problem) -> list[tuple[str, float]]:
    """Paths and seconds of the recordings that can be opened and are long enough."""
    found = []
    for path in paths:
        try:
            seconds = probe(path).duration
        except AudioError as error:
            problem(str(path), error.reason)
            continue
        if seconds < 1:
            problem(str(path), "is shorter than a second")
        else:
            found.append((str(path), seconds))
    return found
