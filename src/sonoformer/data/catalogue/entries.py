"""The sets that the toolkit can fetch by name: what they are, where they are, who made them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from sonoformer.data.catalogue import public, tasks
from sonoformer.data.catalogue.debian import PACKAGES
from sonoformer.data.catalogue.download import Archive
from sonoformer.data.catalogue.pools import MUSIC, POOL, SMALL


@dataclass(frozen=True)
class Entry:
    """A set of recordings. It comes from one public archive or from Debian packages."""

    name: str
    title: str
    task: str
    """what there is to learn, and how to split"""
    licence: str
    citation: str
    homepage: str
    clips: int
    """rows of the manifest as it was measured or published"""
    archive: Archive | None = None
    packages: tuple[str, ...] = ()
    """Debian packages"""
    build: Callable[[Path], pl.DataFrame] | Callable[[list[Path]], pl.DataFrame] | None = None
    """from the unpacked archive, or the unpacked packages, to the table; None for a pool"""
    about_megabytes: int = 0
    """rough size of an archive whose size is not known exactly"""
    audio_from: str = ""
    """name of the entry that unpacks the same archive, if another does"""
    hold: bool = False
    """a pool without the fixed held-out groups of the tasks"""
    keep: tuple[str, ...] = field(default=())
    """endings of the archive's members that are needed; all if empty"""

    @property
    def megabytes(self) -> int:
        """Size of the download in MB."""
        if self.archive is not None:
            return round((self.archive.size or 0) / 1e6) or self.about_megabytes
        return sum(PACKAGES[name].megabytes for name in self.packages)

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return self.archive.url if self.archive else f"Debian: {', '.join(self.packages)}"


ESC = Archive("https://github.com/karolpiczak/ESC-50/archive/master.zip")
FSDD = Archive("https://github.com/Jakobovski/free-spoken-digit-dataset/archive/master.zip")
SPEECH_COMMANDS = Archive(
    "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
    sha256="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
    size=2_428_923_189,
)

_DEBIAN = "https://packages.debian.org/bookworm/"


def _debian(
    name: str,
    title: str,
    task: str,
    clips: int,
    packages: tuple[str, ...],
    build: Callable[[list[Path]], pl.DataFrame] | None,
    hold: bool = False,
) -> Entry:
    licences = dict.fromkeys(PACKAGES[package].licence for package in packages)
    return Entry(
        name=name,
        title=title,
        task=task,
        licence="; ".join(licences) if len(licences) < 5 else "free, per package",
        citation=f"Debian 12 packages {', '.join(packages)}; see their copyright files",
        homepage=_DEBIAN + packages[0],
        clips=clips,
        packages=packages,
        build=build,
        hold=hold,
    )


_ALL = (
    Entry(
        name="esc50",
        title="ESC-50: environmental sounds",
        task="50 classes x 40 clips of 5 s; 5 folds of the authors, mean over the test folds",
        licence="CC BY-NC 3.0",
        citation="Piczak, ESC: Dataset for Environmental Sound Classification, ACM MM 2015",
        homepage="https://github.com/karolpiczak/ESC-50",
        clips=2000,
        archive=ESC,
        about_megabytes=600,
        build=public.esc50,
        keep=(".wav", ".csv", "LICENSE"),
    ),
    Entry(
        name="esc10",
        title="ESC-10: the ten clearest classes of ESC-50",
        task="10 classes x 40 clips of 5 s; 5 folds of the authors, mean over the test folds",
        licence="CC BY 3.0",
        citation="Piczak, ESC: Dataset for Environmental Sound Classification, ACM MM 2015",
        homepage="https://github.com/karolpiczak/ESC-50",
        clips=400,
        archive=ESC,
        about_megabytes=600,
        build=public.esc10,
        audio_from="esc50",
        keep=(".wav", ".csv", "LICENSE"),
    ),
    Entry(
        name="fsdd",
        title="Free Spoken Digit Dataset",
        task="10 digits, 6 speakers x 50 takes; leave one speaker out (fold = speaker)",
        licence="CC BY-SA 4.0",
        citation="Jackson et al., Free Spoken Digit Dataset, doi:10.5281/zenodo.1342401",
        homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
        clips=3000,
        archive=FSDD,
        about_megabytes=20,
        build=public.fsdd,
        keep=(".wav", "README.md"),
    ),
    Entry(
        name="speech-commands-v2",
        title="Speech Commands, version 2",
        task="35 words of 1 s; the authors' train, validation and test parts by speaker",
        licence="CC BY 4.0",
        citation="Warden, Speech Commands, arXiv:1804.03209",
        homepage="https://arxiv.org/abs/1804.03209",
        clips=105_829,
        archive=SPEECH_COMMANDS,
        build=public.speech_commands,
    ),
    _debian(
        "character-voices",
        "Characters of Flight of the Amazon Queen",
        "20 speakers, one codec; 2 folds by dialogue",
        2373,
        ("flight-of-the-amazon-queen",),
        tasks.character_voices,
    ),
    _debian(
        "instrument-families",
        "Notes of three sample banks",
        "instrument family of a note; leave one bank out (fold = bank)",
        1_501,
        ("fluid-soundfont-gm", "minuet-data", "freepats"),
        tasks.instrument_families,
    ),
    _debian(
        "drum-hits",
        "Hits of fourteen drum kits",
        "10 drums; leave one kit out (fold = kit)",
        472,
        ("hydrogen-drumkits",),
        tasks.drum_hits,
    ),
    _debian(
        "russian-phones",
        "Phones of one Russian speaker, in time",
        "51 phones with start and end; 5 folds of utterances",
        54_372,
        ("festvox-ru",),
        tasks.phones,
    ),
    _debian(
        "spoken-phrases",
        "Stock phrases of ten game voices",
        "few-shot phrases; leave one voice out (fold = voice)",
        577,
        ("hedgewars-data",),
        tasks.spoken_phrases,
    ),
    _debian(
        "mandarin-tones",
        "Mandarin syllables of a man and a woman",
        "4 tones; train on one talker, test on the other (fold = talker)",
        2334,
        ("gcin-voice",),
        tasks.tones,
    ),
    _debian(
        "debian-pool",
        "Unlabelled sound of 19 Debian packages",
        "pretraining: speech, music, notes, drums, effects",
        29_473,
        POOL,
        None,
    ),
    _debian(
        "shipped-pool",
        "What the shipped encoders heard: debian-pool and music, held-out groups left out",
        "pretraining, so that the task suite's fixed groups stay unheard",
        26_132,
        (*POOL, *MUSIC),
        None,
        hold=True,
    ),
    _debian(
        "debian-small",
        "Unlabelled sound of 4 small Debian packages",
        "pretraining, for a quick start",
        10_375,
        SMALL,
        None,
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ALL}
"""Name -> set."""
