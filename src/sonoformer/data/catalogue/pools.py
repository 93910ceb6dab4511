"""Unlabelled pools from Debian packages: mostly speech, with music, notes, drums and effects.

A row of a pool's manifest has `package`, `kind` (speech, music, note, drum, effect), `group` (the
voice, kit or bank, after the package's name), `duration` in seconds, and a `weight` that draws
packages by the square root of their hours, so that one large package does not fill the training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from sonoformer.audio.find import find
from sonoformer.data.catalogue.cache import Progress, quiet
from sonoformer.data.catalogue.convert import (
    convert_patches,
    convert_pk3,
    convert_queen,
    convert_soundfont,
)
from sonoformer.data.catalogue.debian import package_folder
from sonoformer.data.catalogue.held import held_in_pool
from sonoformer.data.catalogue.tasks import character_voices
from sonoformer.data.manifest import Manifest
from sonoformer.data.pool import gather


@dataclass(frozen=True)
class Source:
    """Audio files of a package: where they lie and whose sound they are."""

    kind: str
    """speech, music, note, drum or effect"""
    folder: str = ""
    """folder inside the package"""
    voice: str = ""
    """pattern over the path inside `folder` whose first group names the voice or kit"""
    leave_out: str = ""
    """pattern over the path inside `folder` of files that are no use"""


SOURCES: dict[str, tuple[Source, ...]] = {
    "festvox-ru": (Source("speech"),),
    "fillets-ng-data": (
        Source("effect", "usr/share/games/fillets-ng/sound", leave_out=r"^music/"),
        Source("music", "usr/share/games/fillets-ng/sound/music"),
        Source("music", "usr/share/games/fillets-ng/music"),
    ),
    "fillets-ng-data-cs": (Source("speech", voice=r"-([mv])-[^/]*$"),),
    "fillets-ng-data-nl": (Source("speech", voice=r"-([mv])-[^/]*$"),),
    "tuxpaint-stamps-default": (
        Source("speech", voice=r"_([a-z]{2}(?:_[A-Za-z]+)?)\.\w+$", leave_out=r"^(?!.*_desc)"),
        Source("effect", leave_out=r"_desc"),
    ),
    "klettres-data": (Source("speech", "usr/share/klettres", voice=r"^([^/]+)/"),),
    "ktuberling-data": (Source("speech", "usr/share/ktuberling/sounds", voice=r"^([^/]+)/"),),
    "gcin-voice": (Source("speech", voice=r"/(\d)\.ogg$"),),
    "hydrogen-drumkits": (Source("drum", "usr/share/hydrogen/data/drumkits", voice=r"^([^/]+)/"),),
    "hedgewars-data": (
        Source("speech", "usr/share/games/hedgewars/Data/Sounds/voices", voice=r"^([^/]+)/"),
        Source("effect", "usr/share/games/hedgewars/Data/Sounds", leave_out=r"^voices/"),
        Source("music", "usr/share/games/hedgewars/Data/Music"),
    ),
    "qabcs-data": (
        # The other languages are synthesised speech.
        Source("speech", "usr/share/qabcs/abcs", voice=r"^(\w+)/", leave_out=r"^(?!(en|uk)/)"),
        Source("effect", "usr/share/qabcs/abcs/all"),
    ),
    "sonic-pi-samples": (Source("effect"),),
    "wesnoth-1.16-data": (Source("effect"),),
    "scratch": (Source("effect", "usr/share/scratch/Media/Sounds", voice=r"^([^/]+)/"),),
    "asterisk-prompt-it-menardi-wav": (Source("speech", leave_out=r"/silence/"),),
    "wesnoth-1.16-music": (Source("music"),),
    "warzone2100-music": (Source("music"),),
    "hyperrogue-music": (
        Source("music", leave_out=r"/sounds?/"),
        Source("effect", leave_out=r"^(?!.*/sounds?/)"),
    ),
    "planetblupi-music-ogg": (Source("music"),),
    "singularity-music": (Source("music"),),
    "drascula-music": (Source("music"),),
}
"""Packages whose sounds are ordinary audio files. The kind `effect` also holds odd speech."""

CONVERTED: dict[str, tuple[str, Callable[[Path], pl.DataFrame]]] = {
    "flight-of-the-amazon-queen": ("speech", convert_queen),
    "fluid-soundfont-gm": ("note", convert_soundfont),
    "minuet-data": ("note", convert_soundfont),
    "freepats": ("note", convert_patches),
    "ufoai-music": ("music", convert_pk3),
    "nexuiz-music": ("music", convert_pk3),
}
"""Packages whose sounds are converted first."""

MUSIC = (
    *("wesnoth-1.16-music", "ufoai-music", "warzone2100-music", "nexuiz-music"),
    *("hyperrogue-music", "planetblupi-music-ogg", "singularity-music", "drascula-music"),
)
POOL = tuple(name for name in (*SOURCES, *CONVERTED) if name not in MUSIC)
SMALL = ("gcin-voice", "freepats", "minuet-data", "flight-of-the-amazon-queen")


def pool_table(
    packages: Iterable[str], progress: Progress = quiet, *, hold: bool = False
) -> pl.DataFrame:
    """The pool's table; copies and unusable files are left out.

    Args:
        packages: names of packages.
        progress: called with (what is being done, units done, units in all or None).
        hold: leave the fixed held-out groups of the tasks out, too; see `held`.

    Raises:
        UserError: a package cannot be had.
    """
    parts = [_package(name, progress) for name in packages]
    table = pl.concat(parts)
    pool = gather(
        [Manifest.of(table, "packages")],
        progress=lambda done, total: progress("opening files", done, total),
    )
    progress(pool.summary, len(pool.manifest), len(pool.manifest))
    table = pool.manifest.table.select("path", "group", "package", "kind", "duration")
    if hold:
        voices = character_voices([package_folder("flight-of-the-amazon-queen", progress)])
        apart = held_in_pool(table, voices)
        table = table.filter(~pl.col("path").is_in(list(apart)))
        progress(f"{len(apart)} clips held out", len(table), len(table))
    hours = pl.col("duration").sum().over("package") / 3600
    table = table.with_columns(weight=hours.sqrt() / pl.len().over("package"))
    return table.with_columns((pl.col("weight") / pl.col("weight").mean()).round(5))


def _package(name: str, progress: Progress) -> pl.DataFrame:
    folder = package_folder(name, progress)
    if name in CONVERTED:
        kind, convert = CONVERTED[name]
        progress(f"converting {name}", 0, None)
        table = convert(folder)
        voice = pl.col("character") if "character" in table.columns else pl.lit(None, pl.String)
        rows = table.select("path", voice=voice, kind=pl.lit(kind))
    else:
        rows = pl.concat([_files(folder, source) for source in SOURCES[name]])
    group = pl.concat_str(pl.lit(name), pl.col("voice").fill_null(""), separator="/")
    return rows.select("path", "kind", group=group.str.strip_chars_end("/"), package=pl.lit(name))


def _files(package: Path, source: Source) -> pl.DataFrame:
    base = package / source.folder
    rows = []
    for path in find([base]):
        inside = path.absolute().relative_to(base.absolute()).as_posix()
        if source.leave_out and re.search(source.leave_out, inside):
            continue
        voice = re.search(source.voice, inside) if source.voice else None
        rows.append((str(path.absolute()), voice[1] if voice else None, source.kind))
    schema = {"path": pl.String, "voice": pl.String, "kind": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")
