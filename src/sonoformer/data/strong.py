"""Strong labels: recordings with the events in them, as targets on any grid of time cells.

`recordings` turns a table with a row a stretch into one with a row a recording, which carries its
stretches along in one column; so it can be split, packed and drawn from like any table of clips.
`Truth` answers, for any crop of such a recording, which classes are there in each cell, and in
which cells nobody knows.

Class names may have levels, as in `rumble/estrous`: a sub-call. Whatever carries such a name is
also a `rumble`. Where only `rumble` is said, its sub-calls are unknown, not absent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.manifest import Manifest, natural
from sonoformer.data.unions import Union, merged
from sonoformer.errors import UserError

LEVEL = "/"
STRETCHES = "stretches"
"""Column of a table of `recordings`."""

Reviewed = Literal["auto", "recordings", "rows"]
_KEPT = ("split", "fold", "group", "weight", "recorded_at")
_PARTS = ("start", "end", "low_hz", "high_hz", "labels", "negatives", "reviewed")
_Times = NDArray[np.float64]
_SHARE = 0.5  # of a cell that must be known


def parents(name: str) -> list[str]:
    """The classes that a name implies: `a/b/c` implies `a/b` and `a`."""
    parts = name.split(LEVEL)
    found = [LEVEL.join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    return [parent for parent in found if parent.strip()]


def with_parents(names: Iterable[str]) -> list[str]:
    """The names and all that they imply, each once, parents before their children."""
    found: dict[str, None] = {}
    for name in names:
        for one in [*reversed(parents(name)), name]:
            found[one] = None
    return list(found)


def hierarchical(manifest: Manifest) -> Manifest:
    """The manifest with the implied classes among each row's labels and in the class list."""
    labels = [with_parents(row) for row in manifest.table["labels"].to_list()]
    given = with_parents(manifest.classes)
    classes = given if manifest.classes_given is not None else natural(given)
    column = pl.Series("labels", labels, dtype=pl.List(pl.String))
    return manifest.with_columns(column).with_classes(classes)


def is_weak(manifest: Manifest) -> bool:
    """Whether every labelled row is a whole file, so that nothing is said of when."""
    said = manifest.table.filter(
        (pl.col("labels").list.len() > 0) | (pl.col("negatives").list.len() > 0)
    )
    return bool(said.select(((pl.col("start") == 0) & pl.col("end").is_null()).all()).item())


def tells_reviewed(manifest: Manifest) -> bool:
    """Whether a table tells what was listened to from what was marked: by reviewed rows without a
    label, by labels that are not reviewed, or by negatives."""
    labelled = pl.col("labels").list.len() > 0
    apart = (~labelled & pl.col("reviewed")) | (labelled & ~pl.col("reviewed"))
    negative = pl.col("negatives").list.len() > 0
    return bool(manifest.table.select((apart | negative).any()).item())


def recordings(manifest: Manifest, reviewed: Reviewed = "auto") -> Manifest:
    """A row for each recording (file and channel) with all its stretches in column `stretches`.

    Labels are those of any of its stretches, implied classes included.

    Args:
        manifest: a row a stretch, as `Manifest` describes it.
        reviewed: what was listened to. recordings: every recording in the table from beginning to
            end, so that a class is absent wherever no row says that it is present; rows: what the
            rows that are called reviewed cover. auto: rows if the table says what was reviewed
            (see `tells_reviewed`), as `data.events.manifest_of` does; else recordings.

    Raises:
        UserError: a recording lies in several parts or folds.
    """
    manifest = hierarchical(manifest)
    table = manifest.table
    if reviewed == "auto":
        reviewed = "rows" if tells_reviewed(manifest) else "recordings"
    _refuse_torn(table, manifest.source)
    grouped = table.group_by("path", "channel", maintain_order=True).agg(
        pl.col("labels"),
        *(pl.col(name).drop_nulls().first() for name in _KEPT),
        pl.struct(*_PARTS).alias(STRETCHES),
    )
    labels = [list(dict.fromkeys(chain(*rows))) for rows in grouped["labels"].to_list()]
    grouped = grouped.with_columns(
        pl.Series("labels", labels, dtype=pl.List(pl.String)), reviewed=pl.lit(True)
    )
    if reviewed == "recordings":
        whole = _with_whole(grouped[STRETCHES])
        grouped = grouped.with_columns(whole)
    return Manifest.of(grouped, manifest.source).with_classes(manifest.classes)


def _with_whole(stretches: pl.Series) -> pl.Series:
    """Each recording's stretches, and the whole of it as reviewed."""
    nothing: dict[str, Any] = dict.fromkeys(_PARTS)
    whole = {**nothing, "start": 0.0, "labels": [], "negatives": [], "reviewed": True}
    lists = [[*rows, whole] for rows in stretches.to_list()]
    return pl.Series(STRETCHES, lists, dtype=stretches.dtype)


def _refuse_torn(table: pl.DataFrame, source: str) -> None:
    for name in ("split", "fold"):
        counts = table.group_by("path", maintain_order=True).agg(
            pl.col(name).drop_nulls().n_unique().alias("parts"), pl.col(name).drop_nulls()
        )
        torn = counts.filter(pl.col("parts") > 1)
        if torn.height:
            parts = sorted(set(torn[name][0].to_list()))
            raise UserError(
                f"{source}: {torn['path'][0]} has rows in {name} {' and '.join(parts)}; a "
                "recording belongs to one, or it would be learned and tested on"
            )


@dataclass(frozen=True)
class Event:
    """A stretch of one class in a recording.

    Attributes:
        item: number of the recording.
        label: number of the class.
        start, end: seconds.
        low_hz, high_hz: its band; NaN where not known.
    """

    item: int
    label: int
    start: float
    end: float
    low_hz: float
    high_hz: float


class Truth:
    """What is in recordings, and where that is known.

    Args:
        manifest: a table of `recordings`.
        classes: the class list.
        lengths: `(recordings,)` seconds of each; stretches are cut there.
        cover: share of a cell that a class must cover to count as present. The cell with the middle
            of an event always counts, so that calls shorter than a cell can be learned.
        soft: the target is the covered share itself, up to 1; `cover` is not used.

    Attributes:
        events: every event, by recording and start; stretches of one class that touch are one.
    """

    def __init__(
        self,
        manifest: Manifest,
        classes: Sequence[str],
        lengths: NDArray[np.float64],
        *,
        cover: float = 0.5,
        soft: bool = False,
    ) -> None:
        self.classes, self.lengths = tuple(classes), np.asarray(lengths, np.float64)
        self.cover, self.soft = cover, soft
        index = {name: number for number, name in enumerate(self.classes)}
        below = _children(self.classes)
        self.events: list[Event] = []
        self._of: list[list[Event]] = []
        self._present: list[dict[int, Union]] = []
        self._reviewed: list[Union] = []
        self._said: list[dict[int, Union]] = []
        self._open: list[dict[int, Union]] = []
        rows = manifest.table[STRETCHES].to_list()
        for item, (parts, seconds) in enumerate(zip(rows, self.lengths.tolist(), strict=True)):
            self._add(item, [_cut(part, seconds) for part in parts], index, below)

    def _add(
        self,
        item: int,
        parts: list[dict[str, Any]],
        index: dict[str, int],
        below: dict[int, list[int]],
    ) -> None:
        present: dict[int, list[tuple[float, float]]] = {}
        absent: dict[int, list[tuple[float, float]]] = {}
        unsaid: dict[int, list[tuple[float, float]]] = {}
        bands: dict[int, list[tuple[float, float, float, float]]] = {}
        reviewed = []
        for part in parts:
            pair = (part["start"], part["end"])
            if not pair[1] > pair[0]:
                continue
            names = {index[name] for name in with_parents(part["labels"]) if name in index}
            for label in names:
                present.setdefault(label, []).append(pair)
                band = (_number(part["low_hz"]), _number(part["high_hz"]))
                bands.setdefault(label, []).append((*pair, *band))
                if not names.intersection(below[label]):
                    for child in below[label]:
                        unsaid.setdefault(child, []).append(pair)
            for name in part["negatives"]:
                for label in {index[name], *below[index[name]]} if name in index else ():
                    absent.setdefault(label, []).append(pair)
            if part["reviewed"]:
                reviewed.append(pair)
        unions = {label: Union(pairs) for label, pairs in present.items()}
        said = {
            label: [*pairs, *absent.pop(label, [])] for label, pairs in present.items()
        } | absent
        self._present.append(unions)
        self._reviewed.append(Union(reviewed))
        self._said.append({label: Union(pairs) for label, pairs in said.items()})
        self._open.append({label: Union(pairs) for label, pairs in unsaid.items()})
        found = [
            Event(item, label, start, end, *_band(start, end, bands[label]))
            for label, union in unions.items()
            for start, end in zip(union.begins.tolist(), union.ends.tolist(), strict=True)
        ]
        found = sorted(found, key=lambda event: (event.start, event.end, event.label))
        self._of.append(found)
        self.events += found

    def __len__(self) -> int:
        return len(self.lengths)

    def cells(self, item: int, edges: _Times) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Targets and what is known, for cells of a recording.

        Args:
            item: number of the recording.
            edges: `(cells + 1,)` rising seconds.

        Returns:
            float32 `(cells, classes)` in [0, 1] and bool `(cells, classes)`.
        """
        shape = (len(edges) - 1, len(self.classes))
        target = np.zeros(shape, np.float32)
        known = np.zeros(shape, bool)
        known[:] = (self._reviewed[item].share(edges) >= _SHARE)[:, None]
        for label, union in self._said[item].items():
            known[:, label] |= union.share(edges) >= _SHARE
        for label, union in self._open[item].items():
            known[:, label] &= union.share(edges) < _SHARE
        for label, union in self._present[item].items():
            share = union.share(edges)
            target[:, label] = np.clip(share, 0, 1) if self.soft else share >= self.cover
            middles = union.middles(edges)
            if not self.soft:
                target[middles, label] = 1
            known[target[:, label] > 0, label] = True
        return target, known

    def rows(
        self, item: int, edges: _Times, row_hertz: NDArray[np.float64]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """As `cells` for each band `(rows, 2)` of a grid: `(cells, rows, classes)`.

        A row holds an event if it overlaps with at least half of the event's band or of the row's,
        whichever is narrower. Where an event has no band its cells are unknown.
        """
        shape = (len(edges) - 1, len(row_hertz), len(self.classes))
        target, known = np.zeros(shape, np.float32), np.ones(shape, bool)
        low, high = row_hertz[:, 0], row_hertz[:, 1]
        for event in self._of[item]:
            if event.end <= edges[0] or event.start >= edges[-1]:
                continue
            union = Union([(event.start, event.end)])
            cells = union.share(edges) >= self.cover
            cells[union.middles(edges)] = True
            if np.isnan(event.low_hz):
                known[cells, :, event.label] = False
                continue
            over = np.minimum(high, event.high_hz) - np.maximum(low, event.low_hz)
            inside = over >= np.minimum(high - low, event.high_hz - event.low_hz) / 2
            target[np.outer(cells, inside), event.label] = 1
        return target, known

    def known_stretches(self, item: int) -> list[tuple[float, float]]:
        """Where anything is known of a recording, in seconds, rising."""
        unions = [self._reviewed[item], *self._said[item].values()]
        pairs = [pair for union in unions for pair in zip(union.begins, union.ends, strict=True)]
        return list(zip(*(side.tolist() for side in merged(pairs)), strict=True))

    def balance(self) -> NDArray[np.float64]:
        """`(classes,)` known time without a class over time with it; infinite where it never is."""
        present, known = np.zeros((2, len(self.classes)))
        for item in range(len(self)):
            reviewed = self._reviewed[item]
            for label in range(len(self.classes)):
                said = self._said[item].get(label)
                both = reviewed
                if said is not None:
                    pairs = [
                        pair
                        for union in (reviewed, said)
                        for pair in zip(union.begins, union.ends, strict=True)
                    ]
                    both = Union(pairs)
                known[label] += both.seconds
                if label in self._present[item]:
                    present[label] += self._present[item][label].seconds
        ratio = np.full(len(self.classes), np.inf)
        return np.divide(known - present, present, out=ratio, where=present > 0)

    def table(self, paths: Sequence[str], channels: Sequence[int | None]) -> pl.DataFrame:
        """The events as a table; paths and channels by recording."""
        from sonoformer.data.events import events

        rows = {
            "path": [paths[e.item] for e in self.events],
            "start": [e.start for e in self.events],
            "end": [e.end for e in self.events],
            "label": [self.classes[e.label] for e in self.events],
            "low_hz": pl.Series([e.low_hz for e in self.events], dtype=pl.Float64).fill_nan(None),
            "high_hz": pl.Series([e.high_hz for e in self.events], dtype=pl.Float64).fill_nan(None),
            "channel": pl.Series([channels[e.item] for e in self.events], dtype=pl.Int64),
        }
        schema = {"path": pl.String, "start": pl.Float64, "end": pl.Float64, "label": pl.String}
        return events(pl.DataFrame(rows, schema_overrides=schema))


def _children(classes: Sequence[str]) -> dict[int, list[int]]:
    """Number of each class -> numbers of all classes below it."""
    return {
        above: [number for number, name in enumerate(classes) if classes[above] in parents(name)]
        for above in range(len(classes))
    }


def _cut(part: dict[str, Any], seconds: float) -> dict[str, Any]:
    end = seconds if part["end"] is None else min(part["end"], seconds)
    return {**part, "start": max(0.0, part["start"]), "end": end}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _band(
    start: float, end: float, bands: Sequence[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Lowest and highest edge of the stretches inside one event; NaN if any has none."""
    inside = [band[2:] for band in bands if band[0] >= start and band[1] <= end]
    low, high = min(band[0] for band in inside), max(band[1] for band in inside)
    known = not np.isnan(np.asarray(inside)).any()
    return (low, high) if known else (float("nan"), float("nan"))
