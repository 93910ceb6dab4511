"""Small sample banks and game files, written byte by byte for the readers' tests."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def ramp(count: int, step: int = 7) -> np.ndarray:
    """int16 samples that are all different."""
    return (np.arange(count) * step % 30000 - 15000).astype("<i2")


def soundfont(
    path: Path,
    samples: list[tuple[str, np.ndarray, int, int, int]],
    presets: list[tuple[int, int, list[int]]],
) -> Path:
    """A bank. Samples: (name, pcm, rate, key, type); presets: (bank, program, sample numbers).

    Every preset plays one instrument of its own, whose zones play the samples.
    """
    pcm, headers, position = b"", b"", 0
    for name, data, rate, key, kind in samples:
        span = (position, position + len(data), position, position + len(data), rate)
        headers += struct.pack("<20s5IBbHH", name.encode(), *span, key, 0, 0, kind)
        pcm += data.tobytes() + bytes(92)
        position += len(data) + 46
    headers += struct.pack("<20s5IBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)
    phdr = pbag = pgen = inst = ibag = igen = b""
    zones = 0
    for number, (bank, program, members) in enumerate(presets):
        phdr += struct.pack("<20sHHHIII", b"preset", program, bank, number, 0, 0, 0)
        pbag += struct.pack("<HH", number, 0)
        pgen += struct.pack("<HH", 41, number)
        inst += struct.pack("<20sH", b"instrument", zones)
        for member in members:
            ibag += struct.pack("<HH", 2 * zones, 0)
            igen += struct.pack("<HHHH", 43, 0x7F00, 53, member)  # key range, then the sample
            zones += 1
    phdr += struct.pack("<20sHHHIII", b"EOP", 0, 0, len(presets), 0, 0, 0)
    pbag += struct.pack("<HH", len(presets), 0)
    inst += struct.pack("<20sH", b"EOI", zones)
    ibag += struct.pack("<HH", 2 * zones, 0)
    tables = {"phdr": phdr, "pbag": pbag, "pmod": bytes(10), "pgen": pgen + bytes(4)}
    tables |= {"inst": inst, "ibag": ibag, "imod": bytes(10), "igen": igen + bytes(4)}
    pdta = b"".join(_chunk(name, data) for name, data in {**tables, "shdr": headers}.items())
    body = b"sfbk" + _chunk("LIST", b"INFO" + _chunk("INAM", b"odd"))
    body += _chunk("LIST", b"sdta" + _chunk("smpl", pcm)) + _chunk("LIST", b"pdta" + pdta)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_chunk("RIFF", body))
    return path


def _chunk(name: str, data: bytes) -> bytes:
    return name.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def patch(path: Path, samples: list[tuple[bytes, int, int, int]]) -> Path:
    """A GUS patch. Samples: (raw bytes, mode bits, rate, root frequency in mHz)."""
    head = bytearray(239)
    head[:12] = b"GF1PATCH110\0"
    head[198] = len(samples)
    body = b""
    for raw, modes, rate, root in samples:
        entry = bytearray(96)
        struct.pack_into("<IIIHIII", entry, 8, len(raw), 0, 0, rate, 0, 0, root)
        entry[55] = modes
        body += bytes(entry) + raw
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(head) + body)
    return path


def queen(path: Path, lines: dict[str, bytes], dialogues: dict[str, int]) -> Path:
    """A resource file of the game: lines (name without .SB -> MP3), dialogues (name -> key)."""
    entries = {f"{name}.SB": data for name, data in lines.items()}
    for name, key in dialogues.items():
        entries[f"{name}.DOG"] = bytes(20) + struct.pack(">hhhhh", 5, 9, key, 3, 3)
    position = 15 + 21 * len(entries)
    index, body = b"", b""
    for name, data in entries.items():
        index += struct.pack(">12sBII", name.encode(), 1, position + len(body), len(data))
        body += data
    path.parent.mkdir(parents=True, exist_ok=True)
    head = b"QTBLCEM10\0\0\0" + struct.pack(">BH", 1, len(entries))
    path.write_bytes(head + index + body)
    return path
