"""A detector and its baselines in one report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from tests.tasks.detection.conftest import MakeRecordings, marked

from sonoformer.encoders import AstEncoder
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.compare import TITLES
from sonoformer.tasks.detection.baselines.table import baseline_file
from sonoformer.tasks.detection.config import EventsConfig
from sonoformer.tasks.finetune import finetune

Fit = Callable[..., tuple[Run, pl.DataFrame]]


@pytest.fixture
def fit(
    make_recordings: MakeRecordings,
    encoder: AstEncoder,
    config: Callable[..., FinetuneConfig],
    start: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> Fit:
    """Trains a detector and its baselines: recordings, options -> the run and what was marked."""
    monkeypatch.setattr("sonoformer.tasks.detection.baselines.learned._TREES", 10)

    def trained(made: dict[str, Any], **options: Any) -> tuple[Run, pl.DataFrame]:
        table = make_recordings(**made)
        settings = config(events=EventsConfig(baselines=True), **options)
        run = start(settings)
        with run:
            finetune(marked(table), encoder, settings, run, device="cpu", bar=False)
        return run, table

    return trained


def test_finetune_puts_them_beside_the_detector(fit: Fit) -> None:
    run, _ = fit({"count": 8}, epochs=6, validation=0.25, test=0.25)
    rows = read_json(run.folder / "metrics.json")["baselines"]
    assert list(rows) == list(TITLES)
    for name, row in rows.items():
        assert 0 <= row["event_f1"] <= 1, name
        assert 0.5 <= row["frame_auc"] <= 1, name
    # Energy cannot tell two tones apart, bands can.
    assert rows["energy"]["event_f1"] < rows["band"]["event_f1"]
    assert rows["band"]["frame_ap"] > 0.8
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Beside simpler systems" in report
    for title in TITLES.values():
        assert title.replace("'", "&#39;") in report
    assert (run.folder / "cnn" / "metrics.csv").is_file()


def test_those_of_folds_are_scored_together(fit: Fit) -> None:
    run, table = fit({"count": 4, "seconds": 6.0}, epochs=1, protocol="folds", folds=2)
    rows = read_json(run.folder / "metrics.json")["baselines"]
    assert list(rows) == list(TITLES)
    folds = [run.folder / f"fold-{fold}" for fold in (1, 2)]
    alone = [read_json(fold / "metrics.json")["baselines"] for fold in folds]
    for name in TITLES:
        found = [pl.read_parquet(fold / baseline_file(name)) for fold in folds]
        assert {path for part in found for path in part["path"]} <= set(table["path"])
        assert rows[name]["frame_ap"] is None  # frames are told of fold by fold
        low, high = sorted(part[name]["event_f1"] for part in alone)
        assert low - 0.1 <= rows[name]["event_f1"] <= high + 0.1, name
    assert rows["band"]["event_f1"] > 0
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "Beside simpler systems" in report
    assert "This detector" in report
