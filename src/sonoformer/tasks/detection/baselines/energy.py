"""Energy detectors: how far the level, or that of a class's band, rises above the background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.data.strong import Truth
from sonoformer.evaluation.linear import ProbeConfig, fit_probe
from sonoformer.tasks.detection.baselines.hearing import BINS, Hearing, Levels, Minute, louder
from sonoformer.tasks.detection.baselines.lesson import Cells

Band = tuple[int, int]
"""First bin, and the one after the last."""
WHOLE: Band = (0, BINS)
_PENALTY = ProbeConfig(penalties=(1e-4,))
_TRIED = 20_000  # cells on which bands are tried


@dataclass(frozen=True, eq=False)
class Energy:
    """Level over the background in a band of each class, mapped to (0, 1).

    Attributes:
        bands: one a class.
        slope, bias: `(classes,)` of the logistic curve through the training cells; a slope of 0
            where loud cells are no more likely to hold the class.
    """

    bands: Sequence[Band]
    slope: Levels
    bias: Levels

    def __call__(self, minute: Minute) -> Levels:
        """Scores `(cells, classes)`."""
        over = np.stack([minute.over(*band) for band in self.bands], 1)
        return np.asarray(1 / (1 + np.exp(-(self.slope * over + self.bias))), np.float32)


def fit_energy(cells: Cells, bands: Sequence[Band]) -> Energy:
    """The curves that turn levels into scores, one a class."""
    slope, bias = np.zeros((2, len(bands)), np.float32)
    for label, band in enumerate(bands):
        over = louder(cells.mean, cells.quiet, *band)
        known = cells.known[:, label]
        curve = fit_probe(
            over[known, None],
            cells.present[known, label, None],
            single=False,
            weight=cells.weight[known],
            config=_PENALTY,
        )
        slope[label], bias[label] = max(0.0, float(curve.weight[0, 0])), curve.bias[0]
    return Energy(tuple(bands), slope, bias)


def class_bands(hearing: Hearing, cells: Cells, truth: Truth) -> list[Band]:
    """The band of each class: that of its annotations where they have one, else the one in which
    the training cells with and without the class differ most."""
    hertz = hearing.hertz()
    found = []
    for label in range(len(truth.classes)):
        marked = [
            (event.low_hz, event.high_hz)
            for event in truth.events
            if event.label == label and not np.isnan(event.low_hz)
        ]
        band = _of_hertz(hertz, *np.median(marked, 0)) if marked else _found(cells, label)
        found.append(band)
    return found


def _of_hertz(hertz: NDArray[np.float64], low: float, high: float) -> Band:
    """The bins whose middles lie between two frequencies; at least the nearest one."""
    middles = hertz.mean(1)
    first, stop = (int(place) for place in np.searchsorted(middles, (low, high)))
    if stop > first:
        return first, stop
    nearest = int(np.abs(middles - (low + high) / 2).argmin())
    return nearest, nearest + 1


def _found(cells: Cells, label: int) -> Band:
    """The range of bins with the largest difference of mean levels over their spread (d')."""
    rows = np.flatnonzero(cells.known[:, label])
    rows = rows[:: max(1, len(rows) // _TRIED)]
    present = cells.present[rows, label]
    if not present.any() or present.all():
        return WHOLE
    best, band = -np.inf, WHOLE
    zero = np.zeros((len(rows), 1))
    # Sums up to each bin, so that the energy of any range is one difference.
    loud, quiet = (
        np.concatenate([zero, np.exp(part[rows].astype(np.float64)).cumsum(1)], 1)
        for part in (cells.mean, cells.quiet)
    )
    for low in range(BINS):
        for high in range(low + 1, BINS + 1):
            over = np.log((loud[:, high] - loud[:, low]) / (quiet[:, high] - quiet[:, low]))
            yes, no = over[present], over[~present]
            spread = np.sqrt((yes.var() + no.var()) / 2) + 1e-6
            if (apart := (yes.mean() - no.mean()) / spread) > best:
                best, band = apart, (low, high)
    return band
