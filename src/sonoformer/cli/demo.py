"""`sonoformer demo`: the whole road on real sound, and whether pretraining helped."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
from cyclopts import Parameter

from sonoformer.adaptation.parameters import AdaptationConfig
from sonoformer.audio import read, write
from sonoformer.cli.demo_report import Arms, Timeline, write_report
from sonoformer.cli.options import Device, Out, Overwrite, Seed, progress_bar, say
from sonoformer.data.augment import AugmentConfig
from sonoformer.data.catalogue.catalogue import fetch, local
from sonoformer.data.catalogue.held import held_out
from sonoformer.data.keys import numpy_generator
from sonoformer.data.manifest import Manifest
from sonoformer.errors import AudioError, UserError
from sonoformer.inference import Settings, write_table
from sonoformer.pretraining.pretrain import PretrainConfig, pretrain
from sonoformer.run import Run
from sonoformer.tasks.classification import ClassifierConfig
from sonoformer.tasks.config import FinetuneConfig
from sonoformer.tasks.finetune import Finetuned, finetune
from sonoformer.tasks.model import load_model
from sonoformer.tasks.prediction import predict
from sonoformer.training import TrainConfig
from sonoformer.training.config import OptimiserConfig, ScheduleConfig
from sonoformer.training.devices import resolve_device

SETS = ("drum-hits", "character-voices", "esc10", "fsdd")
"""Labelled sets, in order of preference; the first in the cache, else the first that answers."""

_RATE = 16000
_SECONDS = 2.56
# Learning rate, and its factor from block to block: the better of those tried on drum hits
# (docs/study.md). Random weights want a lower rate, and have nothing to keep in earlier blocks.
_RATES = {"from scratch": (2e-4, 1.0), "pretrained": (1e-3, 0.85)}


@dataclass(frozen=True)
class DemoConfig:
    """How much is done; the defaults take a few minutes on two cores."""

    init: str = "ssast-tiny-patch"
    """Encoder that has listened before and goes on: a shipped one's name, or a checkpoint."""
    pretrain_steps: int = 40
    """Steps of listening to the recordings without labels, 16 clips each."""
    finetune_steps: int = 160
    """Steps of each fine-tuning, 16 clips each."""
    labels: int = 30
    """Most labelled clips a class."""
    seeds: int = 2
    """Fine-tunings of each kind; each has labels of its own."""
    test_clips: int = 600
    """Most clips tested on."""
    recording: float = 120.0
    """Length of the recording that is predicted over, in seconds."""

    def __post_init__(self) -> None:
        counts = (self.pretrain_steps, self.finetune_steps, self.labels, self.seeds)
        if min(*counts, self.test_clips) < 1 or self.recording <= 0:
            raise UserError("steps, labels, seeds, test_clips and recording must be above 0")


def demo(
    *,
    out: Out = Path("runs/demo"),
    labels: Annotated[
        Path | None,
        Parameter(help="Your own labelled table instead of a public set; needs groups or folds."),
    ] = None,
    config: Annotated[DemoConfig, Parameter(name="*")] = DemoConfig(),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Listen to real sound without labels, fine-tune on a few labels, and compare with scratch.

    Gets a labelled set from the cache, a public archive or Debian's packages; holds whole groups
    out; goes on with the pretraining of a shipped encoder on the rest; trains from it and from
    random weights with the same budget; predicts over a longer recording; and writes report.html.

    Example: sonoformer demo --out runs/demo
    """
    began = time.monotonic()
    name, manifest = _data(labels)
    with Run.start(out, "demo", config, seed, overwrite=overwrite) as run:
        known, test = _halves(name, manifest, config, seed)
        say(
            f"{name}: {len(manifest)} clips, {len(manifest.classes)} classes; "
            f"{len(known)} heard without labels, {len(test)} held out"
        )
        encoder = _pretrain(known, test, out, config, seed, device)
        arms = _compare(known, test, encoder, out, config, seed, device)
        timeline = _listen(arms, test, out, config, seed, device, run)
        figures = write_report(
            out / "report.html",
            name,
            arms,
            timeline,
            out / "pretrain",
            labels=config.labels,
            seconds=time.monotonic() - began,
            config=config,
        )
        run.metrics({**figures.to_dict(), "data": name, "seconds": time.monotonic() - began})
    say("")
    for line in figures.lines():
        say(line)
    say(f"report: {out / 'report.html'} ({(time.monotonic() - began) / 60:.1f} min in all)")


def _data(labels: Path | None) -> tuple[str, Manifest]:
    if labels is not None:
        return labels.name, Manifest.read(labels, separator=";", allow_absolute=True)
    for name in SETS:
        if (path := local(name)) is not None:
            return name, Manifest.read(path, separator=";")
    reasons = []
    # A small public archive first, then Debian's packages.
    for name in ("fsdd", "drum-hits", "character-voices"):
        try:
            with progress_bar(f"fetching {name}") as bar:
                path = fetch(name, lambda _, done, total, bar=bar: bar(done, total or done))  # type: ignore[misc]
            return name, Manifest.read(path, separator=";")
        except UserError as error:
            say(str(error))
            reasons.append(name)
    raise UserError(
        f"none of {', '.join(reasons)} can be fetched; give your own recordings by --labels"
    )


def _halves(
    name: str, manifest: Manifest, config: DemoConfig, seed: int
) -> tuple[Manifest, Manifest]:
    """Groups that are heard, and groups that are held out.

    Those that the shipped encoders never heard, of a set that is in their pool; else the last fold,
    or a third of the groups.
    """
    manifest = manifest.require_labels()
    column = "fold" if manifest.table["fold"].is_not_null().all() else "group"
    names = manifest.values(column)
    if len(names) < 2 or manifest.table[column].is_null().any():
        raise UserError(
            f"{manifest.source}: needs a fold or group column with two values or more, so that "
            "whole groups can be held out"
        )
    held = sorted(held_out().get(name, ())) or names[-max(1, len(names) // 3) :]
    away = manifest.table[column].cast(pl.String).is_in(held)
    test = manifest.where(away)
    rows = numpy_generator(seed, "demo-test").permutation(len(test))[: config.test_clips]
    return manifest.where(~away), test.take(np.sort(rows).tolist())


def _pretrain(
    known: Manifest, test: Manifest, out: Path, config: DemoConfig, seed: int, device: str
) -> Path:
    folder = out / "pretrain"
    steps = config.pretrain_steps
    options = PretrainConfig(
        crop=_SECONDS,
        holdout=0.08,
        train=TrainConfig(
            steps=steps,
            batch_size=16,
            validate_every=max(1, steps // 6),
            optimiser=OptimiserConfig(name="adamw", lr=2e-4, weight_decay=0.01, clip=1.0),
            schedule=ScheduleConfig(name="cosine", warmup_steps=max(1, steps // 10)),
        ),
    )
    unlabelled = Manifest.of(known.table.select("path", "start", "end", "group"), "unlabelled")
    with (
        Run.start(folder, "pretrain", options, seed) as run,
        progress_bar("reading recordings", "files") as progress,
    ):
        pretrain(
            [unlabelled],
            options,
            run,
            seed=seed,
            device=device,
            init=config.init,
            exclude=[test],
            cache=out / "cache",
            progress=progress,
        )
    return folder


def _compare(
    known: Manifest,
    test: Manifest,
    encoder: Path,
    out: Path,
    config: DemoConfig,
    seed: int,
    device: str,
) -> Arms:
    """The same labels, budget and test clips for both; each has the rate that suits its weights."""
    found: dict[str, list[Finetuned]] = {arm: [] for arm in _RATES}
    for number in range(config.seeds):
        few = _few(known, config.labels, seed + number)
        parts = pl.concat(
            [
                few.table.with_columns(split=pl.lit("train")),
                test.table.with_columns(split=pl.lit("test")),
            ],
            how="diagonal_relaxed",
        ).with_columns(fold=pl.lit(None, pl.String))
        table = replace(test, table=parts, classes_given=known.classes)
        for arm in found:
            own = _options(arm, config.finetune_steps)
            folder = out / f"{arm.replace(' ', '-')}-{number + 1}"
            with Run.start(folder, "finetune", own, seed + number) as run:
                run.echo = None
                done = finetune(
                    table,
                    encoder,
                    own,
                    run,
                    seed=seed + number,
                    device=device,
                    cache=out / "cache",
                )
            found[arm].append(done)
            assert done.card is not None
            title, figure = next(iter(done.card.figures.items()))
            say(f"{arm}, seed {number + 1}: {title} {figure}")
    return Arms(found)


def _options(arm: str, steps: int) -> FinetuneConfig:
    """How a system is trained; random weights have the encoder's shape and normalisation."""
    rate, decay = _RATES[arm]
    return FinetuneConfig(
        protocol="split",
        validation=0.0,
        seconds=_SECONDS,
        fresh=arm == "from scratch",
        sampling="balanced",
        classifier=ClassifierConfig(label_smoothing=0.1, drop_path=0.1),
        adaptation=AdaptationConfig(layer_decay=decay),
        augment=AugmentConfig(mixup=0.5, mixup_alpha=10.0, freq_mask=24, time_mask=48, noise=True),
        train=TrainConfig(
            steps=steps,
            batch_size=16,
            optimiser=OptimiserConfig(name="adamw", lr=rate, weight_decay=0.05, clip=1.0),
            schedule=ScheduleConfig(name="cosine", warmup_steps=max(1, steps // 10)),
        ),
    )


def _few(known: Manifest, count: int, seed: int) -> Manifest:
    """`count` clips of each class, or all if it has fewer, drawn at random."""
    rows: dict[str, list[int]] = {}
    order = numpy_generator(seed, "demo-labels").permutation(len(known)).tolist()
    labels = known.table["labels"].to_list()
    for row in order:
        for label in labels[row]:
            if len(rows.setdefault(label, [])) < count:
                rows[label].append(row)
    return known.take(sorted({row for chosen in rows.values() for row in chosen}))


def _listen(
    arms: Arms,
    test: Manifest,
    out: Path,
    config: DemoConfig,
    seed: int,
    device: str,
    run: Run,
) -> Timeline:
    """A recording made of held-out clips one after the other, and the model's table of it."""
    pieces: list[np.ndarray] = []
    truth: list[tuple[float, float, str]] = []
    seconds = 0.0
    for row in numpy_generator(seed, "demo-recording").permutation(len(test)).tolist():
        path, start, end, labels = test.table.select("path", "start", "end", "labels").row(row)
        try:
            sound = read(path, _RATE, start=start or 0.0, end=end)
        except AudioError as error:
            run.problem(error.path, error.reason)
            continue
        pieces += [sound, np.zeros(_RATE // 4, np.float32)]
        truth.append((seconds, seconds + len(sound) / _RATE, labels[0]))
        seconds += len(sound) / _RATE + 0.25
        if seconds >= config.recording:
            break
    lengths = [end - start for start, end, _ in truth]
    recording = out / "recording.wav"
    write(recording, np.concatenate(pieces), _RATE)
    model = load_model(arms.found["pretrained"][0].models[0], resolve_device(device))
    # As long as most of the clips, so that a window hears one of them.
    window = float(np.clip(np.median(lengths), 0.5, 2.0))
    settings = Settings(window=round(window, 2), overlap=0.5)
    report = predict(model, [recording], settings, out / "parts")
    table = report.table()
    assert table is not None
    for format in ("csv", "audacity"):
        thresholds = dict.fromkeys(model.classes, 0.5)
        for file in write_table(table, out, format, thresholds=thresholds, best_only=True):
            say(f"wrote {file}")
    return Timeline(recording, truth, table.collect(), model.classes)
