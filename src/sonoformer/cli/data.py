"""`sonoformer data`: list, fetch, check, split, pack, convert, soundscapes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import polars as pl
from cyclopts import App, Parameter
from rich.table import Table

from sonoformer.cli.data_convert import convert
from sonoformer.cli.data_soundscapes import soundscapes
from sonoformer.cli.options import DryRun, Overwrite, Seed, console, progress_bar, say
from sonoformer.cli.tables import Columns, Root, Separator, read_labels
from sonoformer.data.columns import ColumnMap
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError

app = App(
    name="data",
    help="List, fetch, check, split and pack data sets; convert annotations; make soundscapes.",
)
app.command(convert)
app.command(soundscapes)


@app.command(name="list")
def list_sets() -> None:
    """List the public sets that can be fetched.

    Example: sonoformer data list
    """
    from sonoformer.data.catalogue.catalogue import ENTRIES, local

    table = Table("name", "what", "clips", "MB", "licence", "here", box=None, pad_edge=False)
    for entry in ENTRIES.values():
        size = f"{entry.megabytes:,}" if entry.megabytes else ""
        here = "yes" if local(entry.name) else ""
        table.add_row(entry.name, entry.title, f"{entry.clips:,}", size, entry.licence, here)
    console.print(table)


@app.command
def fetch(names: list[str], /) -> None:
    """Get public sets into the cache; interrupted downloads continue.

    Example: sonoformer data fetch esc10

    Parameters
    ----------
    names
        Sets of `sonoformer data list`.
    """
    from sonoformer.data.catalogue.catalogue import entry
    from sonoformer.data.catalogue.catalogue import fetch as get

    for name in names:
        wanted = entry(name)
        say(f"{wanted.title}; licence: {wanted.licence}; cite: {wanted.citation}")
        with progress_bar(f"fetching {name}") as bar:
            path = get(name, lambda _, done, total, bar=bar: bar(done, total or done))  # type: ignore[misc]
        say(f"{name}: {path}")


@app.command
def check(
    labels: Path,
    /,
    *,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    root: Root = None,
    full: Annotated[
        bool, Parameter(help="Compare whole files, not their ends.", negative="")
    ] = False,
) -> None:
    """Say what a table holds and what is wrong with it: files, times, labels, leaks.

    Exits with 1 if there are errors.

    Example: sonoformer data check labels.csv --label-column species
    """
    from sonoformer.data.leaks import find_leaks
    from sonoformer.data.summary import render, summarise

    manifest = read_labels(labels, columns, separator, root)
    with progress_bar("opening", "files") as progress:
        console.print(render(summarise(manifest, progress=progress)))
    findings = manifest.check(probe=True)
    for by in ("split", "fold"):
        if manifest.table[by].is_not_null().any():
            findings += find_leaks(manifest, by=by, full=full)
    for finding in findings:
        say(f"{finding.severity}: {finding}")
    if not findings:
        say("nothing found wrong")
    if any(finding.severity == "error" for finding in findings):
        raise SystemExit(1)


@app.command
def split(
    labels: Path,
    out: Path,
    /,
    *,
    folds: Annotated[int | None, Parameter(help="Write folds instead of a split.")] = None,
    by_group: Annotated[
        bool, Parameter(help="Each group becomes a fold of its own.", negative="")
    ] = False,
    validation: Annotated[float, Parameter(help="Share of the rows for validation.")] = 0.1,
    test: Annotated[float, Parameter(help="Share of the rows for the test.")] = 0.2,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    root: Root = None,
    seed: Seed = 0,
) -> None:
    """Divide a table so that no group is on two sides, with classes as even as that allows.

    Example: sonoformer data split labels.csv split.csv --group-column site

    Parameters
    ----------
    labels
        The table.
    out
        The new table, .csv or .parquet.
    """
    from sonoformer.data import splits

    manifest = read_labels(labels, columns, separator, root)
    if by_group:
        done = splits.leave_one_group_out(manifest)
    elif folds is not None:
        done = splits.folds(manifest, folds, seed=seed)
    else:
        done = splits.split(manifest, validation=validation, test=test, seed=seed)
    done.save(out)
    column: Literal["fold", "split"] = "fold" if by_group or folds else "split"
    counts = done.table[column].value_counts().sort(column)
    parts = ", ".join(f"{name} {count}" for name, count in counts.rows())
    say(f"{out}: {parts}")


@app.command
def pack(
    recordings: list[Path],
    /,
    *,
    out: Annotated[Path, Parameter(help="Folder of the packed sound.")] = Path("packed"),
    sample_rate: Annotated[int, Parameter(help="Hz of the packed sound.")] = 16000,
    hours: Annotated[
        float | None, Parameter(help="Take a sample of this many hours; everything if absent.")
    ] = None,
    max_gb: Annotated[float | None, Parameter(help="Take a sample of at most this size.")] = None,
    by: Annotated[
        str, Parameter(help="Spread the sample over these: site, date, hour, month, columns.")
    ] = "site,date",
    seconds: Annotated[float, Parameter(help="Length of a stretch of the sample.")] = 10.0,
    shards: Annotated[
        bool, Parameter(help="Write webdataset tars of FLAC, for large pools.", negative="")
    ] = False,
    shard_megabytes: Annotated[float, Parameter(help="Size of a shard.")] = 100.0,
    piece_seconds: Annotated[
        float, Parameter(help="Longer recordings come into shards in equal pieces.")
    ] = 30.0,
    yes: Annotated[bool, Parameter(help="Begin without asking.", negative="")] = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
) -> None:
    """Decode recordings once, all of them or an even sample of a large collection.

    Given again with more hours or more recordings it adds to what is there.

    Example: sonoformer data pack /archive --hours 50 --max-gb 6 --by site,date --out packed

    Parameters
    ----------
    recordings
        Folders, audio files, patterns or manifests.
    """
    import shutil

    from sonoformer.data.pool import gather
    from sonoformer.data.selection import SelectionConfig, estimate, select
    from sonoformer.data.stored import is_stored

    if overwrite and is_stored(out) and not dry_run:
        shutil.rmtree(out)
    with progress_bar("opening", "files") as progress:
        pool = gather(recordings, progress=progress)
    say(pool.summary)
    table_path = out / "selection.parquet"
    if hours is None and max_gb is None:
        chosen = pool.manifest
        ends = pool.manifest.table["start"] + pool.manifest.table["duration"]
        size = pool.hours * 3600 * sample_rate * 2 / 1e9
        about = f"about {size / 2:.2f} GB as FLAC" if shards else f"{size:.2f} GB"
        say(f"to pack: {pool.hours:.2f} h, {about}")
    else:
        config = SelectionConfig(
            hours=float("inf") if hours is None else hours,
            max_gb=max_gb,
            by=tuple(name.strip() for name in by.split(",") if name.strip()),
            seconds=seconds,
            sample_rate=sample_rate,
        )
        existing = Manifest.read(table_path, allow_absolute=True) if table_path.exists() else None
        say(str(estimate(pool.manifest, config, seed=seed, existing=existing)))
        if dry_run:
            return
        if not yes and console.is_terminal and console.input("begin? [y/n] ").lower() != "y":
            raise UserError("nothing was packed")
        with progress_bar("listening", "stretches") as progress:
            selection = select(
                pool.manifest, config, seed=seed, existing=existing, progress=progress
            )
        chosen = selection.manifest
        ends = chosen.table["end"]
        for error in selection.bad:
            say(f"skipped: {error}")
    if dry_run:
        return
    table = chosen.table.with_columns(end=ends)
    if shards:
        _into_shards(table, out, sample_rate, shard_megabytes, piece_seconds)
        chosen.save(table_path)
    else:
        out.mkdir(parents=True, exist_ok=True)
        chosen.save(table_path)
        _into_cache(table, out, sample_rate)


def _into_cache(table: pl.DataFrame, out: Path, sample_rate: int) -> None:
    from sonoformer.data.cache import pack as pack_stretches
    from sonoformer.data.sources import Stretch

    stretches = [Stretch(*row) for row in table.select("path", "start", "end").iter_rows()]
    with progress_bar("packing", "stretches") as progress:
        packed = pack_stretches(stretches, out, sample_rate, progress=progress)
    for path, reason in packed.problems:
        say(f"skipped: {path}: {reason}")
    packed_hours = packed.cache.lengths.sum() / sample_rate / 3600
    say(
        f"{out}: {len(packed.cache)} stretches, {packed_hours:.2f} h "
        f"({packed.added} added now); pretrain with: sonoformer pretrain {out}"
    )


def _into_shards(
    table: pl.DataFrame, out: Path, sample_rate: int, megabytes: float, piece_seconds: float
) -> None:
    from sonoformer.data.shard_index import Recording
    from sonoformer.data.shard_writer import pack_shards

    columns = ("path", "start", "end", "channel", "group", "weight", "labels")
    recordings = [
        Recording(path, start, end, "mix" if channel is None else channel, *facts)
        for path, start, end, channel, *facts in table.select(columns).iter_rows()
    ]
    with progress_bar("packing", "pieces") as progress:
        packed = pack_shards(
            recordings,
            out,
            sample_rate,
            megabytes=megabytes,
            longest=piece_seconds,
            progress=progress,
        )
    for path, reason in packed.problems:
        say(f"skipped: {path}: {reason}")
    say(
        f"{out}: {packed.shards} shards, {packed.pieces} pieces, {packed.seconds / 3600:.2f} h "
        f"({packed.added} added now); pretrain with: sonoformer pretrain {out}"
    )
