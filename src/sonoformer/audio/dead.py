"""Channels that hold nothing: a microphone that was not plugged in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from sonoformer.audio.opening import opened
from sonoformer.errors import AudioError

_LOOKS, _SECONDS = 8, 0.5


def dead_channels(path: str | Path) -> tuple[list[int], int]:
    """Channels without any change of pressure, and how many channels there are.

    A few moments spread over the recording are looked at, so that it takes milliseconds; a channel
    that is dead has the same value throughout each of them.

    Raises:
        AudioError: the file cannot be read.
    """
    with opened(path) as file:
        alive = np.zeros(file.channels, bool)
        count = max(1, round(_SECONDS * file.samplerate))
        for begin in np.linspace(0, max(0, file.frames - count), _LOOKS).astype(int):
            try:
                if not file.enter(int(begin)):
                    continue
                samples = file.take(count)
            except soundfile.LibsndfileError as error:
                raise AudioError(path, f"cannot be decoded ({error.error_string})") from error
            if len(samples):
                alive |= np.ptp(samples, axis=0) > 0
            if alive.all():
                break
        return np.flatnonzero(~alive).tolist(), file.channels
