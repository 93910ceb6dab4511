"""What reading a pickle would build, found from its opcodes without building it.

torch's careful reader calls nothing that a file names, but two things in a file can still bring
the process down: keys nested so deeply that hashing them overflows the stack, and a request for
any amount of memory.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

_DEEPEST = 500
"""Nesting that no state dictionary comes near."""
_HUNGRY = "bytearray"
_FILLING = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
_PICKLE = "data.pkl"
_MARK = pickletools.markobject
MOST = 8
"""Times the size of its file that an archive's entries may take; torch.save compresses nothing."""


class ScanError(ValueError):
    """The file would bring the process down, or is damaged."""


def scan(path: Path) -> None:
    """Look through the pickles of a file that torch.save wrote, in either format.

    Raises:
        ScanError: a pickle is nested too deeply or asks for memory, or an archive's entries would
            take many times its size.
        Exception: whatever damaged bytes lead to.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        if not zipped:
            # Magic number, protocol, system, the object, keys of storages; storages follow.
            for _ in range(5):
                if file.peek(1):
                    _walk(file)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > MOST * path.stat().st_size:
            raise ScanError("entries are compressed beyond what weights can be")
        for entry in entries:
            if entry.filename.endswith(_PICKLE):
                with archive.open(entry) as pickle:
                    _walk(pickle)


def _walk(pickle: IO[bytes]) -> None:
    """Follow one pickle, keeping of each value only how deeply it is nested."""
    stack: list[Any] = []
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(pickle):
        name = opcode.name
        if name in ("GLOBAL", "INST") and str(argument).endswith(_HUNGRY):
            raise ScanError("asks for memory")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        else:
            _apply(opcode, stack)


def _apply(opcode: pickletools.OpcodeInfo, stack: list[Any]) -> None:
    """Take from the stack what an opcode takes, and leave the depth of what it makes."""
    takes = opcode.stack_before
    if opcode.name in _FILLING:
        # A container that is filled bit by bit gets no deeper by that.
        depth = 1 + _taken(takes[1:], stack)
        stack[-1] = max(stack[-1], depth)
    else:
        depth = 1 + _taken(takes, stack) if takes else 0
        stack.extend(depth for _ in opcode.stack_after)
    if depth > _DEEPEST:
        raise ScanError("values are nested too deeply")


def _taken(kinds: Sequence[pickletools.StackObject], stack: list[Any]) -> int:
    """The greatest depth among what is taken from the stack."""
    deepest = 0
    for kind in reversed(kinds):
        if kind is _MARK:
            while (value := stack.pop()) is not _MARK:
                deepest = max(deepest, value)
        elif kind is not pickletools.stackslice:
            deepest = max(deepest, stack.pop())
    return deepest
