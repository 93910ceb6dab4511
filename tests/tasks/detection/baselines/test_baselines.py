"""Baselines of a detector: on its frames, better than chance, and honest where nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.tasks.detection.conftest import RATE, marked, recording

from sonoformer.audio import write
from sonoformer.data.manifest import Manifest
from sonoformer.data.strong import recordings
from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.evaluation.metrics import average_precision
from sonoformer.run import Run
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.clips import Clips, open_clips
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.cnn import CnnConfig, ColumnCnn
from sonoformer.tasks.detection.baselines.compare import TITLES, Baselines, fit_baselines
from sonoformer.tasks.detection.baselines.energy import WHOLE, class_bands
from sonoformer.tasks.detection.baselines.hearing import CONTEXT, Hearing
from sonoformer.tasks.detection.baselines.lesson import training_cells
from sonoformer.tasks.detection.lesson import truth_of
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scoring import frame_answers, frame_scores
from sonoformer.training.config import TrainConfig


def refuse(path: str, reason: str) -> None:
    raise AssertionError(f"{path}: {reason}")


def opened(manifest: Manifest) -> Clips:
    return open_clips(recordings(manifest), RATE, None, problem=refuse)


@dataclass
class Scene:
    """Tones in noise, a detector that was never trained, and what it is compared with."""

    model: Detector
    train: Clips
    test: Clips
    config: FinetuneConfig
    fitted: Baselines


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("scene")
    parts = []
    for part, count in (("train", 8), ("test", 3)):
        rows = []
        for number in range(count):
            path = root / part / f"{number}.wav"
            wave, events = recording(10 * len(part) + number, 12.0)
            write(path, wave, RATE)
            rows += [(str(path), *event) for event in events]
        table = pl.DataFrame(rows, ["path", "start", "end", "label"], orient="row")
        parts.append(opened(marked(table)))
    torch.manual_seed(0)
    front = FbankConfig(sample_rate=RATE, n_mels=16, mean=-8.0, std=4.0)
    shape = {"patch": (8, 8), "stride": (8, 8), "table": (2, 32), "table_stride": (8, 8)}
    encoder = AstEncoder(AstConfig(dim=16, depth=2, heads=2, front=front, **shape))  # type: ignore[arg-type]
    config = FinetuneConfig(
        seconds=2.0,
        classifier=ClassifierConfig(task="events"),
        train=TrainConfig(epochs=8, batch_size=8, workers=0, precision="fp32"),
    )
    # A class that nobody ever heard.
    model = Detector(encoder, ["high", "low", "never"])
    with pytest.MonkeyPatch.context() as patch, Run.start(root / "run", "t", config, 0) as run:
        patch.setattr("sonoformer.tasks.detection.baselines.learned._TREES", 20)
        fitted = fit_baselines(model, parts[0], None, config, run, seed=0, bar=False)
    return Scene(model, *parts, config, fitted)


def test_every_baseline_finds_tones_in_noise(here: Scene) -> None:
    found = here.fitted.scores(here.test)
    assert list(found) == list(TITLES)
    truth = truth_of(here.test, here.model.classes, here.config)
    precision = {}
    for name, scored in found.items():
        answers = frame_answers(here.model, here.test, truth, scored)
        values = average_precision(answers, np.ones((1, len(answers)), np.float32))[0]
        chance = answers.targets.mean(0)
        assert np.isnan(values[2]), "a class without positives has no precision"
        assert (values[:2] > 1.5 * chance[:2]).all(), name
        precision[name] = values[:2].mean()
        scores = np.concatenate(scored.scores)
        assert scores.min() >= 0
        assert scores.max() <= 1
        assert scores[:, 2].max() < 0.2
    # Energy alone hears both tones and cannot tell them apart.
    assert precision["energy"] < precision["band"] - 0.1
    for name in ("band", "logistic", "trees", "cnn"):
        assert precision[name] > 0.9, name


def test_frames_are_the_detectors(here: Scene) -> None:
    whole = frame_scores(here.model, here.test, seconds=2.0)
    for name, scored in here.fitted.scores(here.test).items():
        assert scored.step == whole.step, name
        assert scored.start == whole.start, name
        assert [len(s) for s in scored.scores] == [len(s) for s in whole.scores], name


def test_minutes_are_heard_as_one_recording(here: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hearing = Hearing(here.model.grid)
    (whole,) = hearing.minutes(here.test.source, 0)
    monkeypatch.setattr("sonoformer.tasks.detection.baselines.hearing.MINUTE", 1.0)
    parts = list(hearing.minutes(here.test.source, 0))
    assert len(parts) > 10
    joined = np.concatenate([minute.shifted(0) for minute in parts])
    np.testing.assert_allclose(joined, whole.shifted(0), atol=1e-4)
    later = np.concatenate([minute.shifted(CONTEXT) for minute in parts])
    np.testing.assert_allclose(later, whole.shifted(CONTEXT), atol=1e-4)
    # The short last part is measured against the last whole one.
    last = len(whole) - round(1.0 / here.model.grid.step)
    expected = np.percentile(whole.shifted(0)[last:], 20, axis=0)
    np.testing.assert_allclose(parts[-1].quiet, expected, atol=1e-4)


def test_cells_hear_what_the_columns_hear(here: Scene) -> None:
    """Of Kaldi's front end the frames of a cell are those of the patch."""
    hearing = Hearing(here.model.grid)
    wave = torch.from_numpy(here.test.source.read(0, 0, 10**9))[None]
    levels = hearing.front.raw(wave)[0][0].numpy()
    (minute,) = hearing.minutes(here.test.source, 0)
    stride = here.model.grid.stride
    expected = levels[: len(minute) * stride].reshape(len(minute), stride, -1).mean(1)
    np.testing.assert_allclose(minute.shifted(0), expected, atol=1e-4)


def test_bands_are_the_annotations_or_found(here: Scene) -> None:
    hearing = Hearing(here.model.grid)
    truth = truth_of(here.train, here.model.classes, here.config)
    cells = training_cells(hearing, here.train.source, truth, seed=0)
    hertz = hearing.hertz()
    high, low, never = class_bands(hearing, cells, truth)
    assert hertz[high[0], 0] < 2200 < hertz[high[1] - 1, 1]
    assert hertz[low[0], 0] < 400 < hertz[low[1] - 1, 1]
    assert hertz[low[1] - 1, 1] < hertz[high[0], 1]
    assert never == WHOLE
    marks = marked(
        pl.DataFrame({"path": [here.train.manifest.paths[0]], "start": [1.0], "end": [2.0],
                      "label": ["low"]}),
        low_hz=[1000.0], high_hz=[1500.0],
    )  # fmt: skip
    given = truth_of(opened(marks), here.model.classes, here.config)
    band = class_bands(hearing, cells, given)[1]
    assert 900 < hertz[band[0]].mean() < 1200
    assert 1300 < hertz[band[1] - 1].mean() < 1600


def test_unreviewed_time_is_no_negative(here: Scene) -> None:
    table = here.train.manifest.table
    first = table["path"][0]
    rows = {
        "path": [first, first],
        "start": [1.0, 3.0],
        "end": [2.0, 5.0],
        "labels": [["low"], []],
        "reviewed": [False, True],
    }
    schema = {"labels": pl.List(pl.String)}
    clips = opened(Manifest.of(pl.DataFrame(rows, schema_overrides=schema), "part"))
    truth = truth_of(clips, here.model.classes, here.config)
    cells = training_cells(Hearing(here.model.grid), clips.source, truth, seed=0)
    step = here.model.grid.step
    assert abs(len(cells) - 3.0 / step) <= 4
    assert abs(cells.known[:, 0].sum() - 2.0 / step) <= 2
    assert cells.present[:, 1].sum() >= 1.0 / step - 2


def test_many_cells_are_drawn_and_weighed(here: Scene) -> None:
    hearing = Hearing(here.model.grid)
    truth = truth_of(here.train, here.model.classes, here.config)
    full = training_cells(hearing, here.train.source, truth, seed=0)
    busy = int(full.present.any(1).sum())
    some = training_cells(hearing, here.train.source, truth, seed=0, most=busy + 100)
    assert int(some.present.any(1).sum()) == busy
    assert busy + 60 < len(some) < busy + 140
    assert some.weight.sum() == pytest.approx(len(full), rel=0.15)


def test_silence_short_and_broken_recordings(here: Scene, tmp_path: Path) -> None:
    write(tmp_path / "odd" / "silent.wav", np.zeros(2 * RATE, np.float32), RATE)
    write(tmp_path / "odd" / "short.wav", np.full(50, 0.1, np.float32), RATE)
    write(tmp_path / "odd" / "gone.wav", np.zeros(RATE, np.float32), RATE)
    rows = {"path": [str(p) for p in sorted((tmp_path / "odd").iterdir())], "start": 0.0}
    odd = opened(Manifest.of(pl.DataFrame(rows).with_columns(reviewed=pl.lit(True)), "odd"))
    (tmp_path / "odd" / "gone.wav").unlink()
    problems = []
    found = here.fitted.scores(odd, problem=lambda path, reason: problems.append(path))
    for name, scored in found.items():
        gone, short, silent = scored.scores
        assert gone.shape == (0, 3), name
        assert short.shape == (1, 3), name
        assert np.isfinite(short).all(), name
        assert np.isfinite(silent).all(), name
    assert {path.rpartition("/")[2] for path in problems} == {"gone.wav"}


def test_the_network_does_not_hear_padding(here: Scene) -> None:
    torch.manual_seed(0)
    grid = here.model.grid
    shape = CnnConfig(grid.front, (16, grid.patch), (16, grid.stride))
    network = Detector(ColumnCnn(shape), ["a", "b"]).eval()
    assert 20_000 < sum(p.numel() for p in network.parameters()) < 60_000
    wave = 0.1 * torch.randn(2, 2 * RATE)
    wave[0, RATE:] = 0
    both = network.frames(wave, torch.tensor([RATE, 2 * RATE]))
    alone = network.frames(wave[:1, :RATE])
    count = int(both.valid[0].sum())
    assert count == alone.logits.shape[1]
    torch.testing.assert_close(both.logits[0, :count], alone.logits[0], atol=1e-5, rtol=0)
