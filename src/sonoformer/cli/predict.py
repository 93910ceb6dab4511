"""`sonoformer predict`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal, cast

import torch
from cyclopts import Parameter

from sonoformer.audio import find, probe
from sonoformer.cli import heard
from sonoformer.cli.options import Device, DryRun, Out, Overwrite, Speed, progress_bar, say
from sonoformer.encoders import PatchEncoder, with_speed
from sonoformer.errors import AudioError, UserError
from sonoformer.inference import FORMATS, Settings, write_table
from sonoformer.inference.engine import Report, window_count
from sonoformer.run import Run
from sonoformer.tasks.model import Model, load_model
from sonoformer.tasks.prediction import predict as run_prediction
from sonoformer.training.devices import resolve_device

Format = Literal["csv", "json", "parquet", "raven", "audacity"]
assert set(FORMATS) == set(Format.__args__)  # type: ignore[attr-defined]


def predict(
    recordings: list[Path],
    /,
    *,
    model: Annotated[Path, Parameter(help="Run of finetune, or its model folder.")] = Path(
        "runs/finetune"
    ),
    out: Out = Path("runs/predict"),
    format: Annotated[tuple[Format, ...], Parameter(help="One or more tables to write.")] = (
        "csv",
    ),
    settings: Annotated[Settings, Parameter(name="*")] = Settings(),
    threshold: Annotated[
        float | None,
        Parameter(
            help="Least score of an event in Raven and Audacity tables; the model's if absent."
        ),
    ] = None,
    best_only: Annotated[
        bool, Parameter(help="Only the highest class of a window as an event.", negative="")
    ] = False,
    speed: Speed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Write a model's scores over recordings of any length, a row a window.

    An interrupted run goes on where it stopped when the same command is given again.

    Example: sonoformer predict field/ --model runs/finetune --format raven --overlap 0.5

    Parameters
    ----------
    recordings
        Folders, audio files or patterns.
    """
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"--threshold: must be between 0 and 1; got {threshold}")
    paths = find(recordings)
    where = resolve_device(device)
    loaded = load_model(model, where)
    if speed is not None:
        loaded.encoder = with_speed(cast(PatchEncoder, loaded.encoder), speed)
    if dry_run:
        say(_estimate(loaded, paths, settings, where))
        return
    again = Run.exists(out) and not overwrite
    options = {"model": str(model), "format": list(format), "speed": speed, "settings": settings}
    changeable = frozenset(
        {"format", "model", "speed", "threshold", *Settings.__dataclass_fields__}
    )
    with Run.start(
        out, "predict", options, 0, resume=again, overwrite=overwrite, may_change=changeable
    ) as run:
        began = time.monotonic()
        with progress_bar("listening", "s of sound") as progress:
            report = run_prediction(loaded, paths, settings, out / "parts", progress=progress)
        heard.note(run, report)
        files = _write(report, loaded, out, format, threshold, best_only)
        seconds = time.monotonic() - began
        run.metrics(heard.figures(report, seconds))
        told = heard.pace(report, seconds)
        say(
            f"{len(report.durations)} recordings, {report.windows + report.resumed} windows "
            f"({report.resumed} from before)" + (f", {told}" if told else "")
        )
        for file in files:
            say(f"wrote {file}")


def _write(
    report: Report,
    model: Model,
    out: Path,
    formats: tuple[Format, ...],
    threshold: float | None,
    best_only: bool,
) -> list[Path]:
    table = report.table()
    assert table is not None
    least = dict(zip(model.classes, model.thresholds, strict=True))
    if threshold is not None:
        least = dict.fromkeys(model.classes, threshold)
    return [
        file
        for format in formats
        for file in write_table(
            table,
            out,
            format,
            thresholds=least,
            best_only=best_only,
            high_hz=model.sample_rate / 2,
            durations=report.durations,
        )
    ]


def _estimate(model: Model, paths: list[Path], settings: Settings, device: torch.device) -> str:
    """Time, memory and disk, from the lengths of all recordings and a few batches of silence."""
    durations = []
    for path in paths:
        try:
            durations.append(probe(path).duration)
        except AudioError as error:
            say(f"will be skipped: {error}")
    windows = sum(window_count(duration, settings) for duration in durations)
    batch = settings.batch(device)
    wave = torch.zeros(batch, round(settings.window * model.sample_rate))
    pace = heard.seconds_a_batch(model.predict_waveforms, wave, device)
    minutes = pace * -(-windows // batch) / 60
    disk = windows * (len(model.classes) * 4 + 40) / 2**20
    weights = sum(value.numel() * 4 for value in model.state_dict().values())
    # Activations of one block, and sound that is decoded ahead.
    memory = (weights + 40 * wave.numel() * 4) / 2**20 + 400
    return (
        f"{len(durations)} recordings, {sum(durations) / 3600:.2f} h, {windows} windows: about "
        f"{minutes:.1f} min on {device}, {memory:.0f} MiB of memory, {disk:.1f} MiB of disk"
    )
