"""Which true and found events have to do with each other, without looking at all pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.events.answers import Index, Marks, Times

_SLACK = 1e-3
"""Seconds by which candidates are taken too many; an exact comparison follows."""


def near_starts(first: Marks, second: Marks, seconds: float) -> tuple[Index, Index]:
    """Pairs of one recording and class whose starts are up to about `seconds` apart.

    Returns:
        Rows of `first` and of `second`, `(pairs,)` each, sorted by the first.
    """
    keys = _keys(first, second)
    apart = _apart(first, second) + 2 * seconds
    at, begins = first.start + keys[0] * apart, second.start + keys[1] * apart
    low = np.searchsorted(begins, at - seconds - _SLACK)
    return _expanded(low, np.searchsorted(begins, at + seconds + _SLACK))


def overlapping(first: Marks, second: Marks, *, any_class: bool = False) -> tuple[Index, Index]:
    """Pairs of one recording that share more than a moment.

    Args:
        first, second: events, sorted as `Marks` are.
        any_class: pairs of all classes; else of one class.

    Returns:
        Rows of `first` and of `second`, `(pairs,)` each, sorted by the first.
    """
    order = np.lexsort((second.start, second.item)) if any_class else np.arange(len(second.item))
    second = second.take(order)
    keys = (first.item, second.item) if any_class else _keys(first, second)
    apart = _apart(first, second)
    begins = second.start + keys[1] * apart
    # The latest end so far never falls, within a key and over all.
    latest = np.maximum.accumulate(second.end + keys[1] * apart)
    low = np.searchsorted(latest, first.start + keys[0] * apart - _SLACK)
    high = np.searchsorted(begins, first.end + keys[0] * apart + _SLACK)
    i, j = _expanded(low, high)
    keep = (first.start[i] < second.end[j]) & (second.start[j] < first.end[i])
    keep &= keys[0][i] == keys[1][j]
    return i[keep], order[j[keep]]


def shared(first: Marks, second: Marks, i: Index, j: Index) -> Times:
    """Seconds that pairs have in common."""
    return np.minimum(first.end[i], second.end[j]) - np.maximum(first.start[i], second.start[j])


def matching(left: Index, right: Index, order: Index) -> NDArray[np.bool_]:
    """Which right nodes raise the size of the largest one-to-one matching as they come.

    A node that raises it (there is an augmenting path, Kuhn 1955) stays matched for good, and after
    any number of nodes their count is the size of the largest matching among those that have come.
    So one pass in order of falling score gives the best matching at every threshold.

    Args:
        left, right: `(pairs,)` ends of the edges.
        order: `(rights,)` every right node, in the order in which they come.

    Returns:
        Bool `(rights,)`, by node.
    """
    raises = np.zeros(len(order), bool)
    if not len(left):
        return raises
    lone = (np.bincount(left)[left] == 1) & (np.bincount(right)[right] == 1)
    raises[right[lone]] = True
    neighbours: dict[int, list[int]] = {}
    for one, other in zip(left[~lone].tolist(), right[~lone].tolist(), strict=True):
        neighbours.setdefault(other, []).append(one)
    of_left: dict[int, int] = {}
    of_right: dict[int, int] = {}
    for node in order.tolist():
        if node in neighbours:
            raises[node] = _augmented(node, neighbours, of_left, of_right)
    return raises


def _augmented(
    start: int, neighbours: dict[int, list[int]], of_left: dict[int, int], of_right: dict[int, int]
) -> bool:
    """Match one more right node, if some row of exchanges makes room for it; breadth first."""
    came_by: dict[int, int] = {}
    queue = [start]
    for node in queue:
        for left in neighbours[node]:
            if left in came_by:
                continue
            came_by[left] = node
            if left in of_left:
                queue.append(of_left[left])
                continue
            while True:
                right = came_by[left]
                before = of_right.get(right)
                of_left[left], of_right[right] = right, left
                if before is None:
                    return True
                left = before
    return False


def _expanded(low: Index, high: Index) -> tuple[Index, Index]:
    """Every row k with each number from `low[k]` up to, and without, `high[k]`."""
    counts = np.maximum(high - low, 0)
    rows = np.repeat(np.arange(len(low)), counts)
    offset = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, np.repeat(low, counts) + offset


def _keys(first: Marks, second: Marks) -> tuple[Index, Index]:
    """A number for each recording and class, rising as `Marks` are sorted."""
    classes = 1 + max(int(marks.label.max(initial=0)) for marks in (first, second))
    return first.item * classes + first.label, second.item * classes + second.label


def _apart(first: Marks, second: Marks) -> float:
    """How far to move the times of each key so that those of two never come near each other."""
    return 1.0 + max(float(marks.end.max(initial=0)) for marks in (first, second))
