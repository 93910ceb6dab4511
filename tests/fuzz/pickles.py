"""Mutations of pickles: code to be called, opcodes changed, nesting, lengths that lie."""

from __future__ import annotations

import io
import os
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.containers import UNREADABLE

MARK = "fuzz_canary"
"""Stands in every piece of code that a payload would run."""


def text(value: str) -> bytes:
    """The opcode that pushes a string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _calls(canary: Path) -> list[tuple[str, str, str]]:
    make = f"open({str(canary)!r}, 'w')  # {MARK}"
    return [
        ("os", "system", f"touch {canary}"),
        ("posix", "system", f"touch {canary}"),
        ("builtins", "eval", make),
        ("builtins", "exec", make),
        ("__builtin__", "eval", make),
        ("builtins", "open", str(canary)),
        ("pathlib", "Path", str(canary)),
        ("pathlib", "Path.touch", str(canary)),
        ("subprocess", "getoutput", f"touch {canary}"),
        ("runpy", "run_path", str(canary)),
        ("torch", "load", str(canary)),
        ("torch.serialization", "load", str(canary)),
        ("torch.hub", "load_state_dict_from_url", "http://127.0.0.1:9/x"),
        ("numpy", "load", str(canary)),
        ("importlib", "import_module", "antigravity"),
        ("builtins", "__import__", "antigravity"),
        ("collections", "OrderedDict.__init__.__globals__", MARK),
        ("torch._utils", "__builtins__", MARK),
        ("argparse", "Namespace", MARK),
        ("argparse", "FileType", "w"),
    ]


def _payloads(canary: Path, rng: random.Random) -> bytes:
    """Opcodes that call something and leave one value."""
    module, name, argument = rng.choice(_calls(canary))
    found = b"c" + f"{module}\n{name}\n".encode()
    if rng.random() < 0.3:
        found = text(module) + text(name) + b"\x93"
    match rng.randrange(6):
        case 0:
            return found + b")\x81"
        case 1:
            return found + text(argument) + b"\x85\x81"
        case 2:
            return found + b")R}" + text("items") + b"K\x05sb"
        case 3:
            return b"(" + text(argument) + b"i" + f"{module}\n{name}\n".encode()
        case 4:
            return rng.choice([b"\x82\x01", b"\x83\x01\x01", b"\x84\x01\x01\x01\x01"])
        case _:
            return found + text(argument) + b"\x85R"


_DICT = b"ccollections\nOrderedDict\n)R"
_BIG = b"\x8a\x06\x00\x00\x00\x00\x00\x01"  # 2**40
_MIDDLE = b"\x8a\x05\x00\x00\x00\x80\x00"  # 2**31


def _hostile(rng: random.Random) -> bytes:
    """Opcodes that torch's careful reader takes, and leave one value that is not as it seems."""
    deep = rng.choice([200, 2_000, 50_000, 400_000])
    size = rng.choice([_BIG, _MIDDLE])
    return rng.choice(
        [
            _DICT + b"}" + text(rng.choice(["items", "get", "values", "keys"])) + b"K\x05sb",
            b")" + b"\x85" * deep,
            b"}(" + b")" + b"\x85" * deep + b"K\x01u",
            b"]" * deep + b"a" * (deep - 1),
            b"}K\x01" * deep + b"K\x02s" + b"s" * (deep - 1),
            b"(" * deep + b"t" * deep,
            b"cbuiltins\nbytearray\n" + size + b"\x85R",
            b"cbuiltins\nbytearray\n" + text("utf") + b"\x85R",
            b"ctorch\nUntypedStorage\n" + size + b"\x85R",
            b"ctorch.storage\nUntypedStorage\n" + size + b"\x85\x81",
            b"ctorch\nFloatStorage\n" + size + b"\x85R",
            b"ctorch\nTensor\n)\x81",
            b"ctorch\nTensor\n" + size + b"\x85\x81",
            b"ctorch\nTensor\n" + size + b"\x85R",
            b"ctorch.nn.parameter\nParameter\n)\x81",
            b"ctorch\nSize\n(" + size + size + b"t\x85R",
            b"ctorch\ndevice\n" + text(rng.choice(["cuda", "meta", "hpu", "xla:1"])) + b"\x85R",
            b"c_codecs\nencode\n" + text("a" * 10) + text("latin1") + b"\x86R",
            b"c_codecs\nencode\n" + text("a") + text("zlib") + b"\x86R",
            b"ccollections\nCounter\n" + text("aab") + b"\x85R",
            b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n(K\x02K\x03t(K\x03"
            b"K\x01t\x89tR",
            b"ctorch._utils\n_rebuild_parameter_with_state\n(ctorch\nTensor\n)\x81\x89)R}"
            + text("detach") + b"K\x05stR",
        ]
    )  # fmt: skip


def _boundaries(data: bytes) -> list[tuple[int, str]]:
    """Positions of the opcodes of the first pickle, and their names."""
    found = []
    try:
        for opcode, _, position in pickletools.genops(data):
            found.append((position or 0, opcode.name))
    except Exception:
        # What was damaged before is damaged again from its start.
        pass
    return found or [(0, "STOP")]


def damaged(data: bytes, canary: Path, rng: random.Random) -> bytes:
    """A pickle, damaged."""
    if not data:
        return data
    places = _boundaries(data)
    place = rng.choice(places)[0]
    match rng.randrange(10):
        case 0:
            return data[:place] + _payloads(canary, rng) + data[place:]
        case 1:
            return _added(data, places, _payloads(canary, rng), rng)
        case 2:
            return b"\x80\x02" + _payloads(canary, rng) + b"."
        case 3 | 4:
            return _added(data, places, _hostile(rng), rng)
        case 5:
            # In the place of a value of its dictionaries: a whole number or text, that is.
            wanted = [i for i, (_, n) in enumerate(places[:-1]) if n.startswith("BININT")]
            if not wanted:
                return data[:place]
            one = rng.choice(wanted)
            new = rng.choice(
                [_BIG, _MIDDLE, b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", b"N", b"\x88",
                 b"M\x00\xff", b"J\x00\x00\x00\x7f", b"G\x7f\xf0\x00\x00\x00\x00\x00\x00", b")"]
            )  # fmt: skip
            return data[: places[one][0]] + new + data[places[one + 1][0] :]
        case 6:
            flipped = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                flipped[rng.choice(places)[0] % max(1, len(flipped))] = rng.randrange(256)
            return bytes(flipped)
        case 7:
            return data[:place]
        case 8:
            wanted = [p for p, n in places if n == "BINUNICODE"]
            if not wanted:
                return data
            one = rng.choice(wanted)
            length = rng.choice([0, 2**31, 2**32 - 1, 10**6])
            return data[: one + 1] + struct.pack("<I", length) + data[one + 5 :]
        case _:
            noise = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 200)))
            return rng.choice([noise, data[:place] + noise, b"\x80\x02" + noise, b""])


def _added(data: bytes, places: list[tuple[int, str]], value: bytes, rng: random.Random) -> bytes:
    """A pickle with one more entry, which other opcodes make, in its dictionary."""
    key = text(rng.choice(["extra", "optimizer", "module.v.cls_token", "v.cls_token"]))
    marks = [place for place, name in places if name == "MARK"]
    if marks and rng.random() < 0.5:
        return data[: marks[0] + 1] + key + value + data[marks[0] + 1 :]
    stop = places[-1][0]
    return data[:stop] + key + value + b"s" + data[stop:]


def in_folder(change: Callable[[bytes], bytes], folder: Path, rng: random.Random) -> None:
    """Change the pickle of the folder's weights file, in either of torch's formats."""
    files = sorted(p for p in folder.iterdir() if p.suffix in (".pth", ".bin") and p.is_file())
    if not files:
        return
    path = rng.choice(files)
    data = path.read_bytes()
    if zipfile.is_zipfile(path):
        try:
            path.write_bytes(_zipped(data, change))
        except UNREADABLE:
            path.write_bytes(change(data))
        return
    ends = _ends(data)
    start, end = rng.choice(ends) if rng.random() < 0.3 else ends[min(3, len(ends) - 1)]
    path.write_bytes(data[:start] + change(data[start:end]) + data[end:])


def _zipped(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(memory, "w") as new:
        for entry in old.infolist():
            value = old.read(entry)
            name = entry.filename
            new.writestr(entry, change(value) if name.endswith("data.pkl") else value)
    return memory.getvalue()


def _ends(data: bytes) -> list[tuple[int, int]]:
    """Where the pickles of a legacy file begin and end: magic, protocol, system, object, keys."""
    found, memory = [], io.BytesIO(data)
    for _ in range(5):
        start = memory.tell()
        try:
            for _ in pickletools.genops(memory):
                pass
        except Exception:
            break
        found.append((start, memory.tell()))
    return found or [(0, len(data))]


def mutate(folder: Path, rng: random.Random) -> None:
    """Damage the pickle of the folder's weights file."""
    canary = folder.parent / f"{MARK}-{os.getpid()}"
    in_folder(lambda data: damaged(data, canary, rng), folder, rng)
