"""Change of sample rate by soxr at high quality."""

from __future__ import annotations

import numpy as np
import soxr

QUALITY = "HQ"
CONTEXT = 0.05
"""Seconds of sound on either side after which the resampler's filter no longer sees a cut."""


def resample(samples: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """`(samples,)` float32 at `rate_in` Hz -> float32 at `rate_out` Hz.

    The result has `resampled_length(len(samples), rate_in, rate_out)` samples.
    """
    if rate_in == rate_out:
        return samples
    result = soxr.resample(samples, rate_in, rate_out, quality=QUALITY)
    return fit_length(result, resampled_length(len(samples), rate_in, rate_out))


def resampled_length(samples: int, rate_in: int, rate_out: int) -> int:
    """Samples after the change of rate, rounded half up; at least 1 of at least 1."""
    return max(min(samples, 1), (2 * samples * rate_out + rate_in) // (2 * rate_in))


def fit_length(samples: np.ndarray, length: int) -> np.ndarray:
    """Cut or zero-padded to `length`; rounding can leave the resampler one sample off."""
    if len(samples) >= length:
        return samples[:length]
    return np.pad(samples, (0, length - len(samples)))
