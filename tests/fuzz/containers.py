"""Mutations of files as bytes: zip archives, safetensors headers, truncation, flipped bits."""

from __future__ import annotations

import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

UNREADABLE = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, ValueError, RuntimeError,
    EOFError,
)  # fmt: skip
"""What reading a damaged archive raises."""
_WEIGHTS = (".pth", ".bin", ".safetensors")


def _file(folder: Path, rng: random.Random, *suffixes: str) -> Path | None:
    files = sorted(p for p in folder.iterdir() if p.suffix in suffixes and p.is_file())
    return rng.choice(files) if files else None


# Zip ----------------------------------------------------------------------------------------------


def archive(folder: Path, rng: random.Random) -> None:
    """Entries of a zip archive dropped, renamed, cut, given twice, swapped, compressed."""
    path = _file(folder, rng, ".pth", ".bin")
    if path is None:
        return
    try:
        with zipfile.ZipFile(path) as old:
            entries = [(entry.filename, old.read(entry)) for entry in old.infolist()]
    except UNREADABLE:
        return
    if not entries:
        return
    place, other = rng.randrange(len(entries)), rng.randrange(len(entries))
    named = [i for i, (name, _) in enumerate(entries) if not name.split("/")[-1].isdigit()]
    if named and rng.random() < 0.5:
        place = rng.choice(named)
    name, value = entries[place]
    how = zipfile.ZIP_STORED
    match rng.randrange(11):
        case 0:
            del entries[place]
        case 1:
            new = rng.choice(["../escaped", "/tmp/escaped", "x", "a/b/c", "archive/data/../1"])
            entries[place] = (new, value)
        case 2:
            entries[place] = (name, value[: rng.randrange(len(value) + 1)])
        case 3:
            entries.append((name, entries[other][1]))
        case 4:
            entries[place], entries[other] = (name, entries[other][1]), (entries[other][0], value)
        case 5:
            new = rng.choice([b"", b"0", b"99", b"-1", b"x", b"3" * 5000, b"big", b"\xff"])
            entries[place] = (name, new)
        case 6:
            how = zipfile.ZIP_DEFLATED
        case 7:
            entries = [(f"../{n}", v) for n, v in entries]
        case 8:
            extra = rng.choice(
                ["constants.pkl", "code/x.py", ".data/serialization_id", "byteorder"]
            )
            entries.append(
                (f"{name.split('/')[0]}/{extra}", rng.choice([b"big", b"", b"\x80\x02."]))
            )
        case 9:
            entries[place] = (name, value + bytes(rng.choice([1, 100, 100_000])))
        case _:
            path.write_bytes(_lying(entries, place, rng))
            return
    memory = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(memory, "w", how) as new_archive:
        warnings.simplefilter("ignore")
        for entry, content in entries:
            new_archive.writestr(entry, content)
    path.write_bytes(memory.getvalue())


def _lying(entries: list[tuple[str, bytes]], place: int, rng: random.Random) -> bytes:
    """An archive one of whose entries is said to be compressed, or of another size than it is."""
    name, value = entries[place]
    size, method = rng.choice([0, 1, 2**20, 2**31, 2**32 - 2]), rng.choice([0, 8, 8, 99])
    crc = zlib.crc32(value)
    if rng.random() < 0.5:
        # A true bomb: zeros, a thousand times as many as there are bytes in the file.
        size, method = 2**29, 8
        value, crc = _bomb(), 0
    memory = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(memory, "w") as new:
        warnings.simplefilter("ignore")
        for number, (entry, content) in enumerate(entries):
            new.writestr(entry, value if number == place else content)
    data = bytearray(memory.getvalue())
    # Local and central headers hold: method, time, date, CRC, sizes, and the name further on.
    for magic, before, after in ((b"PK\x03\x04", 8, 30), (b"PK\x01\x02", 10, 46)):
        start = data.find(magic)
        while start >= 0:
            if data[start + after : start + after + len(name)] == name.encode():
                struct.pack_into("<H", data, start + before, method)
                struct.pack_into("<I", data, start + before + 6, crc)
                struct.pack_into("<I", data, start + before + 14, size)
                if rng.random() < 0.3:
                    struct.pack_into("<I", data, start + before + 10, rng.randrange(2**32))
                break
            start = data.find(magic, start + 4)
    return bytes(data)


def _bomb() -> bytes:
    """Zeros, compressed: 512 MiB in half a megabyte."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * 512 + deflate.flush()


# safetensors --------------------------------------------------------------------------------------


def header(folder: Path, rng: random.Random) -> None:
    """A safetensors header that is no JSON, or lies about places, kinds and lengths."""
    path = _file(folder, rng, ".safetensors")
    if path is None:
        return
    data = path.read_bytes()
    if len(data) < 8:
        return
    length = struct.unpack("<Q", data[:8])[0]
    body = data[8 + length :]
    try:
        facts: Any = json.loads(data[8 : 8 + length])
        name = rng.choice(sorted(n for n in facts if n != "__metadata__"))
        entry = facts[name]
    except (ValueError, TypeError, IndexError, KeyError, RecursionError):
        return
    if not isinstance(entry, dict):
        return
    odd: tuple[Any, ...] = (None, -1, 0, 2**40, 2**63, 10**30, 1.5, "x", [], [1], {}, True)
    text = None
    match rng.randrange(9):
        case 0:
            kinds = [
                "F32",
                "F16",
                "BF16",
                "I64",
                "BOOL",
                "F8_E4M3",
                "U8",
                "C64",
                "F4",
                "X",
                None,
                5,
            ]
            entry["dtype"] = rng.choice(kinds)
        case 1:
            entry["shape"] = rng.choice([*odd, [2**40], [2**62, 4], [-1], [0], [[1]], [1.0]])
        case 2:
            entry["data_offsets"] = rng.choice([*odd, [0, 4], [4, 0], [0, 2**62], [-4, 0], [0]])
        case 3:
            del entry[rng.choice(sorted(entry))]
        case 4:
            facts[rng.choice(["a\nb", "", "x", "[/red]"])] = dict(entry)
        case 5:
            facts["__metadata__"] = rng.choice([*odd, {"a": 1}, {"format": "tf"}])
        case 6:
            text = rng.choice(
                [b"", b"{", b"[]", b"null", b"{" * 60_000, b'{"a":' * 60_000, b"\xff"]
            )
        case 7:
            length = rng.choice([0, 1, 2**20, 2**40, 2**63, 2**64 - 1])
            path.write_bytes(struct.pack("<Q", length) + data[8:])
            return
        case _:
            facts[name] = rng.choice(odd)
    text = json.dumps(facts).encode() if text is None else text
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


# Any file -----------------------------------------------------------------------------------------


def cut(folder: Path, rng: random.Random) -> None:
    """A weights file cut short anywhere."""
    path = _file(folder, rng, *_WEIGHTS)
    if path is not None:
        data = path.read_bytes()
        end = rng.choice([rng.randrange(len(data) + 1), rng.randrange(min(len(data), 400) + 1)])
        path.write_bytes(data[:end])


def flips(folder: Path, rng: random.Random) -> None:
    """Bits flipped, mostly near the ends, where formats keep what they say of themselves."""
    path = _file(folder, rng, *_WEIGHTS)
    if path is None:
        return
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 4, 30]) if data else 0):
        places = (rng.randrange(len(data)), rng.randrange(min(len(data), 4000)))
        place = rng.choice([*places, len(data) - 1 - places[1]])
        data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def others(folder: Path, rng: random.Random) -> None:
    """A file that is something else, or nothing, or a folder, or gone."""
    path = _file(folder, rng, *_WEIGHTS)
    if path is None:
        return
    match rng.randrange(8):
        case 0:
            path.unlink()
        case 1:
            path.write_bytes(b"")
        case 2:
            path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        case 3:
            path.write_bytes(rng.randbytes(rng.randrange(1, 5000)))
        case 4:
            path.unlink()
            path.mkdir()
        case 5:
            path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 500)))
        case 6:
            path.write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt ")
        case _:
            path.write_bytes(rng.randbytes(rng.randrange(1, 50)) + path.read_bytes())
