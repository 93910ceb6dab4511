"""How fast training runs, and how much of the time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sonoformer.data.batch import Batch
from sonoformer.training.validation import list_problems


class Pace:
    """Clips, audio and waiting since the last reading; pauses (validation, saving) do not count.

    Args:
        sample_rate: of the waveforms, in Hz.
        processes: how many train together, each on an equal share of every batch.
    """

    def __init__(self, sample_rate: int, processes: int = 1) -> None:
        self.sample_rate, self._processes = sample_rate, processes
        self._depth = 0
        self._reset()

    def _reset(self) -> None:
        self._since = self._pause_began = time.perf_counter()
        self._paused = self._wait = 0.0
        self._clips = self._samples = 0

    def fetched(self, batch: Batch, waited: float) -> None:
        """Count a batch that came after `waited` seconds; read while it is still on the CPU."""
        self._wait += waited
        self._clips += self._processes * len(batch)
        self._samples += self._processes * int(batch.lengths.sum())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside; pauses may be nested, and a reading may be taken there."""
        if self._depth == 0:
            self._pause_began = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._paused += time.perf_counter() - self._pause_began

    def read(self) -> dict[str, float]:
        """Speed since the last reading.

        Returns:
            `seconds` of training, `paused_seconds` of validation and saving, `clips_per_second`,
            `audio_seconds_per_second`, and `wait_share`, the part of the training time spent
            waiting for the loader.
        """
        now = time.perf_counter()
        paused = self._paused + (now - self._pause_began if self._depth else 0.0)
        seconds = max(now - self._since - paused, 1e-9)
        reading = {
            "seconds": round(seconds, 4),
            "paused_seconds": round(paused, 4),
            "clips_per_second": round(self._clips / seconds, 3),
            "audio_seconds_per_second": round(self._samples / self.sample_rate / seconds, 3),
            "wait_share": round(min(1.0, self._wait / seconds), 4),
        }
        self._reset()
        return reading


class Watched:
    """A loader whose waiting is measured and whose skipped recordings are listed.

    Args:
        loader: the batches that are left to do.
        length: batches of the whole run, with those that are done.
        pace: is told of each batch.
        problem: called with path and reason of each recording that could not be read.
    """

    def __init__(
        self,
        loader: Iterable[Batch],
        length: int,
        pace: Pace,
        problem: Callable[[str, str], None],
    ) -> None:
        self.loader, self.length, self.pace, self.problem = loader, length, pace, problem

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Batch]:
        iterator = iter(self.loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.pace.fetched(batch, time.perf_counter() - began)
            list_problems(batch, self.problem)
            yield batch
