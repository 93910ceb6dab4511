"""Sounds inside packed files become ordinary audio files, once, in the cache.

Each function takes an unpacked package and returns a table, a row a sound: `path` (absolute) and
what the packed file tells about it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from sonoformer.audio.opening import AUDIO_SUFFIXES
from sonoformer.data.catalogue.cache import cache_folder, whole_folder
from sonoformer.data.catalogue.gus import read_patch
from sonoformer.data.catalogue.pcm import safe_name, write_pcm
from sonoformer.data.catalogue.queen import read_lines
from sonoformer.data.catalogue.sf2 import read_bank
from sonoformer.errors import UserError

Rows = list[dict[str, object]]
_LARGEST = 200_000_000  # bytes of an unpacked file


def convert_queen(package: Path) -> pl.DataFrame:
    """Lines of Flight of the Amazon Queen: `character`, `dialogue` (null where not known)."""

    def write(folder: Path) -> Rows:
        source = package / "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
        rows: Rows = []
        for line in read_lines(source):
            path = folder / f"{safe_name(line.name)}.mp3"
            path.write_bytes(line.data)
            rows.append({"path": path.name, "character": line.character, "dialogue": line.dialogue})
        return rows

    schema = {"path": pl.String, "character": pl.String, "dialogue": pl.String}
    return _once(package, write, schema)


BANK_SCHEMA: Mapping[str, type[pl.DataType]] = {
    "path": pl.String,
    "name": pl.String,
    "programs": pl.String,
    "percussion": pl.Boolean,
    "hz": pl.Float64,
}


def convert_soundfont(package: Path) -> pl.DataFrame:
    """Samples of a SoundFont: `name`, General MIDI `programs` joined by ";", `percussion`, `hz`."""

    def write(folder: Path) -> Rows:
        rows: Rows = []
        for source in sorted(package.rglob("*.sf2")):
            for number, sample in enumerate(read_bank(source)):
                path = folder / f"{number:04d}_{safe_name(sample.name)}.wav"
                write_pcm(path, sample.samples, sample.sample_rate)
                rows.append(
                    {
                        "path": path.name,
                        "name": sample.name,
                        "programs": ";".join(map(str, sample.programs)),
                        "percussion": sample.percussion,
                        "hz": 440.0 * 2 ** ((sample.key - 69) / 12),
                    }
                )
        return rows

    return _once(package, write, BANK_SCHEMA)


def convert_patches(package: Path) -> pl.DataFrame:
    """Samples of the GUS patches of freepats, in the same columns as a SoundFont's."""

    def write(folder: Path) -> Rows:
        rows: Rows = []
        for source in sorted(package.rglob("*.pat")):
            number, name = source.stem.split("_", 1)
            drum = source.parent.name.startswith("Drum")
            try:
                patches = read_patch(source)
            except UserError:
                continue  # one odd patch is not worth the whole bank
            for index, patch in enumerate(patches):
                path = folder / f"{source.parent.name}_{safe_name(source.stem)}_{index:02d}.wav"
                write_pcm(path, patch.samples, patch.sample_rate)
                rows.append(
                    {
                        "path": path.name,
                        "name": name.replace("_", " "),
                        "programs": "" if drum else str(int(number)),
                        "percussion": drum,
                        "hz": patch.root_hz,
                    }
                )
        return rows

    return _once(package, write, BANK_SCHEMA)


def convert_pk3(package: Path) -> pl.DataFrame:
    """Audio files inside the zip archives that games call pk3: `name`."""

    def write(folder: Path) -> Rows:
        rows: Rows = []
        for source in sorted(package.rglob("*.pk3")):
            with zipfile.ZipFile(source) as archive:
                for number, member in enumerate(archive.infolist()):
                    name = Path(member.filename)
                    if name.suffix.lower() not in AUDIO_SUFFIXES or member.file_size > _LARGEST:
                        continue
                    path = folder / f"{number:04d}_{safe_name(name.stem)}{name.suffix.lower()}"
                    with archive.open(member) as packed, path.open("wb") as plain:
                        shutil.copyfileobj(packed, plain)
                    rows.append({"path": path.name, "name": name.stem})
        return rows

    return _once(package, write, {"path": pl.String, "name": pl.String})


def _once(
    package: Path, write: Callable[[Path], Rows], schema: Mapping[str, type[pl.DataType]]
) -> pl.DataFrame:
    """Convert into `converted/PACKAGE` unless it is there; the table with absolute paths."""
    target = cache_folder() / "converted" / package.name
    if not target.exists():
        with whole_folder(target) as folder:
            pl.DataFrame(write(folder), schema=schema).write_csv(folder / "index.csv")
    table = pl.read_csv(target / "index.csv", schema=schema)
    prefix = pl.lit(f"{target}/")
    return table.with_columns(path=pl.concat_str(prefix, pl.col("path")))
