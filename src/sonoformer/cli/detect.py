"""`sonoformer detect`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter

from sonoformer.audio import find, probe
from sonoformer.cli import heard
from sonoformer.cli.options import Device, DryRun, Out, Overwrite, progress_bar, say
from sonoformer.data.annotations import FORMATS, Recording, write_annotations
from sonoformer.errors import AudioError, UserError
from sonoformer.run import Run
from sonoformer.tasks.detection.listen import DetectConfig, Detected, window_settings
from sonoformer.tasks.detection.listen import detect as run_detection
from sonoformer.tasks.detection.model import Detector
from sonoformer.tasks.detection.scorefile import ScoreFormat
from sonoformer.tasks.detection.scoring import window_plan
from sonoformer.tasks.model import load_model
from sonoformer.training.devices import resolve_device

Format = Literal[
    "raven", "audacity", "dcase", "rttm", "csv", "json", "jsonl", "parquet", "textgrid"
]
assert set(FORMATS) == set(Format.__args__)  # type: ignore[attr-defined]

# Of tools that open one recording at a time.
_SINGLE = ("raven", "audacity", "textgrid")


def detect(
    recordings: list[Path],
    /,
    *,
    model: Annotated[
        Path, Parameter(help="Run of finetune --task events, or its model folder.")
    ] = Path("runs/finetune"),
    out: Out = Path("runs/detect"),
    format: Annotated[
        tuple[Format, ...], Parameter(help="One or more tables of events to write.")
    ] = ("csv",),
    scores: Annotated[
        ScoreFormat,
        Parameter(help="Write the scores of every frame too, a file a recording, in --out/scores."),
    ] = "none",
    config: Annotated[DetectConfig, Parameter(name="*")] = DetectConfig(),
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Find events in recordings of any length: a table with start, end, class and score.

    An interrupted run goes on where it stopped when the same command is given again.

    Example: sonoformer detect field/ --model runs/finetune --format raven

    Parameters
    ----------
    recordings
        Folders, audio files or patterns.
    """
    paths = find(recordings)
    where = resolve_device(device)
    loaded = load_model(model, where)
    if not isinstance(loaded, Detector):
        raise UserError(
            f"{model}: is a classifier of clips, which knows no times; `sonoformer predict` gives "
            "its scores, `sonoformer finetune TABLE --task events` makes a detector"
        )
    if dry_run:
        say(_estimate(loaded, paths, config, where))
        return
    again = Run.exists(out) and not overwrite
    options = {"model": str(model), "format": list(format), "scores": scores, "config": config}
    changeable = frozenset({"format", "model", "scores", *DetectConfig.__dataclass_fields__})
    with Run.start(
        out, "detect", options, 0, resume=again, overwrite=overwrite, may_change=changeable
    ) as run:
        began = time.monotonic()
        with progress_bar("listening", "s of sound") as progress:
            found = run_detection(
                loaded,
                paths,
                config,
                out / "parts",
                scores=scores,
                out=out / "scores",
                progress=progress,
            )
        heard.note(run, found.report)
        files = [file for name in format for file in _write(found, out, name)]
        _tell(run, found, time.monotonic() - began)
        for file in files:
            say(f"wrote {file}")
        if found.scores:
            say(f"wrote {len(found.scores)} files of frame scores in {out / 'scores'}")


def _write(found: Detected, out: Path, name: Format) -> list[Path]:
    """One table over all recordings where the format knows several; one for each for tools that
    open them one by one."""
    facts = {}
    for path, seconds in found.report.durations.items():
        info = probe(path) if Path(path).is_file() else None
        facts[path] = Recording(
            seconds,
            None if info is None else info.sample_rate / 2,
            None if info is None else info.recorded_at,
        )
    kind, written = FORMATS[name], []
    if "path" in kind.holds:
        target = out / f"events{kind.suffix}"
        written += write_annotations(found.events, target, name, recordings=facts)
    if name in _SINGLE:
        write_annotations(found.events, out / name, name, recordings=facts)
        written.append(out / name)
    return written


def _tell(run: Run, found: Detected, seconds: float) -> None:
    report = found.report
    counts = dict(sorted(found.events.group_by("label").len().rows()))
    run.metrics({**heard.figures(report, seconds), "events": counts})
    sound = sum(report.durations.values())
    shown = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
    rest = [heard.pace(report, seconds)]
    if report.resumed:
        rest.append(f"{report.resumed} windows from before")
    told = [f"{len(report.durations)} recordings, {sound / 3600:.2f} h; events: {shown}", *rest]
    say("; ".join(part for part in told if part))


def _estimate(
    model: Detector, paths: list[Path], config: DetectConfig, device: torch.device
) -> str:
    """Time and disk, from the lengths of all recordings and a few batches of silence."""
    plan = window_plan(model, config.window or model.seconds, config.overlap, config.join)
    lengths = []
    for path in paths:
        try:
            lengths.append(probe(path).duration)
        except AudioError as error:
            say(f"will be skipped: {error}")
    counts = [plan.count(model.grid.count(round(s * model.sample_rate))) for s in lengths]
    batch = window_settings(model, plan, config).batch(device)
    wave = torch.zeros(batch, model.grid.needed(plan.columns))
    pace = heard.seconds_a_batch(model.frame_logits, wave, device)
    minutes = pace * -(-sum(counts) // batch) / 60
    disk = sum(counts) * plan.columns * len(model.classes) * 4 / 2**20
    return (
        f"{len(lengths)} recordings, {sum(lengths) / 3600:.2f} h, {sum(counts)} windows: about "
        f"{minutes:.1f} min on {device}, {disk:.1f} MiB of disk"
    )
