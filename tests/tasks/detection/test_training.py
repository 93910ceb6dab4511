"""Training a detector: from a table of marks to events with the right ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.tasks.detection.conftest import MakeRecordings, marked

from sonoformer.data.manifest import Manifest
from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.finetune import Finetuned, finetune
from sonoformer.tasks.model import load_model

Make, Start = Callable[..., FinetuneConfig], Callable[..., Run]


def do(
    manifest: Manifest, init: object, config: FinetuneConfig, run: Run, **options: object
) -> Finetuned:
    with run:
        return finetune(manifest, init, config, run, device="cpu", bar=False, **options)  # type: ignore[arg-type]


def ends_apart(found: pl.DataFrame, truth: pl.DataFrame) -> tuple[np.ndarray, int, int]:
    """Distance of the ends of each true event from those of the event found over its middle; how
    many were missed; and how many found events lie over no true one."""
    apart, missed = [], 0
    for path, start, end, label in truth.iter_rows():
        middle = (start + end) / 2
        over = found.filter(
            (pl.col("path") == path) & (pl.col("label") == label)
            & (pl.col("start") < middle) & (pl.col("end") > middle)
        )  # fmt: skip
        missed += over.is_empty()
        for row in over.iter_rows(named=True):
            apart += [abs(row["start"] - start), abs(row["end"] - end)]
    false = sum(
        truth.filter(
            (pl.col("path") == row["path"]) & (pl.col("label") == row["label"])
            & (pl.col("start") < row["end"]) & (pl.col("end") > row["start"])
        ).is_empty()
        for row in found.iter_rows(named=True)
    )  # fmt: skip
    return np.array(apart), missed, false


def test_tones_are_found_where_they_are(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start, tmp_path: Path
) -> None:
    table = make_recordings(12)
    settings = config(epochs=12, validation=0.2, test=0.2)
    run = start(settings)
    done = do(marked(table), encoder, settings, run)
    assert done.card is not None
    assert done.card.figures["mAP"].value > 0.95
    stored = read_json(run.folder / "metrics.json")
    assert stored["test"]["figures"]["mAP"]["value"] == done.card.figures["mAP"].value
    assert "valid/f1" in (run.folder / "metrics.csv").read_text()
    assert (run.folder / "report.html").stat().st_size > 0
    figures = stored["test_events"]["figures"]
    assert figures["event_f1"]["value"] > 0.6
    assert figures["frame_ap"]["value"] == pytest.approx(stored["test"]["figures"]["mAP"]["value"])
    assert pl.read_parquet(run.folder / "events.parquet").columns[:4] == table.columns
    model = load_model(run.folder)
    assert isinstance(model, Detector)
    assert model.classes == ("high", "low")
    assert model.seconds == 2.0
    # Thresholds were tuned on the validation recordings, and are kept with the model.
    assert set(model.post.classes) == {"high", "low"}
    assert model.thresholds == tuple(model.post.of(name).high for name in model.classes)
    assert min(stored["validation"]["event_f1"].values()) > 0.8
    unseen = make_recordings(3, folder="unseen", seed=1)
    found = model.detect(tmp_path / "unseen")
    apart, missed, false = ends_apart(found, unseen)
    assert missed == 0
    assert false <= 1
    # A frame is 80 ms: half of that is what whole frames could give.
    assert np.median(apart) < 0.04
    # Whole windows are scored too, by the highest frame.
    scores = model.predict(tmp_path / "unseen", window=2.0)
    assert {"high", "low"} <= set(scores.columns)


@pytest.mark.slow
def test_weak_labels_teach_when(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start, tmp_path: Path
) -> None:
    table = make_recordings(40, seconds=3.0)
    labels = table.group_by("path", maintain_order=True).agg(labels=pl.col("label").unique())
    settings = config(epochs=25, test=0.0)
    run = start(settings)
    done = do(Manifest.of(labels, "clips"), encoder, settings, run)
    model = load_model(done.models[0])
    assert isinstance(model, Detector)
    assert model.config.attention
    unseen = make_recordings(2, folder="unseen", seed=1)
    _, missed, _ = ends_apart(model.detect(tmp_path / "unseen"), unseen)
    assert missed <= 0.3 * len(unseen)


def test_folds_by_recording_are_put_together(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start
) -> None:
    table = make_recordings(4, seconds=6.0)
    settings = config(epochs=4, protocol="folds", folds=2)
    run = start(settings)
    done = do(marked(table), encoder, settings, run)
    assert len(done.models) == 2
    own = [pl.read_parquet(run.folder / f"fold-{fold}" / "events.parquet") for fold in (1, 2)]
    assert min(map(len, own)) > 0
    found = pl.read_parquet(run.folder / "events.parquet")
    assert found.sort("path", "start").equals(pl.concat(own).sort("path", "start"))
    events = read_json(run.folder / "metrics.json")["test_events"]
    assert events["recordings"] == 4
    assert events["events"] == len(table)
    assert [row["fold"] for row in events["folds"]] == ["fold-1", "fold-2"]
    assert "event_f1" in events["over_folds"]
    frames = pl.read_parquet(run.folder / "predictions.parquet")
    assert len(frames) == 4 * 74
    assert set(frames["fold"]) == {"1", "2"}
    again = do(marked(table), encoder, settings, start(settings, resume=True), resume=True)
    assert np.array_equal(again.answers[0].scores, done.answers[0].scores)


def test_seeds_count_each_and_recordings_are_drawn_once(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start
) -> None:
    table = make_recordings(4, seconds=6.0)
    settings = config(epochs=1, test=0.5, seeds=2)
    run = start(settings)
    do(marked(table), encoder, settings, run)
    own = [pl.read_parquet(run.folder / f"seed-{n}" / "events.parquet") for n in (0, 1)]
    found = pl.read_parquet(run.folder / "events.parquet")
    assert len(found) == sum(map(len, own))
    events = read_json(run.folder / "metrics.json")["test_events"]
    assert events["recordings"] == 4
    report = (run.folder / "report.html").read_text()
    assert "Classes and recordings" in report
    assert "Frames" in report


def test_a_chain_keeps_encoder_and_what_is_known_of_classes(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start
) -> None:
    table = make_recordings(4, seconds=6.0)
    first = config(epochs=1, test=0.0)
    done = do(marked(table), encoder, first, start(first, "first"))
    finer = table.with_columns(
        label=pl.when(pl.col("label") == "low").then(pl.lit("low/long")).otherwise(pl.col("label"))
    )
    before = load_model(done.models[0])
    second = config(epochs=1, test=0.0)
    run = start(second, "second")
    from sonoformer.tasks import turn

    lessons = []
    original = turn.prepare

    def watched(*args: object) -> object:
        lesson = original(*args)  # type: ignore[arg-type]
        lessons.append({n: v.clone() for n, v in lesson.learner.model.head.state_dict().items()})
        return lesson

    turn.prepare = watched  # type: ignore[assignment]
    try:
        do(marked(finer), done.models[0], second, run)
    finally:
        turn.prepare = original
    after = load_model(run.folder)
    assert after.classes == ("high", "low", "low/long")
    weight = before.head.network.weight  # type: ignore[union-attr]
    assert torch.equal(lessons[0]["network.weight"][:2], weight)
    assert any("knows high, low" in line for line in run.lines)  # type: ignore[attr-defined]


def test_tables_that_cannot_be_learned_are_refused(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start
) -> None:
    table = make_recordings(3, seconds=6.0)
    settings = config(epochs=1, test=0.0)
    shift = table.with_columns(pl.col("start") + 100, pl.col("end") + 100)
    cases = {
        "the recording ends at 6 s": shift,
        "a start before the beginning": table.with_columns(start=-pl.col("start")),
        "an end that is not after": table.with_columns(end=pl.col("start")),
    }
    for number, (sentence, wrong) in enumerate(cases.items()):
        with pytest.raises(UserError, match=sentence):
            do(marked(wrong), encoder, settings, start(settings, f"run{number}"))
    with pytest.raises(UserError, match="no labels"):
        do(marked(table.clear()), encoder, settings, start(settings, "empty"))
    late = table.with_columns(end=pl.col("end") + 10)
    run = start(settings, "late")
    do(marked(late), encoder, settings, run)
    assert any("pass the end of their recording" in line for line in run.lines)  # type: ignore[attr-defined]


def test_options_of_clips_are_refused_for_events() -> None:
    from sonoformer.data.augment import AugmentConfig
    from sonoformer.tasks.classification import ClassifierConfig

    with pytest.raises(UserError, match="weights head"):
        FinetuneConfig(method="probe", classifier=ClassifierConfig(task="events"))
    with pytest.raises(UserError, match=r"events\.head"):
        ClassifierConfig(task="events", head="weighted")
    assert AugmentConfig(noise=True).on_spectrogram


@pytest.mark.slow
def test_head_full_learns_bands_from_marks_that_have_them(
    make_recordings: MakeRecordings, encoder: AstEncoder, config: Make, start: Start, tmp_path: Path
) -> None:
    table = make_recordings(6, seconds=8.0)
    low = pl.col("label") == "low"
    bands = table.with_columns(
        low_hz=pl.when(low).then(300.0).otherwise(1900.0),
        high_hz=pl.when(low).then(500.0).otherwise(2500.0),
    )
    settings = config(epochs=40, head="full", test=0.0)
    done = do(marked(bands), encoder, settings, start(settings))
    unseen = make_recordings(2, folder="unseen", seed=1)
    model = load_model(done.models[0])
    assert isinstance(model, Detector)
    found = model.detect(tmp_path / "unseen")
    assert ends_apart(found, unseen)[1] <= 1
    # Of the two rows of this encoder, the lower one ends between the tones.
    of = {name: found.filter(label=name) for name in ("low", "high")}
    assert of["low"]["high_hz"].median() < 1900  # type: ignore[operator]
    assert of["high"]["low_hz"].median() > 500  # type: ignore[operator]
