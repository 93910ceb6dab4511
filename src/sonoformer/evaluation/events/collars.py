"""Events by their ends: right if onset and offset lie within collars (as sed_eval counts).

Mesaros, Heittola and Virtanen, "Metrics for Polyphonic Sound Event Detection" (Applied Sciences
2016), section 4.3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoformer.errors import UserError
from sonoformer.evaluation.events.answers import EventAnswers, Index, Marks
from sonoformer.evaluation.events.outcomes import Outcomes
from sonoformer.evaluation.events.pairs import matching, near_starts

ROUNDING = 1e-9
"""Seconds that times may be off by rounding."""


def by_collars(
    answers: EventAnswers,
    collar: float = 0.2,
    share: float = 0.5,
    *,
    reference: bool = False,
) -> Outcomes:
    """One-to-one pairs of true and found events of a class, as many as there can be.

    A pair may be made if the onsets are at most `collar` seconds apart and the offsets at most the
    larger of `collar` and `share` of the true event's length. With scores the matching is the
    largest at every threshold.

    Args:
        answers: true and found events.
        collar: seconds.
        share: of the true event's length, for the offset.
        reference: sed_eval compares without allowance for rounding, so that an onset at 2.2 s is
            more than 0.2 s from one at 2.0 s. By default what is at the collar is within it.
    """
    if collar < 0 or not 0 <= share <= 1:
        raise UserError(f"collar, share: {collar} s and {share} make no sense; try 0.2 and 0.5")
    slack = 0.0 if reference else ROUNDING
    return Outcomes(
        answers.counts,
        answers.said.item,
        answers.said.label,
        answers.said.score,
        paired(answers.true, answers.said, collar, share, slack),
        answers.lengths,
    )


def paired(
    true: Marks, said: Marks, collar: float, share: float, slack: float = ROUNDING
) -> NDArray[np.bool_]:
    """Mask of the found events that have a true one, in the largest one-to-one matching."""
    i, j = near_starts(true, said, collar)
    keep = within(true, said, i, j, collar, share, slack)
    return matching(i[keep], j[keep], np.argsort(-said.score, kind="stable"))


def within(
    true: Marks,
    said: Marks,
    i: Index,
    j: Index,
    collar: float,
    share: float,
    slack: float = ROUNDING,
) -> NDArray[np.bool_]:
    """Mask of the pairs (rows `i` of the true, `j` of the found) whose ends lie within collars."""
    onset = np.abs(true.start[i] - said.start[j]) <= collar + slack
    allowed = np.maximum(collar, share * (true.end[i] - true.start[i]))
    return np.asarray(onset & (np.abs(true.end[i] - said.end[j]) <= allowed + slack))
