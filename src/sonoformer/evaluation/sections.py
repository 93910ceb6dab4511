"""The usual sections of a report, from scorecards, curves and answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoformer.evaluation.metrics import Answers
from sonoformer.evaluation.plots import bars, confusion, curves
from sonoformer.evaluation.report import (
    Code,
    Columns,
    Example,
    Examples,
    Figures,
    Plot,
    Prose,
    Section,
    Table,
    Verdict,
)
from sonoformer.evaluation.scorecard import TITLES, Scorecard
from sonoformer.evaluation.statistics import Interval
from sonoformer.settings import to_yaml

ReadClip = Callable[[int], tuple[NDArray[np.float32], int]]
_LARGEST_MATRIX = 60


def result(card: Scorecard, lead: str = "") -> Section:
    """The headline figures, and what a reader must know about them."""
    notes = [Prose("\n\n".join(card.notes), "warn")] if card.notes else []
    return Section("Result", [Figures.of(card), *notes], lead)


def training(history: Sequence[Mapping[str, float]]) -> Section | None:
    """Training and validation curves from the rows of `metrics.csv`; None if there are none."""
    names = dict.fromkeys(n for row in history for n in row if "/" in n and "grad" not in n)
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for name in names:
        side, _, metric = name.partition("/")
        points = [(row["epoch"], row[name]) for row in history if name in row]
        x, y = (list(axis) for axis in zip(*points, strict=True))
        title = {"train": "training", "valid": "validation"}.get(side, side)
        panels.setdefault(metric, {})[title] = (x, y)
    if not panels:
        return None
    plots = [
        (_title(metric), [Plot(curves(series, x_label="epoch", y_label=_title(metric)))])
        for metric, series in panels.items()
    ]
    return Section("Training", [Columns(plots)])


def classes(card: Scorecard) -> Section:
    """Confusion matrix and per-class table; for many classes the commonest confusions."""
    table = Table.of(
        card.per_class,
        shares=["precision", "recall", "f1", "average_precision", "auc"],
        fold=f"All {len(card.classes)} classes" if len(card.classes) > 30 else "",
    )
    if card.confusion is None:
        return Section("Classes", [table])
    pairs = confusions(card.confusion, card.classes)
    parts: list[Any] = []
    if len(card.classes) <= _LARGEST_MATRIX:
        caption = "Rows are the true classes, columns what was predicted; shades are row shares."
        parts.append(Plot(confusion(card.confusion, card.classes), caption))
    if pairs and len(card.classes) > 10:
        parts.append(Table.of(pairs, caption="The commonest confusions."))
    return Section("Classes", [*parts, table])


def confusions(
    matrix: NDArray[np.int64], names: Sequence[str], most: int = 12
) -> list[dict[str, str | int | float]]:
    """The commonest errors: true class, predicted class, clips, share of the true class."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows: list[dict[str, str | int | float]] = []
    for cell in order.tolist():
        true, predicted = divmod(cell, len(names))
        clips = int(wrong[true, predicted])
        if clips:
            share = clips / int(matrix[true].sum())
            rows.append(
                {"true": names[true], "predicted": names[predicted], "clips": clips, "share": share}
            )
    return rows


def errors(
    systems: Mapping[str, Answers], read: ReadClip, *, most: int = 12, seconds: float = 6.0
) -> Section | None:
    """The clips on which the first system is most sure and wrong, to see and hear.

    Args:
        systems: name -> answers about the same clips; the name of a single one is not shown.
        read: row -> waveform `(samples,)` and sample rate.
        most: clips at most.
        seconds: of each clip that are shown.

    Returns:
        None if nothing is wrong.
    """
    first = next(iter(systems.values()))
    rows = worst(first, most)
    if not len(rows):
        return None
    examples = []
    for row in rows:
        wave, rate = read(int(row))
        verdicts = [
            verdict
            for name, answers in systems.items()
            for verdict in _verdicts(answers, int(row), name if len(systems) > 1 else "")
        ]
        truth = [c for c, t in zip(first.classes, first.targets[row], strict=True) if t]
        label = ", ".join(truth) or "none of the classes"
        examples.append(Example(_tail(first.clips[row]), label, verdicts, wave, rate))
    lead = "The clips on which the model was wrong and most sure of it."
    return Section("Worst errors", [Examples(examples, seconds=seconds)], lead)


def worst(answers: Answers, most: int) -> NDArray[np.int64]:
    """Rows of the worst errors, the worst first.

    Single-label: wrong clips by (score of the predicted class - score of the true class).
    Multi-label: clips by their largest gap between score and truth among wrong, known cells.
    """
    if answers.single:
        wrong = answers.labelled & (answers.truth != answers.predicted)
        every = np.arange(len(answers))
        size = answers.scores[every, answers.predicted] - answers.scores[every, answers.truth]
    else:
        cells = answers.known & (answers.decided != answers.targets)
        size = np.where(cells, np.abs(answers.scores - answers.targets), 0).max(1)
        wrong = cells.any(1)
    order = np.argsort(np.where(wrong, -size, np.inf), kind="stable")
    return order[: min(most, int(wrong.sum()))]


def trainings(cards: Mapping[str, Scorecard], over: Mapping[str, Interval]) -> Section:
    """Several trainings (folds, seeds): a bar each, and means with intervals over them."""
    names = list(over)
    shown = names[0] if names else next(iter(next(iter(cards.values())).figures))
    values = [card.figures.get(shown) for card in cards.values()]
    summary = [
        {
            "score": TITLES[name],
            "mean": over[name].value,
            "low": over[name].low,
            "high": over[name].high,
            **{title: _value(card.figures.get(name)) for title, card in cards.items()},
        }
        for name in names
    ]
    lead = "Each training was tested on clips that it never met."
    parts: list[Any] = [Plot(bars(list(cards), {"": values}, x_label=TITLES[shown]))]
    if summary:
        drawn = over[names[0]].over
        caption = f"Means over {drawn}, with 95 % intervals. The figures above draw clips instead."
        parts.append(Table.of(summary, caption=caption))
    return Section("Trainings", parts, lead)


def choice(found: Mapping[str, Any]) -> Section:
    """The candidates of `budget.json`, and which of them was trained on all clips."""
    rows = [
        {
            "candidate": trial["name"],
            "idea": trial["why"],
            "steps": f"{trial['share']:.0%}" if trial["share"] else "",
            _title(found["metric"]): "" if trial["value"] is None else f"{trial['value']:.3f}",
            "seconds": f"{trial['seconds']:.0f}",
            "note": trial["note"],
        }
        for trial in found["trials"]
    ]
    lead = (
        f"Within {found['minutes']:g} minutes: {found['chosen']}; {found['reason']}. These clips "
        "were trained on in the end, so that their scores say nothing of the model."
    )
    return Section("Choice", [Table.of(rows)], lead)


def settings(config: Any, environment: Mapping[str, Any], problems: Sequence[Any] = ()) -> Section:
    """Everything needed to do it again, and the files that were skipped."""
    parts: list[Any] = [
        Code(to_yaml(config), "Options"),
        Code(json.dumps(dict(environment), indent=2, default=str), "Software and machine"),
    ]
    if problems:
        count = f"{len(problems)} file{'s were' if len(problems) > 1 else ' was'} skipped"
        rows = [[str(path), reason] for path, reason in problems]
        parts.append(Table(["file", "reason"], rows, fold=count))
    return Section("Settings", parts)


def _verdicts(answers: Answers, row: int, system: str) -> list[Verdict]:
    """What a system decided about a clip: its class, or its wrong and right classes."""
    if answers.single:
        column = int(answers.predicted[row])
        right = bool(answers.targets[row, column])
        return [Verdict(answers.classes[column], float(answers.scores[row, column]), right, system)]
    columns = np.flatnonzero(answers.known[row] & (answers.decided[row] | answers.targets[row]))
    gap = np.abs(answers.scores[row] - answers.targets[row])
    found = []
    for column in sorted(columns.tolist(), key=lambda c: -gap[c])[:4]:
        name, present = answers.classes[column], bool(answers.targets[row, column])
        decided = bool(answers.decided[row, column])
        label = name if decided else f"not {name}"
        score = float(answers.scores[row, column])
        found.append(Verdict(label, score, decided == present, system))
    return found


def _tail(name: str, parts: int = 3) -> str:
    """The end of a path: what tells clips apart, without the folders that all of them share."""
    pieces = name.replace("\\", "/").split("/")
    return name if len(pieces) <= parts else "/".join(["…", *pieces[-parts:]])


def _value(interval: Interval | None) -> float | None:
    return None if interval is None else interval.value


def _title(metric: str) -> str:
    return TITLES.get(metric, metric.replace("_", " "))
