"""The suite from encoders to the table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sonoformer.encoders import AstEncoder
from sonoformer.errors import UserError
from sonoformer.evaluation.descent import DescentConfig
from sonoformer.evaluation.framewise import FrameConfig
from sonoformer.evaluation.linear import ProbeConfig
from sonoformer.evaluation.weighted import WeightedConfig
from sonoformer.run import Run
from sonoformer.suite import SuiteConfig, run_suite
from sonoformer.suite.rows import Row

QUICK = SuiteConfig(
    tasks=("drum-hits",),
    probes=("linear", "weighted", "attentive", "prototypical", "knn"),
    linear=ProbeConfig(penalties=(0.1,)),
    weighted=WeightedConfig(penalties=(0.1,), iterations=10),
    descent=DescentConfig(rates=(1e-2,), steps=(20,)),
    frames=FrameConfig(rates=(2e-2,), epochs=10, blocks=1),
    resamples=100,
)
Suite = Callable[..., list[Row]]


@pytest.fixture
def suite(data: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Suite:
    monkeypatch.setenv("SONOFORMER_CACHE", str(tmp_path / "nothing"))

    def call(config: SuiteConfig, encoders: object = None, out: str = "out") -> list[Row]:
        folder = tmp_path / out
        again = Run.exists(folder)
        fields = frozenset(SuiteConfig.__dataclass_fields__)
        with Run.start(folder, "suite", config, 0, resume=again, may_change=fields) as run:
            run.echo = None
            given = [checkpoint] if encoders is None else encoders
            return run_suite(given, config, run, data=data, cache=tmp_path / "cache")  # type: ignore[arg-type]

    return call


def test_every_probe_beats_chance_and_the_table_says_so(suite: Suite, tmp_path: Path) -> None:
    rows = suite(replace(QUICK, seeds=2))
    by = {row.probe: row for row in rows}
    assert list(by) == ["svm", "linear", "weighted", "attentive", "prototypical", "knn"]
    for row in rows:
        assert not row.problem
        assert row.value is not None
        assert row.low is not None
        assert row.low <= row.value <= (row.high or 0)
        assert row.chance == pytest.approx(1 / 3)
        assert (row.clips, row.tested, row.classes, row.copies) == (37, 18, 3, 1)
        assert row.value > 0.5 if row.probe != "prototypical" else row.value > 1 / 3
    assert (by["svm"].seeds, by["linear"].seeds) == (1, 2)
    assert by["linear"].floor == by["svm"].value
    assert by["linear"].heard == "no"
    table = list(csv.DictReader((tmp_path / "out/table.csv").open(encoding="utf-8")))
    assert [line["probe"] for line in table] == list(by)
    assert (
        json.loads((tmp_path / "out/table.json").read_text())["rows"][1]["value"]
        == by["linear"].value
    )
    shown = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert "| task | score | chance | svm | small, linear |" in shown
    assert "bad.wav" in (tmp_path / "out/problems.csv").read_text(encoding="utf-8")


def test_finished_rows_are_not_computed_again(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(QUICK, probes=("linear",))
    before = suite(config)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    for name in ("mel_statistics", "Listener"):
        monkeypatch.setattr(f"sonoformer.suite.driver.{name}", never)
    assert suite(config) == before
    cut = tmp_path / "out/rows/drum-hits--small--pretrained--linear--fixed.json"
    cut.write_text(cut.read_text()[:40])
    with pytest.raises(AssertionError, match="computed again"):
        suite(config)


def test_random_weights_stand_beside(suite: Suite, encoder: AstEncoder) -> None:
    config = replace(QUICK, probes=("linear",), random=True, floor=False, level="equal")
    rows = suite(config, [encoder])
    assert [(row.encoder, row.weights, row.heard) for row in rows] == [
        ("AstEncoder", "pretrained", "unknown"),
        ("AstEncoder", "random", "no"),
    ]
    assert rows[0].floor is None


class Broken(nn.Module):
    """An encoder that diverged."""

    sample_rate, depth, dim, seconds_per_token, order_matters, config = 16000, 1, 4, 0.1, True, None

    def __init__(self, good: AstEncoder) -> None:
        super().__init__()
        self.good = good

    def forward(self, *args: object, **options: object) -> object:
        tokens = self.good(*args, **options)
        tokens.x = tokens.x * float("nan")
        return tokens


def test_one_bad_encoder_and_absent_sets_do_not_stop_the_others(
    suite: Suite, encoder: AstEncoder, tmp_path: Path
) -> None:
    config = replace(QUICK, tasks=("esc10", "drum-hits"), probes=("linear", "attentive"))
    rows = suite(config, [Broken(encoder), encoder, tmp_path / "no-such-checkpoint"])
    problems = [(row.encoder, bool(row.problem), row.value is None) for row in rows if row.encoder]
    assert problems == [
        *[("Broken", True, True)] * 2,
        *[("AstEncoder", False, False)] * 2,
    ]
    shown = (tmp_path / "out/table.md").read_text(encoding="utf-8")
    assert "its training diverged" in shown
    assert "left out: esc10" in shown
    assert "left out: no-such-checkpoint" in shown
    with pytest.raises(UserError, match="no-such-checkpoint"):
        suite(config, [tmp_path / "no-such-checkpoint"], out="none")


def test_phones_by_frame(suite: Suite, encoder: AstEncoder, tmp_path: Path) -> None:
    config = replace(QUICK, tasks=("russian-phones",), probes=("linear", "knn"), frame_stride=4)
    rows = suite(config, [encoder])
    assert [row.probe for row in rows] == ["linear on log-mels", "mlp on log-mels", "linear"]
    for row in rows:
        assert row.metric == "accuracy"
        assert (row.clips, row.classes) == (6, 3)
        assert row.tested > 300
        assert row.chance is not None
        assert (row.value or 0) > max(0.6, row.chance)
        assert "group" in row.over
    assert "linear probe only" in (tmp_path / "out/table.md").read_text(encoding="utf-8")


def test_finetuning_stands_beside(suite: Suite, encoder: AstEncoder, tmp_path: Path) -> None:
    config = replace(QUICK, probes=(), floor=False, finetune=True, finetune_epochs=0.5, seconds=0.4)
    config = replace(config, finetune_rates=(2e-4,), random=True)
    rows = suite(config, [encoder])
    assert [(row.weights, row.probe) for row in rows] == [
        ("pretrained", "finetune 0.0002"),
        ("random", "finetune 0.0002"),
    ]
    assert not any(row.problem for row in rows)
    assert all(row.tested == 18 for row in rows)
    runs = {run.parent for run in (tmp_path / "out/finetune").rglob("run.json")}
    assert len(runs) == 2
    config_text, random_text = (
        next(run for run in runs if f"{weights}--finetune_0.0002" in str(run))
        .joinpath("config.yaml")
        .read_text(encoding="utf-8")
        for weights in ("pretrained", "random")
    )
    assert "lr: 0.0002" in config_text
    assert "layer_decay: 1.0" in random_text
    assert "sampling: balanced" in config_text
    assert "layer_decay: 0.85" in config_text


def test_finetuning_from_a_probe_and_for_few_steps(
    suite: Suite, encoder: AstEncoder, tmp_path: Path
) -> None:
    config = replace(QUICK, probes=(), floor=False, finetune=True, finetune_epochs=3, seconds=0.4)
    config = replace(
        config, finetune_steps=1, finetune_heads=("probe",), linear=ProbeConfig((1.0,))
    )
    rows = suite(config, [encoder])
    assert [row.probe for row in rows] == ["finetune from a probe 0.0005"]
    assert not any(row.problem for row in rows)
    (run,) = {path.parent for path in (tmp_path / "out/finetune").rglob("run.json")}
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert "the head starts as a probe: penalty 1" in log
    assert "steps: 1\n" in (run / "config.yaml").read_text(encoding="utf-8")
    assert (rows[0].value or 0) > 0.6  # what the probe reaches


def test_framewise_truth_covers_every_labelled_frame(data: Path, tmp_path: Path) -> None:
    from sonoformer.suite.opening import open_task
    from sonoformer.suite.phones import truth_of
    from sonoformer.suite.tasks import SUITE

    opened = open_task(
        SUITE["russian-phones"], "fixed", data, tmp_path, problem=lambda *_: None, progress=None
    )
    assert not isinstance(opened, str)
    truth = truth_of(opened.manifest, opened.lesson(16000))
    table = opened.manifest.table
    seconds = float((table["end"] - table["start"]).sum())
    assert len(truth.time) == pytest.approx(seconds / 0.01, abs=6)
    row = table.row(4, named=True)
    inside = (truth.recording == 0) & (truth.time >= row["start"]) & (truth.time < row["end"])
    assert set(truth.label[inside]) == {truth.classes.index(row["labels"][0])}
    assert np.isclose(np.diff(truth.time[truth.recording == 0]), 0.01).all()


def test_tokens_are_read_at_the_right_time(encoder: AstEncoder) -> None:
    """A click moves the columns around its time and no others."""
    from sonoformer.suite.times import column_times

    times = column_times(encoder, 10)
    assert times[0] == pytest.approx((7.5 * 10 + 12.5) / 1000)
    assert np.diff(times) == pytest.approx(0.16)
    wave = torch.zeros(1, 16000)
    wave[0, int(times[3] * 16000)] = 0.5
    with torch.no_grad():
        moved = (encoder.front(wave)[0] - encoder.front(torch.zeros_like(wave))[0])[0].abs().sum(1)
    centre = (moved * (torch.arange(len(moved)) * 0.01 + 0.0125)).sum() / moved.sum()
    assert float(centre) == pytest.approx(times[3], abs=0.006)
