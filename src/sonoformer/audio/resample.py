"""Any sample rate to any other, by soxr at its HQ setting (20 bits; stop band below -120 dB)."""

from __future__ import annotations

import numpy as np
import soxr

from sonoformer.errors import UserError

CONTEXT = 256
"""Samples at the lower of both rates that one output sample may depend on, on either side.

Cutting the input farther away than this changes the output by less than 1e-6 of its peak.
"""


def resample(x: np.ndarray, rate_in: int, rate_out: int) -> np.ndarray:
    """Resample to `rate_out`.

    Args:
        x: `(samples,)` or `(samples, channels)`; made float32.
        rate_in: Hz.
        rate_out: Hz.

    Returns:
        float32; `round(samples * rate_out / rate_in)` samples, at least one where there was one.

    Raises:
        UserError: a rate is not a positive whole number.
    """
    check_rate(rate_in)
    check_rate(rate_out)
    x = np.ascontiguousarray(x, dtype=np.float32)
    if rate_in == rate_out or not len(x):
        return x
    y = soxr.resample(x, rate_in, rate_out, quality="HQ")
    if not len(y):  # fewer samples than half a period of the new rate
        y = x[:1]
    return y


def check_rate(rate: int) -> None:
    """Refuse what is no sample rate.

    Raises:
        UserError: not a whole number of Hz above 0.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or rate < 1:
        raise UserError(f"sample_rate: {rate!r} is not a whole number of Hz above 0")
