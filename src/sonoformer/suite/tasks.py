"""The tasks: which set, what is told apart, what is tested, and how it is scored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SuiteTask:
    """A task on a labelled set.

    Attributes:
        name: its name on the command line.
        title: what there is to learn, and what is new in the test.
        set: name of the set in the catalogue, and of its folder or table in `--data`.
        metric: the headline score, a name of `evaluation.metrics.SINGLE`.
        inner: column of the table whose values stay whole when hyperparameters are chosen.
        drawn: column of the units that the bootstrap draws; None: clips.
        label: column of the classes.
        turn: column whose values are tested in turn.
        framewise: a class every 10 ms instead of one a clip.
        pooled: the set's clips are part of the Debian pool.
    """

    name: str
    title: str
    set: str
    metric: Literal["accuracy", "balanced_accuracy"]
    inner: str
    drawn: str | None = None
    label: str = "labels"
    turn: str = "fold"
    framewise: bool = False
    pooled: bool = True


_ALL = (
    SuiteTask(
        "character-voices",
        "who speaks (20 characters, one codec), in another dialogue",
        "character-voices",
        "balanced_accuracy",
        inner="group",
        drawn="group",
    ),
    SuiteTask(
        "instrument-families",
        "family of an instrument (11), from another sample bank",
        "instrument-families",
        "balanced_accuracy",
        inner="group",
    ),
    SuiteTask(
        "drum-hits",
        "which drum was hit (10), in another kit",
        "drum-hits",
        "balanced_accuracy",
        inner="group",
    ),
    SuiteTask(
        "russian-phones",
        "which phone is spoken (51), every 10 ms, in other utterances",
        "russian-phones",
        "accuracy",
        inner="group",
        drawn="group",
        framewise=True,
    ),
    SuiteTask(
        "spoken-phrases",
        "which stock phrase is spoken (60), by another voice",
        "spoken-phrases",
        "balanced_accuracy",
        inner="group",
    ),
    SuiteTask(
        "mandarin-tones",
        "Mandarin tone of a syllable (4), by the other talker",
        "mandarin-tones",
        "balanced_accuracy",
        inner="syllable",
        drawn="syllable",
    ),
    SuiteTask(
        "esc10",
        "environmental sound (10), five folds of the authors",
        "esc10",
        "accuracy",
        inner="fold",
        drawn="group",
        pooled=False,
    ),
    SuiteTask(
        "fsdd-digits",
        "spoken digit (10), by another speaker",
        "fsdd",
        "accuracy",
        inner="speaker",
        label="digit",
        turn="speaker",
        pooled=False,
    ),
    SuiteTask(
        "fsdd-speakers",
        "who speaks (6), trained on digits 0 to 4 and tested on 5 to 9",
        "fsdd",
        "accuracy",
        inner="digit",
        label="speaker",
        turn="half",
        pooled=False,
    ),
)

SUITE: dict[str, SuiteTask] = {task.name: task for task in _ALL}
"""Name -> task."""
