"""A detector and its baselines in one table: the same recordings, tuning and measures for all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sonoformer.evaluation.events.card import EVENT_TITLES, EventScorecard, event_scorecard
from sonoformer.evaluation.events.post import PostConfig
from sonoformer.evaluation.events.tuning import tune
from sonoformer.evaluation.report import Section, Table
from sonoformer.files import atomic
from sonoformer.run import Run
from sonoformer.tasks.clips import Clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.compare import TITLES, fit_baselines
from sonoformer.tasks.detection.judging import event_answers
from sonoformer.tasks.detection.lesson import truth_of
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import Scored, tracks, true_events

SHOWN = (
    *("event_f1", "intersection_f1", "psds1", "frame_ap", "frame_auc"),
    *("onset_error", "offset_error", "false_alarms_per_hour"),
)
"""Figures of the table."""


def baseline_file(name: str) -> Path:
    """Where in a run's folder the events lie that a baseline found in the test recordings."""
    return Path("baselines") / f"{name}.parquet"


def baseline_cards(
    model: Detector,
    train: Clips,
    validation: Clips,
    test: Clips,
    config: FinetuneConfig,
    run: Run,
    *,
    seed: int,
    device: torch.device | str = "cpu",
    bar: bool | None = None,
) -> dict[str, EventScorecard]:
    """Figures of every baseline (`TITLES`) on the test recordings; what each finds is kept in the
    run's folder (`baseline_file`).

    Each is fitted on the training recordings, and its post-processing tuned on the validation
    recordings as the detector's is; without any, its events begin and end at a score of 0.5.

    Args:
        model: the detector, for classes, frames and spectrograms.
        train, validation, test: the recordings; the test must hold an event.
        config: the detector's options.
        run: its run.
        seed: of everything random.
        device: where the CNN trains.
        bar: show a progress bar; on a terminal only by default.

    Raises:
        UserError: no event to learn from, or none to find.
    """
    watched = validation if len(validation) else None
    shared: dict[str, Any] = {"seed": seed, "device": str(device), "bar": bar}
    fitted = fit_baselines(model, train, watched, config, run, **shared)
    run.log(
        "baseline band: "
        + ", ".join(f"{name} {low:.0f}-{high:.0f} Hz" for name, (low, high) in fitted.bands.items())
    )
    heard = fitted.scores(test, device=device, problem=run.problem)
    posts = dict.fromkeys(heard, PostConfig())
    if watched is not None:
        tracked = fitted.scores(watched, device=device, problem=run.problem)
        posts = {name: _tuned(model, watched, one, config) for name, one in tracked.items()}
    truth = truth_of(test, model.classes, config)
    cards = {}
    for name, scored in heard.items():
        answers = event_answers(model.classes, test, truth, scored, posts[name])
        kept = run.folder / baseline_file(name)
        kept.parent.mkdir(exist_ok=True)
        with atomic(kept) as temporary:
            answers.found.write_parquet(temporary)
        frames = tracks(model, test, truth, scored)
        cards[name] = event_scorecard(answers, frames=frames, resamples=config.resamples)
    return cards


def baseline_rows(cards: Mapping[str, EventScorecard]) -> dict[str, dict[str, float | None]]:
    """System -> its figures, None where one cannot be computed."""
    return {
        name: {key: card.figures[key].value if key in card.figures else None for key in SHOWN}
        for name, card in cards.items()
    }


def comparison(detector: EventScorecard, baselines: Mapping[str, EventScorecard]) -> Section:
    """The table for a report, the detector first; without figures that no system has."""
    systems = {"": detector, **baselines}
    rows = baseline_rows(systems)
    first, *others = (key for key in SHOWN if any(row[key] is not None for row in rows.values()))
    titles = ["System", EVENT_TITLES[first], "from", "to", *(EVENT_TITLES[key] for key in others)]
    cells = []
    for name, row in rows.items():
        span = systems[name].figures[first]
        shown = TITLES.get(name, "This detector")
        cells.append([shown, row[first], span.low, span.high, *(row[key] for key in others)])
    lead = (
        "All learned from the same training recordings, were tuned on the same validation "
        "recordings and tested on the same others; from and to are the event F1's 95 % interval."
    )
    return Section("Beside simpler systems", [Table(titles, cells)], lead)


def _tuned(
    model: Detector, validation: Clips, scored: Scored, config: FinetuneConfig
) -> PostConfig:
    truth = truth_of(validation, model.classes, config)
    table, reviewed = true_events(validation, truth)
    frames = tracks(model, validation, truth, scored)
    return tune(frames, table, model.classes, reviewed=reviewed).config
