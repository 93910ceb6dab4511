"""Spans of recordings as windows, read ahead by several threads, in the order asked for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import Full, Queue
from typing import NamedTuple

from sonoformer.audio import AudioInfo, Channel, Window, stream
from sonoformer.errors import AudioError

_CHANGED = "changed while it was read; run again when it is complete"
_SLACK = 0.1
"""Seconds by which a recording may end before its header says so, as encoders' padding does."""


class Stamp(NamedTuple):
    """What changes when a file is written to."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The file as it is now; a missing one has a stamp of its own."""
        try:
            status = path.stat()
        except OSError:
            return cls(-1, -1)
        return cls(status.st_size, status.st_mtime_ns)


class Span(NamedTuple):
    """Windows `first` to `stop - 1` of a recording, which had `stamp` when it was planned."""

    info: AudioInfo
    first: int
    stop: int
    stamp: Stamp


class Problem(NamedTuple):
    """A recording that was skipped, wholly or from some point on, and why."""

    path: Path
    reason: str


class Remark(NamedTuple):
    """Something to know of a recording that was heard all the same."""

    path: Path
    text: str


class Heard(NamedTuple):
    """A window and the recording it comes from."""

    info: AudioInfo
    window: Window


Event = Heard | Problem | Remark


@dataclass(frozen=True)
class Listening:
    """How spans are read.

    Attributes:
        sample_rate: Hz.
        window, hop: seconds.
        channel: which one, or the mean of all.
        readers: spans that are read at the same time.
        ahead: windows that each reader may have waiting.
    """

    sample_rate: int
    window: float
    hop: float
    channel: Channel
    readers: int
    ahead: int

    def spans(
        self, spans: Iterable[Span], failed: set[Path]
    ) -> Generator[Iterator[Event], None, None]:
        """For each span, in order, what is heard of it; each is to be used up before the next.

        Recordings in `failed` are passed over, and those that fail are put there.
        """
        coming = iter(spans)
        waiting: deque[_Reading] = deque()
        with ThreadPoolExecutor(self.readers) as pool:
            try:
                for span in islice(coming, self.readers):
                    waiting.append(self._begun(span, failed, pool))
                while waiting:
                    yield _passed(waiting[0], failed)
                    waiting.popleft()
                    for span in islice(coming, 1):
                        waiting.append(self._begun(span, failed, pool))
            finally:
                for reading in waiting:
                    reading.stop.set()

    def _begun(self, span: Span, failed: set[Path], pool: ThreadPoolExecutor) -> _Reading:
        reading = _Reading(span, self)
        if span.info.path not in failed:
            pool.submit(reading.run)
        return reading


def _passed(reading: _Reading, failed: set[Path]) -> Iterator[Event]:
    """What a reading gives, as long as its recording has not failed."""
    path = reading.span.info.path
    if path in failed:
        reading.stop.set()
        return
    for event in reading:
        yield event
        if isinstance(event, Problem):
            failed.add(path)


class _Reading:
    """A span on its way from a reader to whom it is for."""

    def __init__(self, span: Span, how: Listening) -> None:
        self.span, self.how = span, how
        self.stop = threading.Event()
        """set when nobody takes any more"""
        self.queue: Queue[Event | BaseException | None] = Queue(how.ahead)

    def __iter__(self) -> Iterator[Event]:
        while (event := self.queue.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    def run(self) -> None:
        """What the reader does."""
        try:
            for event in self._events():
                if not self._put(event):
                    return
        except BaseException as error:  # to be raised where it is noticed
            self._put(error)
        self._put(None)

    def _put(self, event: Event | BaseException | None) -> bool:
        """Wait for room; False if the reading was stopped."""
        while not self.stop.is_set():
            try:
                self.queue.put(event, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def _events(self) -> Iterator[Event]:
        info, first, stop, stamp = self.span
        heard, ended = first, None
        windows = stream(
            info.path,
            self.how.sample_rate,
            window=self.how.window,
            hop=self.how.hop,
            channel=self.how.channel,
            first=first,
        )
        try:
            for window in islice(windows, stop - first):
                heard += 1
                ended = window.start + window.valid / self.how.sample_rate
                yield Heard(info, window)
        except AudioError as error:
            yield Problem(info.path, error.reason)
            return
        if Stamp.of(info.path) != stamp:
            yield Problem(info.path, _CHANGED)
            return
        # The last span of a recording reaches its end; another one's last window is whole.
        reach = min(info.duration, (stop - 1) * self.how.hop + self.how.window)
        if heard < stop or (ended is not None and ended < reach - _SLACK):
            at = "before this part" if ended is None else f"at {ended:.1f} s"
            text = f"ends {at}, though its header says {info.duration:.1f} s"
            yield Remark(info.path, text)
