"""How sure a score is: bootstrap over clips, intervals over folds and seeds, paired differences.

What is drawn matters more than the formula. Clips of one recording (speaker, site) are alike;
with `Answers.groups` the bootstrap draws whole groups, else its intervals would be too narrow.
With several seeds the trained models are drawn too, so that the interval speaks of a new training
on a new sample of clips, not of these models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.metrics import Answers, Counts, Metric, Values, score

RESAMPLES = 1000
# Counts of one block of resamples, at most: 32 MB.
_BLOCK_VALUES = 8_000_000


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval.

    Attributes:
        value: the estimate.
        low: lower end, None where the data allow no interval (one clip, one group, one fold).
        high: upper end, None likewise.
        over: what was drawn, e.g. "400 clips", "5 folds".
        level: confidence level in (0, 1).
    """

    value: float
    low: float | None = None
    high: float | None = None
    over: str = ""
    level: float = 0.95

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float | str | None]:
        """Plain values for `metrics.json`."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "level": self.level,
            "over": self.over,
        }


@dataclass(frozen=True)
class Difference:
    """Second system minus first, on the same clips.

    Attributes:
        interval: the difference and its interval.
        p_value: two-sided; share of resamples in which the sign is not the observed one, doubled.
            None where no interval can be given.
    """

    interval: Interval
    p_value: float | None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        low, high = self.interval.low, self.interval.high
        return low is not None and high is not None and (low > 0 or high < 0)


def bootstrap(
    metric: Metric,
    runs: Answers | Sequence[Answers],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a metric over clips, or over groups where the answers have them.

    Args:
        metric: a metric of `evaluation.metrics`.
        runs: the answers, or those of several trainings (seeds) about the same clips: then the
            value is their mean, and each resample draws trainings as well as clips.
        resamples: number of bootstrap samples.
        level: confidence level.
        seed: of the draws.

    Raises:
        UserError: no clip has a label.
        ValueError: the runs are not about the same clips.
    """
    runs = _same_clips(runs)
    value = float(np.mean([score(metric, run) for run in runs]))
    samples = _samples(metric, [runs], resamples, seed)
    low, high = _percentiles(samples[0], level)
    return Interval(value, low, high, _drawn(runs), level)


def paired_bootstrap(
    metric: Metric,
    first: Answers | Sequence[Answers],
    second: Answers | Sequence[Answers],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """`second - first`, both scored on the same draws of clips (and of seeds).

    What makes a clip hard for both cancels, so the interval is much narrower than that of two
    separate scores. With several seeds each, run i of both is taken as one pair.

    Raises:
        UserError: no clip has a label.
        ValueError: the systems are not about the same clips, or differ in their number of seeds.
    """
    a, b = _same_clips(first), _same_clips(second)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} runs against {len(b)}: pair them")
    _same_clips([a[0], b[0]])
    values = [float(np.mean([score(metric, run) for run in runs])) for runs in (a, b)]
    before, after = _samples(metric, [a, b], resamples, seed)
    difference = after - before
    low, high = _percentiles(difference, level)
    interval = Interval(values[1] - values[0], low, high, _drawn(a), level)
    defined = difference[~np.isnan(difference)]
    if low is None or not len(defined):
        return Difference(interval, None)
    # One is added to both, so that no finite number of resamples claims p = 0.
    below, above = (defined <= 0).sum() + 1, (defined >= 0).sum() + 1
    return Difference(interval, float(min(1.0, 2 * min(below, above) / (len(defined) + 1))))


def t_interval(
    values: Sequence[float],
    over: str = "runs",
    *,
    level: float = 0.95,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Mean and Student t interval of independent values, e.g. one a seed or one a fold.

    Over the folds of a cross-validation it is somewhat too narrow, because the training sets
    overlap (Bengio and Grandvalet 2004): it describes these folds rather than new data.

    Args:
        values: the values.
        over: what they are, in the plural.
        level: confidence level.
        bounds: what the values cannot pass; the interval is cut there.
    """
    from scipy import stats

    array = np.asarray(values, np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, over=f"{len(array)} {over}", level=level)
    half = stats.t.ppf((1 + level) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array))
    low, high = max(bounds[0], mean - float(half)), min(bounds[1], mean + float(half))
    return Interval(mean, low, high, f"{len(array)} {over}", level)


def crossed_interval(
    table: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Mean of a `(seeds, folds)` table and a bootstrap that draws seeds and folds, each as a whole.

    Every seed meets every fold, so the cells are not independent values: treating them as such
    (one t interval over all cells) would claim too much.
    """
    seeds, folds = table.shape
    over = f"{_many(seeds, 'seed')} x {_many(folds, 'fold')}"
    if table.size < 2:
        return Interval(float(table.mean()), over=over, level=level)
    rng = np.random.default_rng(seed)
    rows = _weights(rng, seeds, resamples)
    columns = _weights(rng, folds, resamples)
    samples = np.einsum("bs,sf,bf->b", rows, table, columns)
    low, high = _percentiles(samples, level)
    return Interval(float(table.mean()), low, high, over, level)


def _weights(rng: np.random.Generator, size: int, resamples: int) -> NDArray[np.float64]:
    return rng.multinomial(size, np.full(size, 1 / size), size=resamples) / size


def _samples(
    metric: Metric, systems: Sequence[Sequence[Answers]], resamples: int, seed: int
) -> list[Values]:
    """The metric of each system in each resample: the same clips and runs are drawn for all."""
    rng = np.random.default_rng(seed)
    first = systems[0][0]
    unit, units = _units(first)
    results = [np.full(resamples, np.nan) for _ in systems]
    if units < 2:
        return results
    block = max(1, _BLOCK_VALUES // len(first))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.multinomial(units, np.full(units, 1 / units), size=size)
        counts: Counts = drawn[:, unit].astype(np.float32)
        weights = _weights(rng, len(systems[0]), size)
        for result, runs in zip(results, systems, strict=True):
            values = np.stack([metric(run, counts) for run in runs], axis=1)
            result[start : start + size] = (values * weights).sum(1)
    return results


def _units(answers: Answers) -> tuple[NDArray[np.int64], int]:
    """`(clips,)` number of the unit (group or clip) that each clip is drawn with; how many."""
    if answers.groups is None:
        return np.arange(len(answers)), len(answers)
    names, unit = np.unique(np.asarray(answers.groups, dtype=str), return_inverse=True)
    return unit, len(names)


def _drawn(runs: Sequence[Answers]) -> str:
    _, units = _units(runs[0])
    over = _many(units, "clip" if runs[0].groups is None else "group")
    return f"{over}, {_many(len(runs), 'seed')}" if len(runs) > 1 else over


def _many(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _percentiles(samples: Values, level: float) -> tuple[float | None, float | None]:
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return None, None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _same_clips(runs: Answers | Sequence[Answers]) -> list[Answers]:
    runs = [runs] if isinstance(runs, Answers) else list(runs)
    first = runs[0]
    for run in runs[1:]:
        if tuple(run.clips) != tuple(first.clips):
            raise ValueError("the runs are not about the same clips in the same order")
    return runs
