"""`sonoformer data soundscapes`: long annotated recordings to test and to learn with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.options import Overwrite, Seed, progress_bar, say
from sonoformer.data.soundscapes import SoundscapeConfig, make_soundscapes
from sonoformer.errors import UserError


def soundscapes(
    *,
    out: Annotated[
        Path, Parameter(help="Folder to write: sound, events.csv, manifest.csv, config.yaml.")
    ] = Path("soundscapes"),
    config: Annotated[SoundscapeConfig, Parameter(name="*")] = SoundscapeConfig(),
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make long recordings of generated or real calls in noise, with exact endpoints.

    The same seed and options give the same bytes.

    Example: sonoformer data soundscapes --minutes 60 --files 4 --snr -5 20 --out savanna
    """
    if (out / "events.csv").exists() and not overwrite:
        raise UserError(
            f"{out}: holds soundscapes already; give --overwrite to replace them, or another --out"
        )
    with progress_bar("making", "files") as progress:
        made = make_soundscapes(config, out, seed, progress=progress)
    for path, reason in made.problems:
        say(f"left out: {path}: {reason}")
    counts = made.events["label"].value_counts().sort("label")
    shown = ", ".join(f"{label} {count}" for label, count in counts.iter_rows())
    hours = len(made.files) * config.minutes / 60
    say(f"{out}: {len(made.files)} files, {hours:.2f} h, {made.events.height} events ({shown})")
