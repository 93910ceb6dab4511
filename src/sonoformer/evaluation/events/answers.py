"""What a detector found beside what is there, as arrays that every measure of events works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.events import STRETCHES, events, refuse_bad_events
from sonoformer.errors import UserError

Index = NDArray[np.int64]
Times = NDArray[np.float64]


class Marks(NamedTuple):
    """Events as arrays `(events,)`, sorted by recording, class, start and end."""

    item: Index
    """number of the recording"""
    label: Index
    """number of the class"""
    start: Times
    end: Times
    score: Times
    row: Index
    """row of the table that the event comes from"""

    def take(self, keep: NDArray[np.bool_] | Index) -> Marks:
        """Some of them."""
        item, label, start, end, score, row = (column[keep] for column in self)
        return Marks(item, label, start, end, score, row)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class EventAnswers:
    """Events found in recordings, and those that are really there.

    Channels are not told apart: give the events of one at a time.

    Attributes:
        truth: an events table (`data.events.EVENTS`).
        found: an events table; its scores rank the events. Without scores there are no curves.
        seconds: length of every recording that was searched, those without any event included.
        classes: class names; by default all labels of both tables. Others do not count.
        groups: recording -> site, individual or night; the bootstrap draws whole groups.
        reviewed: stretches `path, start, end` in which every event was marked, a null end meaning
            the recording's; events whose middle is elsewhere do not count, on either side. By
            default all of every recording.
    """

    truth: pl.DataFrame
    found: pl.DataFrame
    seconds: Mapping[str, float]
    classes: Sequence[str] = ()
    groups: Mapping[str, str] | None = None
    reviewed: pl.DataFrame | None = None
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.seconds or not all(0 < s < np.inf for s in self.seconds.values()):
            raise UserError("no recording to evaluate; give the length of each, in seconds")
        names = list(self.classes) or sorted({*self.truth["label"], *self.found["label"]})
        object.__setattr__(self, "classes", tuple(names))
        for name, what in (("truth", "true events"), ("found", "found events")):
            table = events(getattr(self, name), what)
            self._check(table, what)
            object.__setattr__(self, name, table)

    @property
    def paths(self) -> tuple[str, ...]:
        """The recordings, in the order of their numbers."""
        return tuple(self.seconds)

    @cached_property
    def lengths(self) -> Times:
        """`(recordings,)` seconds of each that were reviewed."""
        if self.reviewed is None:
            return np.array(list(self.seconds.values()), np.float64)
        known = [sum(end - start for start, end in spans) for spans in self._known]
        return np.array(known, np.float64)

    @cached_property
    def true(self) -> Marks:
        """The true events."""
        return self._marks(self.truth)

    @cached_property
    def said(self) -> Marks:
        """The found events."""
        return self._marks(self.found)

    @property
    def scored(self) -> bool:
        """Whether every found event has a score."""
        return self.found["score"].null_count() == 0

    @cached_property
    def counts(self) -> Index:
        """`(recordings, classes)` true events."""
        table = np.zeros((len(self.paths), len(self.classes)), np.int64)
        np.add.at(table, (self.true.item, self.true.label), 1)
        return table

    @cached_property
    def units(self) -> tuple[Index, int]:
        """`(recordings,)` number of the group that each is drawn with; how many there are."""
        if self.groups is None:
            return np.arange(len(self.paths)), len(self.paths)
        missing = [path for path in self.paths if path not in self.groups]
        if missing:
            raise UserError(f"{missing[0]}: has no group; give one for every recording")
        names, unit = np.unique([self.groups[path] for path in self.paths], return_inverse=True)
        return unit.astype(np.int64), len(names)

    def known_at(self, item: int, times: Times) -> NDArray[np.bool_]:
        """Whether moments of a recording, in seconds, were reviewed."""
        if self.reviewed is None:
            return np.ones(len(times), bool)
        spans = np.array(self._known[item], np.float64).reshape(-1, 2)
        place = np.searchsorted(spans[:, 0], times, side="right") - 1
        inside = place >= 0
        inside[inside] = times[inside] < spans[place[inside], 1]
        return inside

    def only(self, paths: Sequence[str]) -> EventAnswers:
        """The answers about some of the recordings; the classes stay."""
        chosen = set(paths)
        keep = pl.col("path").is_in(list(chosen))
        return EventAnswers(
            self.truth.filter(keep),
            self.found.filter(keep),
            {path: s for path, s in self.seconds.items() if path in chosen},
            self.classes,
            self.groups,
            self.reviewed,
        )

    def renamed(self, names: Mapping[str, str]) -> EventAnswers:
        """The same answers, every recording called by another name."""
        path = pl.col("path").replace_strict(names, return_dtype=pl.String)
        known = self.reviewed
        if known is not None:
            known = known.filter(pl.col("path").is_in(list(names))).with_columns(path)
        return EventAnswers(
            self.truth.with_columns(path),
            self.found.with_columns(path),
            {names[path]: seconds for path, seconds in self.seconds.items()},
            self.classes,
            None if self.groups is None else {names[p]: self.groups[p] for p in self.paths},
            known,
        )

    @cached_property
    def _known(self) -> list[list[tuple[float, float]]]:
        """The reviewed stretches of each recording, rising, put together where they touch."""
        assert self.reviewed is not None
        table = self.reviewed.select(pl.col(name).cast(kind) for name, kind in STRETCHES.items())
        spans: dict[str, list[tuple[float, float]]] = {path: [] for path in self.paths}
        for path, start, end in table.sort("path", "start").iter_rows():
            if path not in spans:
                continue
            whole = self.seconds[path]
            here = (max(0.0, start), whole if end is None else min(end, whole))
            if spans[path] and here[0] <= spans[path][-1][1]:
                here = (spans[path][-1][0], max(here[1], spans[path].pop()[1]))
            if here[1] > here[0]:
                spans[path].append(here)
        return list(spans.values())

    def _check(self, table: pl.DataFrame, what: str) -> None:
        refuse_bad_events(table, what, self.seconds)
        strange = table.filter(~pl.col("path").is_in(list(self.seconds)))
        if strange.height:
            raise UserError(
                f"{what}: {strange['path'][0]!r} is none of the {len(self.seconds)} recordings; "
                "give its length, or leave its events out"
            )
        other = table.filter(~pl.col("label").is_in(list(self.classes)))
        if other.height:
            labels = ", ".join(sorted(set(other["label"]))[:5])
            self.notes.append(f"{other.height} {what} of other classes do not count ({labels}).")

    def _marks(self, table: pl.DataFrame) -> Marks:
        items = {path: i for i, path in enumerate(self.paths)}
        labels = {name: i for i, name in enumerate(self.classes)}
        table = table.with_row_index("row").filter(pl.col("label").is_in(list(self.classes)))
        item = np.array([items[path] for path in table["path"]], np.int64)
        marks = Marks(
            item,
            np.array([labels[name] for name in table["label"]], np.int64),
            table["start"].to_numpy(),
            # What passes the end by rounding ends with the recording.
            np.minimum(table["end"].to_numpy(), np.array([*self.seconds.values()])[item]),
            table["score"].fill_null(1.0).to_numpy(),
            table["row"].to_numpy().astype(np.int64),
        )
        marks = marks.take(np.lexsort((marks.end, marks.start, marks.label, marks.item)))
        middle = (marks.start + marks.end) / 2
        keep = np.ones(len(item), bool)
        for number in np.unique(item) if self.reviewed is not None else ():
            here = marks.item == number
            keep[here] = self.known_at(int(number), middle[here])
        return marks.take(keep)


def joined(parts: Sequence[EventAnswers], groups: Mapping[str, str] | None = None) -> EventAnswers:
    """Answers about different recordings as one.

    Args:
        parts: of the same classes; no recording is in two of them.
        groups: recording -> site, individual or night, for all of them.
    """
    whole = [
        pl.DataFrame([(path, 0.0, None) for path in part.paths], STRETCHES, orient="row")
        if part.reviewed is None
        else part.reviewed
        for part in parts
    ]
    every = all(part.reviewed is None for part in parts)
    return EventAnswers(
        pl.concat([part.truth for part in parts]),
        pl.concat([part.found for part in parts]),
        {path: seconds for part in parts for path, seconds in part.seconds.items()},
        parts[0].classes,
        groups,
        None if every else pl.concat(whole),
    )
