"""Labelled tasks from Debian packages, with splits that leave nothing to recognise but the class.

Each function takes the unpacked packages in the order of the entry's `packages` and returns a table
with absolute paths: `labels`, `group` (what must not be on both sides), `fold` (the protocol), and
for phones `start` and `end`.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from sonoformer.data.catalogue.convert import convert_patches, convert_queen, convert_soundfont
from sonoformer.data.catalogue.drumkit import drum_class, read_kit
from sonoformer.errors import UserError

FAMILIES = (
    *("piano", "chromatic-percussion", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "synth-lead", "synth-pad", "synth-effects", "ethnic", "percussive"),
    "sound-effects",
)
"""General MIDI families, eight programs each."""

_SYNTHETIC = ("synth-lead", "synth-pad", "synth-effects", "percussive", "sound-effects")
_ENGLISH = (
    *("British", "Classic", "Default", "HillBilly", "Mobster", "Pirate", "Robot", "Russian"),
    *("Singer", "Surfer"),
)


def character_voices(packages: list[Path]) -> pl.DataFrame:
    """Who speaks, among the characters of a game with two dialogues and 60 lines or more.

    All lines went through the same codec. `group` is the dialogue; a character's dialogues go to
    the two folds in turn, so that every character is learned in one scene and known in another.
    """
    lines = convert_queen(packages[0]).filter(
        pl.col("dialogue").is_not_null() & (pl.col("character") != "joe")
    )
    often = (pl.col("dialogue").n_unique() >= 2) & (pl.len() >= 60)
    lines = lines.filter(often.over("character"))
    # Every other character begins with the other fold, so that the folds are of like size.
    turn = pl.col("dialogue").rank("dense").over("character") + pl.col("character").rank("dense")
    return lines.select(
        "path",
        labels=pl.concat_list("character"),
        group="dialogue",
        fold=(1 + turn % 2).cast(pl.String),
    )


def instrument_families(packages: list[Path]) -> pl.DataFrame:
    """Family of a note's instrument, tested on a sample bank that was not heard in training.

    Only samples whose programs are all of one family, and only acoustic families; `group` and
    `fold` are the bank.
    """
    tables = []
    for package in packages:
        patches = package.name.startswith("freepats")
        notes = convert_patches(package) if patches else convert_soundfont(package)
        bank = package.name.split("_")[0]
        tables.append(notes.with_columns(bank=pl.lit(bank)))
    notes = pl.concat(tables).filter(pl.col("programs").fill_null("") != "")
    family = pl.col("programs").str.split(";").list.eval(pl.element().cast(pl.Int64) // 8)
    notes = notes.with_columns(family=family.list.unique()).filter(pl.col("family").list.len() == 1)
    names = dict(enumerate(FAMILIES))
    label = pl.col("family").list.first().replace_strict(names, return_dtype=pl.String)
    notes = notes.with_columns(label=label).filter(~pl.col("label").is_in(_SYNTHETIC))
    return notes.select(
        "path", "name", "hz", labels=pl.concat_list("label"), group="bank", fold="bank"
    )


def drum_hits(packages: list[Path]) -> pl.DataFrame:
    """Which drum was hit, tested on a kit that was not heard in training.

    Classes by the instrument names of the kits; `group` and `fold` are the kit.
    """
    rows = []
    for kit in sorted(packages[0].rglob("drumkit.xml")):
        seen = set()
        for name, instrument in read_kit(kit):
            label, path = drum_class(instrument), kit.parent / Path(name).name
            if label and name not in seen and path.is_file():
                seen.add(name)
                rows.append((str(path), instrument, [label], kit.parent.name, kit.parent.name))
    columns = ("path", "instrument", "labels", "group", "fold")
    return pl.DataFrame(_filled(rows, packages), schema=columns, orient="row")


def phones(packages: list[Path]) -> pl.DataFrame:
    """Phones of read Russian in time: a row a phone, with `start` and `end`.

    The segmentation was made by a program on a grid of 10 ms. `group` is the utterance; the folds
    are fixed fifths of the utterances by number.
    """
    rows = []
    for listing in sorted(packages[0].rglob("lab/*.lab")):
        sound = listing.parent.parent / "wav" / f"{listing.stem}.wav"
        number = int(re.sub(r"\D", "", listing.stem))
        start = 0.0
        for line in listing.read_text(encoding="utf-8").splitlines():
            parts = line.split()
            if len(parts) != 3:
                continue  # the header's "#"
            end = float(parts[0])
            if end > start:
                fold = str(number % 5 + 1)
                rows.append((str(sound), start, end, [parts[2]], listing.stem, fold))
            start = end
    columns = ("path", "start", "end", "labels", "group", "fold")
    return pl.DataFrame(_filled(rows, packages), schema=columns, orient="row")


def spoken_phrases(packages: list[Path]) -> pl.DataFrame:
    """Which stock phrase is spoken, tested on a voice that was not heard in training.

    Ten English voice packs of a game; phrases that at least five of them have. `group` and `fold`
    are the voice. The wording behind one name differs between voices.
    """
    rows = []
    for voice in _ENGLISH:
        for file in sorted(packages[0].rglob(f"Sounds/voices/{voice}/*.ogg")):
            rows.append((str(file), file.stem.lower(), voice))
    table = pl.DataFrame(_filled(rows, packages), schema=("path", "phrase", "voice"), orient="row")
    table = table.filter(pl.col("voice").n_unique().over("phrase") >= 5)
    return table.select("path", labels=pl.concat_list("phrase"), group="voice", fold="voice")


def tones(packages: list[Path]) -> pl.DataFrame:
    """Tone (1 to 4) of Mandarin syllables, tested on the other of two talkers.

    `group` and `fold` are the talker, man or woman; the syllable in Bopomofo is kept.
    """
    rows = []
    for file in sorted(packages[0].rglob("ogg/*/*.ogg")):
        match = re.fullmatch(r"(\D+)([1-4]?)", file.parent.name)
        # In this keyboard's notation no digit is the first tone and 1 the neutral one.
        if match is None or match[2] == "1":
            continue
        talker = "man" if file.stem == "3" else "woman"
        rows.append((str(file), match[1], [match[2] or "1"], talker, talker))
    columns = ("path", "syllable", "labels", "group", "fold")
    return pl.DataFrame(_filled(rows, packages), schema=columns, orient="row")


def _filled(rows: list[tuple], packages: list[Path]) -> list[tuple]:
    if not rows:
        raise UserError(f"{packages[0]}: the package's layout has changed; nothing was found in it")
    return rows
