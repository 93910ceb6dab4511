"""A task at hand: its table, its sound at any rate, its turns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sonoformer.data.manifest import Manifest
from sonoformer.evaluation.metrics import SINGLE, Metric
from sonoformer.suite.config import Protocol
from sonoformer.suite.floor import RATE
from sonoformer.suite.lesson import Lesson
from sonoformer.suite.phones import Truth, recordings, truth_of
from sonoformer.suite.sets import find_set, not_here
from sonoformer.suite.tasks import SuiteTask
from sonoformer.suite.turns import Turn, turns_of
from sonoformer.tasks.clips import open_clips

Progress = Callable[[int, int], None]
Problem = Callable[[str, str], None]


@dataclass
class Opened:
    """A task whose set is here.

    Attributes:
        task: the task.
        protocol: what is tested.
        manifest: its table, as read; a row a phone in the framewise task.
        cache: folder of the packed sound.
        problem: called with (path, reason) for a clip that cannot be read.
        progress: called with (done, in all) while sound is packed.
    """

    task: SuiteTask
    protocol: Protocol
    manifest: Manifest
    cache: Path
    problem: Problem
    progress: Progress | None
    _lessons: dict[int, Lesson] = field(default_factory=dict)

    def lesson(self, rate: int) -> Lesson:
        """The task on sound of a sample rate, packed once.

        Raises:
            UserError: no clip can be read, or nothing is left to train or test on.
        """
        if rate not in self._lessons:
            rows = recordings(self.manifest) if self.task.framewise else self.manifest
            clips = open_clips(
                rows,
                rate,
                self.cache / f"packed-{rate}",
                problem=self.problem,
                progress=self.progress,
            )
            turns = turns_of(self.task, clips.manifest, self.protocol)
            text = repr(
                (self.task, _rows(clips.manifest), [(t.name, t.test.tolist()) for t in turns])
            )
            data = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
            self._lessons[rate] = Lesson(self.task, clips, turns, data)
        return self._lessons[rate]

    def truth(self, rate: int) -> Truth:
        """The frames of the framewise task."""
        return truth_of(self.manifest, self.lesson(rate))

    @property
    def turns(self) -> list[Turn]:
        """What is tested in turn; the same at every rate."""
        return self.any.turns

    @property
    def any(self) -> Lesson:
        """The lesson at some rate."""
        return next(iter(self._lessons.values())) if self._lessons else self.lesson(RATE)

    @property
    def data(self) -> str:
        """Fingerprint of clips, labels and turns."""
        return hashlib.blake2b(
            repr((self.any.data, _rows(self.manifest))).encode(), digest_size=12
        ).hexdigest()

    @property
    def clips(self) -> int:
        """Number of clips."""
        return len(self.any.clips)

    @property
    def metric(self) -> Metric:
        """The headline score."""
        return SINGLE[self.task.metric]

    def commonest(self, turn: Turn) -> int:
        """Number of the commonest class of a turn's training clips, or frames."""
        if self.task.framewise:
            truth = self.truth(self.any.clips.source.sample_rate)
            return int(np.bincount(truth.label[np.isin(truth.recording, turn.train)]).argmax())
        return int(self.any.targets[turn.train].sum(0).argmax())


def open_task(
    task: SuiteTask,
    protocol: Protocol,
    data: Path | None,
    cache: Path,
    *,
    problem: Problem,
    progress: Progress | None,
) -> Opened | str:
    """The task, or a sentence why it is left out.

    Raises:
        UserError: its table is damaged, or no clip of it can be read.
    """
    manifest = find_set(task, data)
    if manifest is None:
        return not_here(task)
    opened = Opened(task, protocol, manifest, cache, problem, progress)
    opened.lesson(RATE)  # what cannot be read at all is said once, before any row
    return opened


def _rows(manifest: Manifest) -> list[tuple[object, ...]]:
    """Rows without the folders that they lie in."""
    columns = ("path", "start", "end", "labels", "fold", "group", "split")
    return [(Path(row[0]).name, *row[1:]) for row in manifest.table.select(columns).iter_rows()]
