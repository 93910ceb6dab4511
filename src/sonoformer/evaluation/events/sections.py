"""Sections of a report on events: figures, curves, classes, and mistakes to see and hear."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.errors import AudioError
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.card import EVENT_TITLES, EventScorecard
from sonoformer.evaluation.events.judged import Judged
from sonoformer.evaluation.events.mistakes import BAD_END, FALSE_ALARM, MISS
from sonoformer.evaluation.events.psds import SCENARIOS, psd_roc
from sonoformer.evaluation.metrics import Row
from sonoformer.evaluation.plots import curves
from sonoformer.evaluation.report import (
    Columns,
    Example,
    Examples,
    Figure,
    Figures,
    Mark,
    Part,
    Plot,
    Prose,
    Section,
    Table,
    Verdict,
)

ReadCut = Callable[[str, float, float], tuple[NDArray[np.float32], int]]
"""path, start and end in seconds -> waveform `(samples,)` and sample rate"""

SHARES = ("event_f1", "intersection_f1", "psds1", "psds2", "event_ap", "frame_ap", "frame_auc")
"""Figures that lie between 0 and 1 and are drawn on that scale."""

_LINES = 7  # classes in a plot
_CONTEXT = 1.0  # seconds of sound before and after a mistake, at least


def result(card: EventScorecard) -> Section:
    """The headline, the other figures in a table, and what a reader must know about them."""
    shown = [name for name in SHARES if name in card.figures]
    big = [Figure(EVENT_TITLES[n], card.figures[n], card.figures[n].over) for n in shown]
    others = [
        {"figure": EVENT_TITLES[name], "value": one.value, "low": one.low, "high": one.high}
        for name, one in card.figures.items()
        if name not in shown
    ]
    parts: list[Part] = [Figures(big)]
    if others:
        parts.append(Table.of(others, caption="Low and high are ends of 95 % intervals."))
    if card.notes:
        parts.append(Prose("\n\n".join(card.notes), "warn"))
    lead = (
        f"{card.events:,} true and {card.found:,} found events in {card.hours:.2f} hours of "
        f"{card.recordings:,} recording{'' if card.recordings == 1 else 's'}."
    )
    return Section("Result", parts, lead)


def thresholds(judged: Judged) -> Section | None:
    """Precision against recall, and the PSD-ROC; None where the found events have no scores."""
    answers = judged.answers
    if not answers.scored or not len(answers.said.item):
        return None
    counts = answers.counts.sum(0)
    most = [c for c in np.argsort(-counts, kind="stable")[:_LINES].tolist() if counts[c]]
    lines = {}
    for label in most:
        _, hits, false = judged.common.curve(label)
        if hits.shape[1]:
            recall, precision = hits[0] / counts[label], hits[0] / (hits[0] + false[0])
            lines[answers.classes[label]] = (recall.tolist(), precision.tolist())
    rocs = {}
    for name, scenario in SCENARIOS.items():
        roc = psd_roc(judged.scenarios[name], scenario)
        inside = roc.rates <= judged.scoring.e_max
        rates = np.append(roc.rates[inside], judged.scoring.e_max)
        effective = np.append(roc.effective[inside], roc.effective[inside][-1])
        # Steps: what is found stays so until the next rate.
        rocs[name] = (np.repeat(rates, 2)[1:].tolist(), np.repeat(effective, 2)[:-1].tolist())
    plots = [
        ("Precision and recall", [Plot(curves(lines, x_label="recall", y_label="precision"))]),
        (
            "PSD-ROC",
            [Plot(curves(rocs, x_label="false alarms an hour", y_label="effective share found"))],
        ),
    ]
    lead = (
        "Over thresholds on the events' scores; an event is right by what it has in common with "
        "true ones."
    )
    return Section("Thresholds", [Columns(plots if lines else plots[1:])], lead)


def tables(card: EventScorecard) -> Section:
    """Class by class, recording by recording, fold by fold."""
    shares = ("precision", "recall", "event_f1", "intersection_f1", "segment_f1", "event_ap")
    wrong = [key for key in card.per_class[0] if _of_errors(key)]
    scores = [key for key in card.per_class[0] if not _of_errors(key)]
    names = [Path(str(row["recording"])).name for row in card.per_recording]
    unlike = len(set(names)) == len(names)
    recordings = [
        {**row, "recording": name} if unlike else row
        for row, name in zip(card.per_recording, names, strict=True)
    ]
    parts: list[Part] = [
        _titled(_columns(card.per_class, scores), [*shares, "frame_ap", "frame_auc"]),
        _titled(_columns(card.per_class, ["class", *wrong]), []),
        _titled(
            recordings,
            ["event_f1", "intersection_f1"],
            fold=f"All {card.recordings} recordings" if card.recordings > 10 else "",
        ),
    ]
    if card.folds:
        parts.append(_titled(card.folds, ["event_f1", "intersection_f1"]))
        means = [
            {"figure": EVENT_TITLES[n], "mean": one.value, "low": one.low, "high": one.high}
            for n, one in card.over_folds.items()
        ]
        caption = "Means over folds, with 95 % intervals (Student's t)."
        parts.append(Table.of(means, caption=caption))
    return Section("Classes and recordings", parts)


def errors(
    answers: EventAnswers,
    wrong: pl.DataFrame,
    read: ReadCut,
    *,
    most: int = 6,
    seconds: float = 10.0,
) -> Section | None:
    """The worst mistakes of each kind: strips with what was found over what is there, and sound.

    Only the cuts around the mistakes shown are read. A recording that cannot be read is left out.

    Args:
        answers: true and found events.
        wrong: a table of `mistakes`.
        read: gives a cut of a recording.
        most: of each kind.
        seconds: longest cut; of longer events the beginning is shown.

    Returns:
        None if nothing is wrong.
    """
    parts: list[Part] = []
    unread: list[str] = []
    for kind, title in _KINDS.items():
        rows = wrong.filter(pl.col("kind") == kind)
        if not rows.height:
            continue
        items = []
        for row in rows.head(most).iter_rows(named=True):
            try:
                items.append(_strip(answers, row, read, seconds))
            except AudioError as error:
                unread.append(str(error))
        parts.append(Prose(f"{title}: {len(items)} of {rows.height:,}."))
        if items:
            parts.append(Examples(items, seconds=seconds))
    if unread:
        parts.append(Prose(f"Without sound: {'; '.join(dict.fromkeys(unread))}.", "warn"))
    lead = "Green above: what is there. Blue below: what was found. Orange: the mistake."
    return Section("Mistakes", parts, lead) if parts else None


_KINDS = {
    FALSE_ALARM: "False alarms, the most certain first",
    MISS: "Misses, the longest first",
    BAD_END: "Bad ends, the worst first",
}


def _strip(answers: EventAnswers, row: Mapping[str, Any], read: ReadCut, seconds: float) -> Example:
    """A mistake with its surroundings: the longer it is, the less of them, down to a second."""
    path, start, end = row["path"], row["start"], row["end"]
    spare = min(max(_CONTEXT, (seconds - (end - start)) / 2), seconds / 4)
    first = max(0.0, start - spare)
    last = min(answers.seconds[path], end + spare, first + seconds)
    wave, rate = read(path, first, last)
    missed = row["kind"] == MISS
    about = (row["label"], start, end)
    true = _marks(answers.truth, path, first, last, about if missed else None, true=True)
    said = _marks(answers.found, path, first, last, None if missed else about, true=False)
    truth = ", ".join(dict.fromkeys(mark.label for mark in true)) or "none of the classes"
    verdict = Verdict(_sentence(row), row["score"], False)
    name = f"{Path(path.replace(chr(92), '/')).name} {first:.1f}–{last:.1f} s"
    return Example(name, truth, [verdict], wave, rate, [*true, *said])


def _marks(
    table: pl.DataFrame,
    path: str,
    first: float,
    last: float,
    about: tuple[str, float, float] | None,
    *,
    true: bool,
) -> list[Mark]:
    """The events of a cut; the one that the mistake is about is marked as wrong."""
    here = table.filter(
        (pl.col("path") == path) & (pl.col("end") > first) & (pl.col("start") < last)
    )
    rows = here.select("label", "start", "end").iter_rows()
    return [Mark(s - first, e - first, name, true, (name, s, e) == about) for name, s, e in rows]


def _sentence(row: Mapping[str, Any]) -> str:
    if row["kind"] == MISS:
        return f"no {row['label']}"
    if row["kind"] == FALSE_ALARM:
        return str(row["label"])
    onset, offset = row["onset_error"], row["offset_error"]
    return f"{row['label']}, begins {onset:+.2f} s, ends {offset:+.2f} s"


def _of_errors(key: str) -> bool:
    return key.startswith(("onset", "offset", "false"))


def _columns(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    return [{key: row[key] for key in keys} for row in rows]


def _titled(rows: Sequence[Row], shares: Sequence[str], fold: str = "") -> Table:
    """A table under the figures' own titles."""
    keys = list(rows[0])
    titles = {key: EVENT_TITLES.get(key, key.replace("_", " ")) for key in keys}
    cells = [[row[key] for key in keys] for row in rows]
    bars = [titles[key] for key in shares if key in titles]
    return Table(list(titles.values()), cells, bars, fold=fold)
