"""How a model hears: the options of its front end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from sonoformer.errors import UserError
from sonoformer.spectral.mel import Window

Padding = Literal["mask", "reference"]
Level = Literal["keep", "equal"]
Filters = Literal["kaldi", "slaney", "htk", "bark", "erb", "gammatone", "linear", "log"]
Transform = Literal[Filters, "mfcc", "gfcc", "cqt", "vqt", "leaf"]
Compress = Literal["log", "pcen"]
_LARGEST_TABLE = 2**25  # of filters, in cells
_LARGEST_SCALE = 1e12  # of the normalisation


@dataclass(frozen=True)
class FbankConfig:
    """How a model hears: a transform and its normalisation; the defaults are AST's and SSAST's."""

    transform: Transform = "kaldi"
    """kaldi: Kaldi's mel filterbank, as AST has it; slaney, htk, bark, erb, gammatone, linear, log:
    filters on other scales; mfcc, gfcc: cepstrum of mel or gammatone filters; cqt, vqt: constant or
    variable Q, `n_mels` bins upwards from low_hz; leaf: learnable Gabor filters with PCEN."""
    sample_rate: int = 16000
    """Hz of the waveforms as the model hears them; of the recordings' sound at speed 1."""
    speed: float = 1.0
    """How many times as fast recordings are played to the model: pitch is multiplied by it, so that
    10 brings infrasound, and 0.1 ultrasound, to a model of audible sound. Milliseconds and Hz of
    the other options are those that the model hears; times in results stay those of recordings."""
    n_mels: int = 128
    """Bins: filters, bins of a CQT, or cepstral coefficients."""
    window_ms: float = 25.0
    """Length of a frame in milliseconds."""
    hop_ms: float = 10.0
    """Milliseconds from one frame to the next."""
    fft_length: int | None = None
    """Samples of a Fourier transform, to which a frame is filled with zeros; the next power of two
    of the frame if absent."""
    low_hz: float = 20.0
    """Lower edge of the lowest filter; the lowest bin of a CQT."""
    high_hz: float | None = None
    """Upper edge of the highest filter; half the sample rate if absent."""
    bins_per_octave: int = 24
    """cqt, vqt: bins an octave."""
    window: Window = "hann"
    """kaldi: symmetric window; povey is hann to the power 0.85."""
    preemphasis: float = 0.97
    """kaldi: coefficient of y[i] = x[i] - c x[i-1] inside a frame."""
    compress: Compress = "log"
    """log: natural logarithm; pcen: per-channel energy normalisation, which takes away level and
    stationary noise."""
    trainable: bool = False
    """Learn the filters' edges, or PCEN's and LEAF's constants, with the encoder (fine-tuning)."""
    log_floor: float = 1.1920929e-7
    """Least energy before the logarithm."""
    mean: float = -4.2677393
    """Mean of the log-mel values; normalised is (x - mean) / (2 std)."""
    std: float = 4.5689974
    """Standard deviation of the log-mel values."""
    level: Level = "keep"
    """equal: every clip is brought to the same mean level (-26 dBFS) first, for recordings whose
    level tells of the recorder rather than of the sound."""
    padding: Padding = "mask"
    """What frames past a clip's end hold after normalisation: 0 (the mean), or, as the authors'
    loader has it, the value of a raw log-mel of 0.0, which is louder than the mean."""
    fixed_frames: int | None = None
    """Pad or cut every clip to this many frames and take padding for sound, as AST, SSAST and
    transformers do; if absent, clips keep their lengths and padding is never attended to."""

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            value, known = getattr(self, name), get_args(kind)
            if value not in known:
                raise UserError(f"{name}: must be one of {', '.join(known)}; got {value!r}")
        for name in ("sample_rate", "speed", "n_mels", "std", "log_floor", "window_ms", "hop_ms"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}: must be above 0 and finite; got {getattr(self, name)}")
        if not (self.sample_rate / self.speed).is_integer():
            raise UserError(
                f"speed: {self.sample_rate} Hz played {self.speed:g} times as fast would be "
                f"{self.sample_rate / self.speed:g} Hz of sound, which is no whole number; take "
                f"{self.sample_rate / max(1, round(self.sample_rate / self.speed)):.10g}"
            )
        # Numbers of 32 bits are shifted and divided by these.
        if not (abs(self.mean) <= _LARGEST_SCALE and self.std >= 1 / _LARGEST_SCALE):
            raise UserError(
                f"mean, std: must lie within {_LARGEST_SCALE:g} and above {1 / _LARGEST_SCALE:g}; "
                f"got {self.mean} and {self.std}"
            )
        if not 0 <= self.preemphasis <= 1:
            raise UserError(f"preemphasis: must lie within 0 to 1; got {self.preemphasis}")
        if self.hop_length < 1 or self.window_length < 2:
            raise UserError(
                f"window_ms, hop_ms: {self.window_ms} and {self.hop_ms} ms are less than a sample "
                f"at {self.sample_rate} Hz"
            )
        if self.fft_length is not None and not self.window_length <= self.fft_length <= 2**20:
            raise UserError(
                f"fft_length: must hold a frame of {self.window_length} samples and be at most "
                f"2^20; got {self.fft_length}"
            )
        self._check_combination()
        if self.n_mels * self.n_fft > _LARGEST_TABLE:
            raise UserError(
                f"n_mels, window_ms: {self.n_mels} filters over {self.n_fft} samples are too many"
            )
        if self.fixed_frames is not None and not 1 <= self.fixed_frames <= 10**6:
            raise UserError(
                f"fixed_frames: must lie within 1 to a million; got {self.fixed_frames}"
            )
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz} to {self.top_hz} Hz must rise and lie within "
                f"0 to {self.sample_rate / 2:g} Hz"
            )

    def _check_combination(self) -> None:
        """Options that the transform does not have."""
        kind, plain = self.transform, {"window": "hann", "preemphasis": 0.97}
        if kind != "kaldi" and (self.window, self.preemphasis) != tuple(plain.values()):
            raise UserError(f"window, preemphasis: are kaldi's, and the transform is {kind}")
        if kind in ("mfcc", "gfcc", "leaf") and self.compress == "pcen":
            raise UserError(f"compress: {kind} cannot take pcen")
        fixed = ("kaldi", "mfcc", "gfcc", "cqt", "vqt")
        if self.trainable and kind in fixed and self.compress == "log":
            raise UserError(
                f"trainable: {kind} with log has nothing to learn; take pcen, filters such as htk, "
                "or leaf"
            )

    @property
    def rate(self) -> int:
        """Hz to which recordings are resampled: their samples are played at `sample_rate`."""
        return int(self.sample_rate / self.speed)

    @property
    def step_ms(self) -> float:
        """Milliseconds of a recording from one frame to the next."""
        return self.hop_ms * self.speed

    @property
    def window_length(self) -> int:
        """Samples a frame."""
        return int(self.sample_rate * self.window_ms / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * self.hop_ms / 1000)

    @property
    def n_fft(self) -> int:
        """Samples of a Fourier transform; the next power of two, unless chosen."""
        return self.fft_length or 1 << (self.window_length - 1).bit_length()

    @property
    def top_hz(self) -> float:
        """Upper edge of the highest filter in Hz."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    def frames(self, samples: int) -> int:
        """Frames of a clip: those that fit, and at least one; or as many as are fixed."""
        if self.fixed_frames is not None:
            return self.fixed_frames
        if self.transform == "leaf":
            return max(1, -(-samples // self.hop_length))
        if self.transform in ("cqt", "vqt"):
            return 1 + samples // self.hop_length
        frame = self.window_length if self.transform == "kaldi" else self.n_fft
        return max(1, 1 + (samples - frame) // self.hop_length)


_CHOICES = {
    "transform": Transform,
    "window": Window,
    "compress": Compress,
    "padding": Padding,
    "level": Level,
}
PRESETS = {
    "audioset": {"mean": -4.2677393, "std": 4.5689974},
    "esc50": {"mean": -6.6268077, "std": 5.358466},
    "speech-commands": {"mean": -6.845978, "std": 5.5654526},
}
"""Normalisation constants of the authors' checkpoints (computed over zero-padded and masked
spectrograms, so a clean pass over the same data gives others)."""
