"""Tables of the public sets, from their unpacked archives.

Each function takes the unpacked folder and returns a table with absolute paths, a row a clip.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from sonoformer.errors import UserError


def esc50(folder: Path) -> pl.DataFrame:
    """ESC-50: `labels`, the authors' `fold`, `group` = the recording a clip was cut from."""
    meta = _only(folder, "esc50.csv")
    table = pl.read_csv(meta, infer_schema=False)
    audio = meta.parent.parent / "audio"
    return table.select(
        path=pl.concat_str(pl.lit(f"{audio}/"), pl.col("filename")),
        labels=pl.concat_list("category"),
        fold="fold",
        group="src_file",
        esc10=pl.col("esc10") == "True",
    )


def esc10(folder: Path) -> pl.DataFrame:
    """ESC-10: the ten classes of ESC-50 that its table marks."""
    return esc50(folder).filter("esc10").drop("esc10")


def fsdd(folder: Path) -> pl.DataFrame:
    """FSDD: the digit as label; each speaker is a group and a fold; takes 0 to 4 are the authors'
    test part (`official_split`), which shares all speakers with training."""
    files = sorted((_only(folder, "recordings")).glob("*.wav"))
    table = pl.DataFrame({"path": [str(f) for f in files]}, schema={"path": pl.String})
    name = pl.col("path").str.extract_groups(r"(?<digit>\d)_(?<speaker>[^_/]+)_(?<take>\d+)\.wav$")
    take = name.struct.field("take").cast(pl.Int64)
    return table.select(
        "path",
        labels=pl.concat_list(name.struct.field("digit")),
        fold=name.struct.field("speaker"),
        group=name.struct.field("speaker"),
        take=take,
        official_split=pl.when(take < 5).then(pl.lit("test")).otherwise(pl.lit("train")),
    )


def speech_commands(folder: Path) -> pl.DataFrame:
    """Speech Commands v2: 35 words, the authors' split, `group` = the speaker."""
    lists = {
        "validation": _only(folder, "validation_list.txt"),
        "test": _only(folder, "testing_list.txt"),
    }
    base = lists["test"].parent
    words = sorted(f.name for f in base.iterdir() if f.is_dir() and not f.name.startswith("_"))
    names = [
        f"{word}/{file.name}" for word in words for file in sorted((base / word).glob("*.wav"))
    ]
    parts = {
        line: part
        for part, listing in lists.items()
        for line in listing.read_text(encoding="utf-8").split()
    }
    table = pl.DataFrame({"name": names}, schema={"name": pl.String})
    return table.select(
        path=pl.concat_str(pl.lit(f"{base}/"), "name"),
        labels=pl.concat_list(pl.col("name").str.extract(r"^([^/]+)/")),
        split=pl.col("name").replace_strict(parts, default="train", return_dtype=pl.String),
        group=pl.col("name").str.extract(r"/([^/]+?)_nohash_"),
    )


def _only(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name))
    if not found:
        raise UserError(f"{folder}: the archive holds no {name}; its layout has changed")
    return found[0]
