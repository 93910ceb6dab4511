"""Soundscapes in a folder: the sound, the events, and a manifest to learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sonoformer.audio import write_blocks
from sonoformer.data.annotations import write_annotations
from sonoformer.data.events import EVENTS, events, manifest_of, whole
from sonoformer.data.manifest import Manifest
from sonoformer.data.soundscapes.clips import Clips, backgrounds
from sonoformer.data.soundscapes.config import SoundscapeConfig
from sonoformer.data.soundscapes.mix import Mixer
from sonoformer.data.soundscapes.noise import Noise, weather
from sonoformer.files import write_text
from sonoformer.settings import to_yaml

_SCHEMA = {name: EVENTS[name] for name in ("path", "start", "end", "label", "low_hz", "high_hz")}


@dataclass(frozen=True)
class Soundscapes:
    """What was made."""

    files: tuple[Path, ...]
    events: pl.DataFrame
    """columns of `EVENTS` and `snr_db`"""
    problems: tuple[tuple[str, str], ...]
    """clips and backgrounds that were left out, with the reason"""


def make_soundscapes(
    config: SoundscapeConfig,
    out: str | Path,
    seed: int = 0,
    *,
    progress: Callable[[float, float], None] | None = None,
) -> Soundscapes:
    """Write soundscapes in constant memory, with exact endpoints, the same for the same seed.

    Beside the sound, `out` gets `events.csv` (with the ratio `snr_db` of each event),
    `manifest.csv`, in which all of every file counts as reviewed, and `config.yaml`.

    The signal-to-noise ratio is the event's mean power over the background's, both between the
    event's start and end and between its `low_hz` and `high_hz`; over all frequencies for clips
    without a band. Other events do not count as background. An event that would pass half of full
    scale is lowered; `snr_db` says what it then has.

    Args:
        config: what they hold.
        out: the folder.
        seed: of everything random.
        progress: told (files done, files in all).

    Raises:
        UserError: nothing can be placed, or the folder cannot be written.
    """
    out = Path(out)
    problems: dict[str, str] = {}
    clips = None
    if config.clips is not None:
        sound = config.sample_rate, config.trim_db, config.pause
        clips = Clips(config.clips, *sound, problems.setdefault)
    files, tables = [], []
    for number in range(config.files):
        if progress is not None:
            progress(number, config.files)
        noise = _background(config, seed, number, problems.setdefault)
        mixer = Mixer(config, seed, number, noise, clips)
        file = out / f"soundscape-{number + 1:03d}.{config.format}"
        write_blocks(file, mixer.blocks(), config.sample_rate, frames=config.samples)
        files.append(file)
        columns = (*list(_SCHEMA)[1:], "snr_db")
        rows = pl.DataFrame(
            mixer.rows, {name: _SCHEMA.get(name, pl.Float64()) for name in columns}, orient="row"
        )
        tables.append(events(rows.with_columns(path=pl.lit(str(file.absolute())))))
    found = pl.concat(tables)
    _save(config, out, seed, files, found)
    return Soundscapes(tuple(files), found, tuple(problems.items()))


def _background(
    config: SoundscapeConfig, seed: int, number: int, problem: Callable[[str, str], object]
) -> Noise:
    """Generated noise, real recordings, or noise over real recordings."""
    rate = config.sample_rate
    parts = []
    if config.backgrounds is not None:
        parts.append(backgrounds(config.backgrounds, seed, number, rate, problem))
    if config.noises or config.backgrounds is None:
        parts.append(weather(config.noises, seed, number, rate, config.level_db))
    if len(parts) == 1:
        return parts[0]
    return lambda first, last: parts[0](first, last) + parts[1](first, last)


def _save(
    config: SoundscapeConfig, out: Path, seed: int, files: list[Path], found: pl.DataFrame
) -> None:
    manifest: Manifest = manifest_of(found, reviewed=whole(str(file.absolute()) for file in files))
    manifest.save(out / "manifest.csv")
    named = found.with_columns(path=pl.col("path").str.extract(r"([^/\\]*)$"))
    write_annotations(named, out / "events.csv", "csv")
    write_text(out / "config.yaml", f"seed: {seed}\n{to_yaml(config)}")
