"""The demo's page: both systems side by side, with intervals, and the recording with its table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from sonoformer.audio import read_native
from sonoformer.evaluation import sections
from sonoformer.evaluation.metrics import Answers, balanced_accuracy
from sonoformer.evaluation.report import (
    Columns,
    Example,
    Examples,
    Figure,
    Figures,
    Prose,
    Report,
    Section,
    Table,
    Verdict,
)
from sonoformer.evaluation.scorecard import scorecard
from sonoformer.evaluation.statistics import Difference, Interval, bootstrap, paired_bootstrap
from sonoformer.tasks.finetune import Finetuned


@dataclass(frozen=True)
class Arms:
    """The trainings of both systems: `from scratch` and `pretrained`, one a seed each."""

    found: dict[str, list[Finetuned]]

    def answers(self, arm: str) -> list[Answers]:
        """One a seed, about the same test clips."""
        return [done.answers[0] for done in self.found[arm]]


@dataclass(frozen=True)
class Timeline:
    """The longer recording.

    Attributes:
        recording: the file.
        truth: (start, end, class) of its parts, in seconds.
        table: the model's scores, a row a window.
        classes: names of the score columns.
    """

    recording: Path
    truth: list[tuple[float, float, str]]
    table: pl.DataFrame
    classes: tuple[str, ...]

    def hits(self) -> tuple[int, int]:
        """Windows whose best class is the one heard at their middle, and windows with sound."""
        right = heard = 0
        scores = self.table.select(self.table.columns[4:]).to_numpy()
        middles = self.table.select((pl.col("start") + pl.col("end")) / 2).to_series()
        for middle, row in zip(middles, scores, strict=True):
            true = next((name for a, b, name in self.truth if a <= middle < b), None)
            if true is not None:
                heard += 1
                right += self.classes[int(row.argmax())] == true
        return right, heard


@dataclass(frozen=True)
class Comparison:
    """Balanced accuracy of both systems, and the paired difference."""

    scratch: Interval
    pretrained: Interval
    difference: Difference
    chance: float

    @property
    def verdict(self) -> str:
        """Whether pretraining helped, in one sentence."""
        gain = self.difference.interval
        if not self.difference.clear:
            return f"No clear gain from pretraining here: the difference is {gain}."
        if gain.value > 0:
            return f"Pretraining helped: balanced accuracy rose by {gain}."
        return f"Pretraining did harm here: balanced accuracy changed by {gain}."

    def lines(self) -> list[str]:
        """What the terminal shows."""
        return [
            f"balanced accuracy from scratch: {self.scratch}",
            f"balanced accuracy pretrained:   {self.pretrained}   (chance {self.chance:.3f})",
            self.verdict,
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `metrics.json`."""
        return {
            "from_scratch": self.scratch.to_dict(),
            "pretrained": self.pretrained.to_dict(),
            "difference": self.difference.interval.to_dict(),
            "clear": self.difference.clear,
            "chance": self.chance,
        }


def compare(arms: Arms) -> Comparison:
    """Both systems on the same clips, over clips and seeds."""
    scratch, pretrained = arms.answers("from scratch"), arms.answers("pretrained")
    return Comparison(
        bootstrap(balanced_accuracy, scratch),
        bootstrap(balanced_accuracy, pretrained),
        paired_bootstrap(balanced_accuracy, scratch, pretrained),
        1 / len(scratch[0].classes),
    )


def write_report(
    path: Path,
    data: str,
    arms: Arms,
    timeline: Timeline,
    pretrained: Path,
    *,
    labels: int,
    seconds: float,
    config: Any,
) -> Comparison:
    """Write the page; returns the comparison that it shows."""
    comparison = compare(arms)
    clips = len(arms.answers("pretrained")[0])
    seeds = len(arms.found["pretrained"])
    report = Report(
        "Sonoformer demo",
        f"{data}: {labels} labelled clips a class, {seeds} seeds, {clips} clips of held-out "
        f"groups; {seconds / 60:.1f} minutes.",
    )
    tone = "good" if comparison.difference.clear else "plain"
    if comparison.difference.interval.value < 0:
        tone = "warn"
    report.add(
        Section("Did pretraining help?", [_figures(comparison), Prose(comparison.verdict, tone)])
    )
    report.add(_pretraining(pretrained))
    columns = []
    for arm in arms.found:
        card = scorecard(arms.answers(arm), resamples=200)
        section = sections.classes(card)
        columns.append((arm, [Figures.of(card), *section.parts]))
    report.add(Section("Side by side", [Columns(columns, systems=True)]))
    report.add(_recording(timeline))
    report.add(sections.settings(config, {}))
    report.write(path)
    return comparison


def _figures(comparison: Comparison) -> Figures:
    note = "balanced accuracy"
    return Figures(
        [
            Figure("From scratch", comparison.scratch, note, comparison.chance),
            Figure("Pretrained", comparison.pretrained, note, comparison.chance),
            Figure("Difference", comparison.difference.interval, "on the same clips"),
        ]
    )


def _pretraining(folder: Path) -> Section:
    table = pl.read_csv(folder / "metrics.csv", infer_schema_length=None)
    rows = [
        {name: float(value) for name, value in row.items() if value is not None}
        for row in table.iter_rows(named=True)
    ]
    wanted = ("accuracy", "chance", "mse", "info_nce")
    kept = [
        {n: v for n, v in row.items() if n == "epoch" or n.split("/")[-1] in wanted} for row in rows
    ]
    section = sections.training(kept)
    assert section is not None
    lead = "Hidden patches told apart (accuracy, beside chance) and rebuilt (mse), without labels."
    return Section("Pretraining", section.parts, lead)


def _recording(timeline: Timeline) -> Section:
    right, heard = timeline.hits()
    samples, rate = read_native(timeline.recording, end=20.0)
    scores = timeline.table.select(timeline.table.columns[4:]).to_numpy()
    best = scores.argmax(1)
    rows = [
        {
            "start": start,
            "end": end,
            "predicted": timeline.classes[int(cls)],
            "score": float(score[cls]),
            "heard": next((n for a, b, n in timeline.truth if a <= (start + end) / 2 < b), None),
        }
        for (start, end), cls, score in zip(
            timeline.table.select("start", "end").iter_rows(), best, scores, strict=True
        )
    ]
    label = timeline.classes[int(np.bincount(best).argmax())]
    example = Example(
        f"{timeline.recording.name}, first 20 s",
        f"{len(timeline.truth)} clips one after the other",
        [Verdict(f"commonest: {label}", float(scores.max(1).mean()), True)],
        samples,
        rate,
    )
    lead = (
        f"A recording of {len(timeline.truth)} held-out clips, windows of 2 s: the best class is "
        f"the right one in {right} of {heard} windows."
    )
    return Section(
        "A longer recording",
        [Examples([example], seconds=20.0), Table.of(rows, fold=f"All {len(rows)} windows")],
        lead,
    )
