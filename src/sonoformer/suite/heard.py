"""Whether an encoder has heard a task's test clips in its pretraining.

A checkpoint says so itself, in `config.json`:

    "heard": {"sets": ["debian-pool"], "held_out": true}

`sets` are names of the catalogue or of Debian packages; `held_out` says that the fixed held-out
groups were left out of them. A checkpoint without this entry may have heard anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sonoformer.data.catalogue.entries import ENTRIES
from sonoformer.encoders import find_checkpoint
from sonoformer.errors import UserError
from sonoformer.files import read_json
from sonoformer.suite.config import Protocol
from sonoformer.suite.tasks import SuiteTask

Heard = Literal["no", "transductive", "unknown"]


def record_of(path: str | Path) -> dict[str, Any] | None:
    """The entry `heard` of a checkpoint's `config.json`; None without one."""
    try:
        entry = read_json(find_checkpoint(path) / "config.json").get("heard")
    except (UserError, AttributeError):
        return None
    return entry if isinstance(entry, dict) else None


def heard(record: dict[str, Any] | None, task: SuiteTask, protocol: Protocol) -> Heard:
    """Whether the tested clips of a task were heard.

    Args:
        record: of `record_of`; {"sets": []} for an encoder that has heard nothing.
        task: the task.
        protocol: what is tested.
    """
    if record is None or not isinstance(record.get("sets"), list):
        return "unknown"
    sets = {str(name) for name in record["sets"]}
    packages = {package for name in sets for package in _packages(name)}
    own = set(ENTRIES[task.set].packages) if task.set in ENTRIES else set()
    if task.set not in sets and not own & packages:
        return "no"
    apart = task.pooled and protocol == "fixed" and record.get("held_out") is True
    return "no" if apart else "transductive"


def _packages(name: str) -> tuple[str, ...]:
    return ENTRIES[name].packages if name in ENTRIES else (name,)
