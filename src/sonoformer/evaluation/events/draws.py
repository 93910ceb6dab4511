"""Draws of recordings, or of groups of them, and the intervals that follow."""

from __future__ import annotations

import numpy as np

from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.outcomes import Values, Weights
from sonoformer.evaluation.statistics import RESAMPLES, Interval


def drawn(answers: EventAnswers, resamples: int = RESAMPLES, seed: int = 0) -> Weights:
    """How often each recording is in each bootstrap sample, `(resamples, recordings)`.

    Recordings of a group are drawn together. Of a single recording or group nothing can be drawn:
    then there are no rows.
    """
    unit, units = answers.units
    if units < 2:
        return np.zeros((0, len(answers.paths)))
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(units, np.full(units, 1 / units), size=resamples)
    return counts[:, unit].astype(np.float64)


def interval(value: float, samples: Values, answers: EventAnswers, level: float = 0.95) -> Interval:
    """The percentile interval.

    A draw in which the value does not exist says nothing; where it is infinite (a recall that is
    never reached), an end of the interval may be, and is None then.
    """
    units = answers.units[1]
    word = "recording" if answers.groups is None else "group"
    over = f"{units:,} {word}{'' if units == 1 else 's'}"
    samples = np.sort(samples[~np.isnan(samples)])
    if not len(samples):
        return Interval(value, over=over, level=level)
    # No interpolation, which infinite values do not allow.
    places = np.clip(
        np.array([(1 - level) / 2, (1 + level) / 2]) * len(samples), 0, len(samples) - 1
    )
    low, high = (float(samples[int(place)]) for place in places)
    if not np.isfinite([low, high]).all():
        return Interval(value, over=over, level=level)
    return Interval(value, low, high, over, level)
