"""`sonoformer pretrain`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.opening import open_run
from sonoformer.cli.options import (
    Device,
    DryRun,
    Out,
    Overwrite,
    Profile,
    Recipe,
    Resume,
    Seed,
    progress_bar,
    say,
)
from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import TABLES
from sonoformer.pretraining.pretrain import PretrainConfig, cost, prepare
from sonoformer.pretraining.pretrain import pretrain as run_pretraining
from sonoformer.run import Run

Exclude = Annotated[
    list[Path],
    Parameter(help="Manifests whose recordings must not be heard: your test sets."),
]
Cache = Annotated[
    Path | None, Parameter(help="Folder of the decoded sound; --out/cache if absent.")
]


def pretrain(
    recordings: list[Path],
    /,
    *,
    out: Out = Path("runs/pretrain"),
    recipe: Recipe = None,
    profile: Profile = None,
    config: Annotated[PretrainConfig, Parameter(name="*")] = PretrainConfig(),
    init: Annotated[Path | None, Parameter(help="Checkpoint or run to continue from.")] = None,
    exclude: Exclude = [],  # noqa: B006
    cache: Cache = None,
    pack: Annotated[bool, Parameter(help="Decode the recordings once, before training.")] = True,
    seed: Seed = 0,
    device: Device = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Learn an encoder from recordings without labels.

    Example: sonoformer pretrain recordings/ --recipe ssast-tiny --out runs/pretrain

    Parameters
    ----------
    recordings
        Folders, audio files, patterns, or manifests (.csv, .parquet, .txt); or folders of packed
        sound, as `sonoformer data pack` leaves them.
    """
    held = [Manifest.read(path, allow_absolute=True) for path in exclude]
    sources = [_source(path) for path in recordings]
    if dry_run:
        with TemporaryDirectory() as scratch, progress_bar("reading", "files") as progress:
            trial = Run.start(Path(scratch) / "run", "pretrain", config, seed)
            ready = prepare(
                sources, config, trial, seed=seed, init=init, exclude=held, progress=progress
            )
            say(f"{ready.hours:.2f} h of sound; {cost(ready, config, device)}")
            if pack:
                size = ready.hours * 3600 * config.front.rate * 2 / 2**30
                say(f"decoded sound: {size:.2f} GiB of disk")
            trial.finish("dry run")
        return
    folder = None if not pack else (cache or out / "cache")
    with open_run(out, "pretrain", config, seed, device, resume=resume, overwrite=overwrite) as run:
        run.log(f"sonoformer pretrain {' '.join(map(str, recordings))}", show=False)
        with progress_bar("reading recordings", "files") as progress:
            result = run_pretraining(
                sources,
                config,
                run,
                seed=seed,
                device=device,
                resume=resume,
                init=init,
                exclude=held,
                cache=folder,
                progress=progress,
            )
        say(f"{result.steps} steps in {result.seconds / 60:.1f} min -> {out / 'model'}")


def _source(path: Path) -> Path | Manifest:
    """A table is read here, where its user may trust absolute paths in it."""
    if path.suffix.lower() in TABLES and path.is_file():
        return Manifest.read(path, separator=";", allow_absolute=True)
    return path
