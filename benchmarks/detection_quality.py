"""What detectors of `benchmarks/detection.py` find: in generated calls, and in real clips."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.data.manifest import Manifest
from sonoformer.data.soundscapes import SoundscapeConfig, make_soundscapes
from sonoformer.evaluation.events.answers import EventAnswers
from sonoformer.evaluation.events.endpoints import endpoints
from sonoformer.evaluation.metrics import Answers, auc, average_precision
from sonoformer.files import read_json
from sonoformer.run import Run
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.detection.baselines.table import SHOWN
from sonoformer.tasks.detection.config import EventsConfig
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.finetune import finetune
from sonoformer.tasks.model import load_model
from sonoformer.training.config import OptimiserConfig, TrainConfig

RATE = 16000
SECONDS = 2.56  # what the shipped encoders have positions for
CALLS = ("rumble", "roar", "trumpet", "bark", "squelch")
REAL = ("baby_cry", "dog_bark", "person_sneeze", "rooster")
BACKGROUNDS = ("fire_crackling", "helicopter", "rain", "sea_waves")
# part -> folds of ESC-10 whose clips and backgrounds it is made of, and its share of the files
PARTS = {"train": ("123", 0.55), "validation": ("4", 0.2), "test": ("5", 0.25)}


@dataclass(frozen=True)
class Learning:
    """How much a detector hears, and how it learns."""

    files: int
    minutes: float
    size: Literal["micro", "tiny"]
    init: str | None
    epochs: float


@dataclass(frozen=True)
class Scene:
    """Soundscapes to learn from and to be tested on."""

    manifest: Manifest
    events: pl.DataFrame
    classes: tuple[str, ...]


def elephants(learning: Learning, folder: Path) -> Scene:
    """Generated calls in generated weather."""
    config = SoundscapeConfig(
        minutes=learning.minutes,
        files=learning.files,
        voices=CALLS,
        sample_rate=RATE,
        format="wav",
    )
    made = make_soundscapes(config, folder, seed=1)
    return Scene(Manifest.read(folder / "manifest.csv"), made.events, CALLS)


def real_clips(learning: Learning, folder: Path, data: Path) -> Scene:
    """Clips of ESC-10 in recordings of ESC-10; no recording is heard in two parts.

    Args:
        learning: how much is made.
        folder: for what is made.
        data: the folder of ESC-10: `manifest.csv` with path, label and fold.
    """
    with open(data / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tables, events = [], []
    manifest: Manifest | None = None
    for seed, (part, (folds, share)) in enumerate(PARTS.items()):
        here = [row for row in rows if row["fold"] in folds]
        for kind, labels in (("clips", REAL), ("backgrounds", BACKGROUNDS)):
            _gather(folder / part / kind, here, labels, data)
        config = SoundscapeConfig(
            minutes=learning.minutes,
            files=max(1, round(share * learning.files)),
            clips=folder / part / "clips",
            backgrounds=folder / part / "backgrounds",
            sample_rate=RATE,
            format="wav",
        )
        events.append(make_soundscapes(config, folder / part / "made", seed).events)
        manifest = Manifest.read(folder / part / "made" / "manifest.csv")
        tables.append(manifest.table.with_columns(split=pl.lit(part)))
    assert manifest is not None
    return Scene(replace(manifest, table=pl.concat(tables)), pl.concat(events), REAL)


def _gather(folder: Path, rows: list[dict[str, str]], labels: Sequence[str], data: Path) -> None:
    """A folder for each label, with links to its clips."""
    for row in rows:
        if row["label"] in labels:
            link = folder / row["label"] / Path(row["path"]).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((data / row["path"]).resolve())


def quality(learning: Learning, scene: Scene, folder: Path) -> dict[str, Any]:
    """Train, tune and test a detector, and every baseline on the same recordings."""
    train = TrainConfig(
        epochs=learning.epochs,
        batch_size=16,
        workers=0,
        optimiser=OptimiserConfig(name="adamw", lr=1e-3, weight_decay=0.05),
        schedule=replace(FinetuneConfig().train.schedule, warmup_steps=50),
    )
    options = FinetuneConfig(
        classifier=ClassifierConfig(task="events"),
        size=learning.size,
        seconds=SECONDS,
        validation=0.2,
        test=0.25,
        resamples=1000,
        events=EventsConfig(head="concat", baselines=True),
        adaptation=AdaptationConfig(layer_decay=0.85),
        train=train,
    )
    began = time.perf_counter()
    with Run.start(folder, "finetune", options, 0) as run:
        done = finetune(scene.manifest, learning.init, options, run, device="cpu", bar=False)
    seconds = time.perf_counter() - began
    answers = done.answers[0]
    model = load_model(done.models[0])
    assert isinstance(model, Detector)
    any_call = Answers(
        ("call",),
        answers.scores.max(1, keepdims=True),
        np.asarray(answers.targets.any(1, keepdims=True)),
        single=False,
        groups=answers.groups,
    )
    return {
        "minutes of sound": learning.files * learning.minutes,
        "seconds of training": seconds,
        "frame AP of any call": float(average_precision(any_call, _ones(any_call))[0, 0]),
        "frame AUC of any call": float(auc(any_call, _ones(any_call))[0, 0]),
        "frame AP": _by_class(answers, average_precision),
        "frame AUC": _by_class(answers, auc),
        "systems": _systems(folder),
        **_ends(model, scene, list(dict.fromkeys(answers.groups or ())), learning),
    }


def _systems(run: Path) -> dict[str, dict[str, Any]]:
    """Figures of the detector, with the interval of its event F1, and of every baseline."""
    metrics = read_json(run / "metrics.json")
    own = metrics["test_events"]["figures"]
    shown = {key: own[key]["value"] if key in own else None for key in SHOWN}
    shown["event_f1 interval"] = [own["event_f1"].get("low"), own["event_f1"].get("high")]
    return {"detector": shown, **metrics["baselines"]}


def _ones(answers: Answers) -> NDArray[np.float32]:
    return np.ones((1, len(answers)), np.float32)


def _by_class(answers: Answers, metric: Callable[..., NDArray[np.float64]]) -> dict[str, float]:
    values = metric(answers, _ones(answers))[0]
    names = dict(zip(answers.classes, values.tolist(), strict=True))
    return {"macro": float(np.nanmean(values)), **names}


def _ends(model: Detector, scene: Scene, paths: list[str], learning: Learning) -> dict[str, Any]:
    """How far the ends of found events are from the true ones, on the test recordings."""
    found = model.detect(paths)
    lengths = dict.fromkeys(paths, learning.minutes * 60)
    here = scene.events.filter(pl.col("path").is_in(paths))
    pairs = endpoints(EventAnswers(here, found, lengths, scene.classes))
    apart = np.abs(np.concatenate([pairs.onset, pairs.offset]))
    middle = float(np.median(apart)) if len(apart) else float("nan")
    return {
        "true events": here.height,
        "found events": found.height,
        "pairs": len(pairs.onset),
        "ends off, median s": middle,
        "ends off, 90 % s": float(np.quantile(apart, 0.9)) if len(apart) else float("nan"),
        "frame step": model.grid.step,
        "frame steps off": middle / model.grid.step,
    }
