"""A file being decoded, from any frame on, exactly.

soundfile seeks after every read, to where it already is, and takes the sought frame for exact. For
MP3 neither is harmless: a frame's data may begin in the frames before it (the bit reservoir,
ISO/IEC 11172-3, 2.4.2.7), so that up to 1152 samples after a seek come out silent or wrong.
"""

from __future__ import annotations

import numpy as np
import soundfile

_RUN_UP = 16 * 1152
"""Samples decoded and thrown away after a seek in MP3: the reservoir, at most 511 bytes, is some
seven frames at the lowest bit rate."""

_NEAR = 60.0
"""Seconds of MP3 that are decoded rather than sought: quick, and the decoder, which complains on
stderr of every reservoir it misses, stays quiet for clips of usual length."""

_STEP = 1 << 16  # frames thrown away at a time


class Reader(soundfile.SoundFile):
    """A `soundfile.SoundFile` that is read from the beginning on, and moved by `enter`."""

    position: int | None = 0
    """the frame that comes next; None after a fault"""

    def seekable(self) -> bool:
        """False: this is what stops the seek after every read."""
        return False

    def take(self, frames: int) -> np.ndarray:
        """The next frames, `(frames, channels)` float32; fewer only where the sound ends.

        Raises:
            soundfile.LibsndfileError: the data is damaged.
        """
        position, self.position = self.position, None
        frames = max(0, min(frames, self.frames - (position or 0)))
        x: np.ndarray = self.read(frames, dtype="float32", always_2d=True)
        self.position = (position or 0) + len(x)
        return x

    def enter(self, frame: int) -> bool:
        """Make `frame` the next one; False if the sound does not reach it."""
        if frame == self.position:
            return True
        try:
            if self.format != "MP3":
                self.position = None
                self.position = self.seek(frame)
                return self.position == frame
            near = round(_NEAR * self.samplerate)
            if self.position is None or not 0 <= frame - self.position <= near:
                start = 0 if frame <= near else frame - _RUN_UP
                self.position = None
                self.position = self.seek(start)
            while self.position is not None and self.position < frame:
                if not len(self.take(min(_STEP, frame - self.position))):
                    break
        except soundfile.LibsndfileError:
            return False
        return self.position == frame
