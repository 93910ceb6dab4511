"""What a generated soundscape holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sonoformer.data.soundscapes.voices import VOICES
from sonoformer.errors import UserError, nearest

Weather = Literal["wind", "rain", "insects"]


@dataclass(frozen=True)
class SoundscapeConfig:
    """How long annotated soundscapes are made."""

    minutes: float = 10.0
    """Length of each file."""
    files: int = 1
    """How many files."""
    sample_rate: int = 16000
    """Hz."""
    voices: tuple[str, ...] | None = None
    """Generated events: rumble, roar, trumpet, bark, squelch, chirp, trill; all by default, none
    with clips."""
    clips: Path | None = None
    """Real clips to place: a folder with a folder for each class, or a table of labelled clips."""
    backgrounds: Path | None = None
    """Folder of real recordings to place events in, instead of generated noise. What is in them is
    not in the table: take recordings without the events sought."""
    rate: float = 6.0
    """Events a minute on average, at random times (Poisson)."""
    overlaps: bool = True
    """Whether events may overlap; if not, the next waits for the end of the one before."""
    snr: tuple[float, float] = (-5.0, 20.0)
    """Range of the signal-to-noise ratio in dB: an event's mean power over the background's, both
    between its start and end and in its band (broadband for clips without one)."""
    weather: tuple[Weather, ...] | None = None
    """Noises: wind, in gusts; rain, of drops; insects, narrow and pulsating. All by default, none
    with real backgrounds."""
    level_db: float = -40.0
    """Level of generated noise in dBFS."""
    trim_db: float = 25.0
    """Sounds of clips begin and end where the level comes within this many dB of the clip's loudest
    10 ms."""
    pause: float = 0.5
    """Seconds without such a level at which a clip is cut: each part is an event of its own, one of
    which is drawn. inf takes clips whole."""
    format: Literal["flac", "wav"] = "flac"
    """Files to write, with 16 bits."""

    def __post_init__(self) -> None:
        for name in ("minutes", "files", "sample_rate", "rate", "trim_db"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}: must be above 0 and finite; got {getattr(self, name)}")
        if not self.pause > 0:
            raise UserError(f"pause: must be above 0 seconds; got {self.pause}")
        if not -100 <= self.snr[0] <= self.snr[1] <= 100:
            raise UserError(f"snr: must rise within -100 to 100 dB; got {self.snr}")
        if not -100 <= self.level_db <= -10:
            raise UserError(f"level_db: must lie within -100 to -10 dBFS; got {self.level_db}")
        for kind in self.weather or ():
            if kind not in get_args(Weather):
                known = ", ".join(get_args(Weather))
                raise UserError(f"weather: must be of {known}; got {kind!r}")
        for name in self.voices or ():
            if name not in VOICES:
                raise UserError(
                    f"voices: {name!r} is unknown; choose from {', '.join(VOICES)}."
                    f"{nearest(name, VOICES)}"
                )
        for name in self.sung:
            if self.sample_rate < VOICES[name].least_rate:
                raise UserError(
                    f"voices: {name} needs a sample_rate of {VOICES[name].least_rate} Hz or more; "
                    f"raise it from {self.sample_rate} or leave {name} out"
                )
        if not self.sung and self.clips is None:
            raise UserError("voices, clips: nothing to place; name voices or a folder of clips")

    @property
    def sung(self) -> tuple[str, ...]:
        """The voices that are generated."""
        if self.voices is None:
            return () if self.clips is not None else tuple(VOICES)
        return self.voices

    @property
    def noises(self) -> tuple[Weather, ...]:
        """The noises that are generated."""
        if self.weather is None:
            return () if self.backgrounds is not None else get_args(Weather)
        return self.weather

    @property
    def samples(self) -> int:
        """Samples a file."""
        return max(1, round(self.minutes * 60 * self.sample_rate))
