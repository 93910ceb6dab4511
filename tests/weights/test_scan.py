"""Looking through pickles: what checkpoints hold passes, what brings a process down does not."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sonoformer.weights.scan import ScanError, scan


def training(blocks: int) -> dict[str, Any]:
    """What a trainer saves: a model, its optimiser, and numbers."""
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(blocks)])
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    state = OrderedDict(model.state_dict())
    history = [[[0.1, {"epoch": (1, 2)}]] for _ in range(2000)]
    return {"model": state, "optimizer": optimiser.state_dict(), "history": history}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("blocks", [1, 600])
def test_what_trainers_save_passes(zipped: bool, blocks: int, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(training(blocks), path, _use_new_zipfile_serialization=zipped)
    scan(path)
    torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02)" + b"\x85" * 501 + b".", "nested"),
        (b"\x80\x02" + b"(" * 501 + b"t" * 501 + b".", "nested"),
        (b"\x80\x02)q\x00" + b"h\x00\x85q\x00" * 501 + b".", "nested"),
        (b"\x80\x02cbuiltins\nbytearray\nK\x01\x85R.", "memory"),
        (b"\x80\x02c__builtin__\nbytearray\nK\x01\x85R.", "memory"),
    ],
)
def test_what_brings_a_process_down(content: bytes, said: str, tmp_path: Path) -> None:
    """Nesting counts through the memo, too."""
    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(1, 2) + content)
    with pytest.raises(ScanError, match=said):
        scan(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", content)
    with pytest.raises(ScanError, match=said):
        scan(path)


def test_archives_that_unfold(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(10**7))
    with pytest.raises(ScanError, match="compressed"):
        scan(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "content", [b"\x80\x02K", b"\x80\x02(.", b"\x80\x02R.", b"PK\x03\x04", b"0"]
)
def test_damage_is_an_error_of_some_kind(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(Exception, match=r"."):
        scan(tmp_path / "w.pth")
