"""Praat's TextGrid: interval tiers, long or short text format.

A tier tiles time with intervals that cannot overlap, so a tier is written for each class, and more
where events of one class overlap. Events without duration go into point tiers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from sonoformer.data.annotations.columns import EventColumns
from sonoformer.data.annotations.marks import Marks
from sonoformer.data.annotations.recordings import Recording
from sonoformer.data.annotations.text import cell, decimal, read_text
from sonoformer.data.events import EVENTS, in_order
from sonoformer.errors import UserError
from sonoformer.files import write_text

# Praat heeds texts, numbers and flags that stand free, and no other word.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|(?:(?<=\s)|^)([-+]?[\d.][\d.eE+-]*)(?=\s|$)', re.M)


class _Tier(NamedTuple):
    name: str
    points: bool
    spans: list[tuple[float, float]]


def read(path: Path, columns: EventColumns) -> Marks:
    """Intervals and points with a text, of all tiers; the text is the class.

    The TextGrid belongs to one recording, which it does not name.

    Raises:
        UserError: it is no TextGrid in text format, or it ends too early.
    """
    text = read_text(path)
    if "ooTextFile" not in text[:200] or "TextGrid" not in text[:200]:
        raise UserError(
            f"{path}: is no TextGrid in text format; save it in Praat as a (short) text file"
        )
    found = [
        {"start": start, "end": end, "label": label.strip()}
        for start, end, label in _marked(text, path)
        if label.strip()
    ]
    table = pl.DataFrame(found, schema={name: EVENTS[name] for name in ("start", "end", "label")})
    absent = [pl.lit(None, kind).alias(name) for name, kind in EVENTS.items()]
    return Marks(table.with_columns(a for a in absent if a.meta.output_name() not in table.columns))


def write(table: pl.DataFrame, path: Path, recordings: Mapping[str, Recording]) -> None:
    """Write the events of one recording, a tier or more for each class."""
    lengths = [facts.seconds for facts in recordings.values() if facts.seconds is not None]
    last = max([*lengths, *table["end"].to_list(), 0.0])
    tiers = _tiers(table)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", f"xmax = {decimal(last)}", "tiers? <exists>", f"size = {len(tiers)}"]
    lines.append("item []:")
    for number, tier in enumerate(tiers, 1):
        lines += [f"    item [{number}]:", *_written(tier, last)]
    write_text(path, "\n".join(lines) + "\n")


def _marked(text: str, path: Path) -> Iterator[tuple[float, float, str]]:
    """(start, end, text) of every interval and point."""
    tokens = _TOKEN.finditer(text)

    def following(group: int, what: str) -> str:
        match = next(tokens, None)
        if match is None or match[group] is None:
            raise UserError(f"{path}: {what} is missing; was the file cut off?")
        return match[group].replace('""', '"')

    def number(what: str) -> float:
        value = following(3, what)
        try:
            return float(value)
        except ValueError:
            raise UserError(f"{path}: {what} {value!r} is not a number") from None

    following(1, "the file type"), following(1, "the class")
    number("the beginning"), number("the end")
    if following(2, "whether there are tiers") != "exists":
        return
    for tier in range(1, int(number("the number of tiers")) + 1):
        what = f"tier {tier}"
        points = following(1, what) == "TextTier"
        following(1, f"the name of {what}")
        number(f"the beginning of {what}"), number(f"the end of {what}")
        for item in range(1, int(number(f"the size of {what}")) + 1):
            one = f"interval {item} of {what}"
            start = number(one)
            yield start, start if points else number(one), following(1, one)


def _tiers(table: pl.DataFrame) -> list[_Tier]:
    """Events on as few tiers as hold them without overlap, class by class."""
    tiers: list[_Tier] = []
    for start, end, label in in_order(table).select("start", "end", "label").iter_rows():
        points = start == end
        for tier in tiers:
            free = tier.spans[-1][1] <= start and not (points and tier.spans[-1][1] == start)
            if tier.name == cell(label) and tier.points == points and free:
                tier.spans.append((start, end))
                break
        else:
            tiers.append(_Tier(cell(label), points, [(start, end)]))
    return tiers


def _written(tier: _Tier, last: float) -> Iterator[str]:
    name = tier.name.replace('"', '""')
    yield f'        class = "{"TextTier" if tier.points else "IntervalTier"}"'
    yield f'        name = "{name}"'
    yield "        xmin = 0"
    yield f"        xmax = {decimal(last)}"
    if tier.points:
        yield f"        points: size = {len(tier.spans)}"
        for number, (start, _) in enumerate(tier.spans, 1):
            yield f"        points [{number}]:"
            yield f"            number = {decimal(start)}"
            yield f'            mark = "{name}"'
        return
    intervals = _tiled(tier, name, last)
    yield f"        intervals: size = {len(intervals)}"
    for number, (start, end, text) in enumerate(intervals, 1):
        yield f"        intervals [{number}]:"
        yield f"            xmin = {decimal(start)}"
        yield f"            xmax = {decimal(end)}"
        yield f'            text = "{text}"'


def _tiled(tier: _Tier, name: str, last: float) -> list[tuple[float, float, str]]:
    """The events with empty intervals between them, from 0 to the end."""
    intervals, at = [], 0.0
    for start, end in tier.spans:
        if start > at:
            intervals.append((at, start, ""))
        intervals.append((start, end, name))
        at = end
    if at < last:
        intervals.append((at, last, ""))
    return intervals
