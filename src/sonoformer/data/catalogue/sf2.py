"""Reader of SoundFont 2 banks: the samples, and which General MIDI program plays each.

SoundFont Technical Specification 2.04 (Creative, 2006), sections 5 to 7. A bank is a RIFF file with
the samples in `sdta/smpl` (one run of 16-bit mono samples) and nine tables in `pdta`. A preset
(`phdr`) has zones (`pbag`) of generators (`pgen`), one of which names an instrument (`inst`); an
instrument has zones (`ibag`) of generators (`igen`), one of which names a sample (`shdr`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from sonoformer.errors import UserError

_INSTRUMENT, _SAMPLE, _ROOT_KEY = 41, 53, 58
_PERCUSSION_BANK = 128
_RIGHT, _ROM = 2, 0x8000

_PHDR = np.dtype([("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2")])
_PHDR = np.dtype([*_PHDR.descr, ("rest", "V12")])
_INST = np.dtype([("name", "S20"), ("bag", "<u2")])
_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GEN = np.dtype([("kind", "<u2"), ("amount", "<u2")])
_SHDR = np.dtype(
    [
        ("name", "S20"),
        *[(field, "<u4") for field in ("start", "end", "loop_start", "loop_end", "rate")],
        *[("key", "u1"), ("correction", "i1"), ("link", "<u2"), ("kind", "<u2")],
    ]
)
_TABLES = {
    b"phdr": _PHDR,
    b"pbag": _BAG,
    b"pgen": _GEN,
    b"inst": _INST,
    b"ibag": _BAG,
    b"igen": _GEN,
    b"shdr": _SHDR,
}


@dataclass(frozen=True)
class BankSample:
    """One recorded sample of a bank."""

    name: str
    samples: np.ndarray
    """int16, mono"""
    sample_rate: int
    key: int
    """MIDI key at which the sample sounds unchanged"""
    programs: tuple[int, ...]
    """General MIDI programs (0 to 127) of the melodic presets that play it"""
    percussion: bool
    """whether a drum preset plays it"""


def read_bank(path: str | Path) -> list[BankSample]:
    """All samples of a SoundFont, in file order; of stereo pairs only the left channel.

    Raises:
        UserError: the file is no SoundFont 2 bank, or it is cut short.
    """
    try:
        data = np.memmap(path, np.uint8, "r")
        chunks = _chunks(data)
        pcm = chunks[b"smpl"]
        tables = {name: _table(chunks[name], dtype) for name, dtype in _TABLES.items()}
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a readable SoundFont 2 bank ({error})") from error
    samples = pcm[: len(pcm) // 2 * 2].view("<i2")
    programs, percussion = _players(tables)
    found = []
    for index, row in enumerate(tables[b"shdr"][:-1]):  # the last row is the terminator
        start, end, kind = int(row["start"]), int(row["end"]), int(row["kind"])
        if kind == _RIGHT or kind & _ROM or not start < end <= len(samples) or not row["rate"]:
            continue
        found.append(
            BankSample(
                name=bytes(row["name"]).split(b"\0")[0].decode("latin-1").strip(),
                samples=np.asarray(samples[start:end]),
                sample_rate=int(row["rate"]),
                key=int(row["key"]),
                programs=tuple(sorted(programs.get(index, ()))),
                percussion=index in percussion,
            )
        )
    return found


def _chunks(data: np.ndarray) -> dict[bytes, np.ndarray]:
    """The chunks of interest, by name; lists are entered, not returned."""
    if bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"sfbk":
        raise ValueError("the header is not RIFF sfbk")
    found: dict[bytes, np.ndarray] = {}
    position, stop = 12, len(data)
    while position + 8 <= stop:
        name = bytes(data[position : position + 4])
        size = int.from_bytes(bytes(data[position + 4 : position + 8]), "little")
        if name == b"LIST":
            position += 12
            continue
        if position + 8 + size > stop:
            raise ValueError(f"chunk {name!r} ends past the end of the file")
        found[name] = data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    return found


def _table(chunk: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(chunk.tobytes(), dtype, count=len(chunk) // dtype.itemsize)


def _players(tables: dict[bytes, np.ndarray]) -> tuple[dict[int, set[int]], set[int]]:
    """For every sample index: the melodic programs, and whether percussion plays it."""
    of_instrument = _links(tables[b"inst"], tables[b"ibag"], tables[b"igen"], _SAMPLE)
    of_preset = _links(tables[b"phdr"], tables[b"pbag"], tables[b"pgen"], _INSTRUMENT)
    programs: dict[int, set[int]] = {}
    percussion: set[int] = set()
    for preset, instruments in enumerate(of_preset):
        row = tables[b"phdr"][preset]
        for sample in {s for i in instruments if i < len(of_instrument) for s in of_instrument[i]}:
            if row["bank"] == _PERCUSSION_BANK:
                percussion.add(sample)
            elif row["bank"] == 0:
                programs.setdefault(sample, set()).add(int(row["program"]))
    return programs, percussion


def _links(
    heads: np.ndarray, bags: np.ndarray, generators: np.ndarray, kind: int
) -> list[list[int]]:
    """For every head, the amounts of the generators of `kind` in its zones."""
    links = []
    for head, following in pairwise(heads):
        zones = bags["generator"][head["bag"] : following["bag"] + 1]
        span = generators[zones[0] : zones[-1]] if len(zones) else generators[:0]
        links.append([int(a) for a in span["amount"][span["kind"] == kind]])
    return links
