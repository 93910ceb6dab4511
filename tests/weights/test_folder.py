"""Checkpoint folders: whole or absent, replaced in one step, and every kind of bad one."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.weights import folder as folder_module
from sonoformer.weights import is_checkpoint, load_checkpoint, save_checkpoint


def tensors(value: float = 1.0) -> dict[str, Tensor]:
    return {
        "encoder.weight": torch.full((3, 4), value),
        "counter": torch.tensor(7),
        "half": torch.ones(5, dtype=torch.bfloat16),
    }


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    at = save_checkpoint(tmp_path / "a" / "model", tensors(), {"classes": ["a", "é"]}, "# Card\n")
    found, config = load_checkpoint(at)
    assert config == {"format": 1, "classes": ["a", "é"]}
    assert (at / "README.md").read_text() == "# Card\n"
    assert found.keys() == tensors().keys()
    for name, value in tensors().items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype
    assert sorted(p.name for p in at.parent.iterdir()) == ["model"]
    assert is_checkpoint(at)


def test_gradients_views_and_tied_weights_are_saved_as_plain_values(tmp_path: Path) -> None:
    shared = torch.randn(4, 6, requires_grad=True)
    given = {"a": shared, "tied": shared, "row": shared[1], "turned": shared.T}
    found, _ = load_checkpoint(save_checkpoint(tmp_path / "m", given, {}, ""))
    for name, value in given.items():
        assert torch.equal(found[name], value)
        assert not found[name].requires_grad


def test_a_checkpoint_replaces_an_older_one_whole(tmp_path: Path) -> None:
    at = tmp_path / "model"
    save_checkpoint(at, tensors(1), {"n": 1}, "one")
    (at / "extra.txt").write_text("of the old one")
    before, _ = load_checkpoint(at)
    save_checkpoint(at, tensors(2), {"n": 2}, "two")
    after, config = load_checkpoint(at)
    assert config["n"] == 2
    assert after["encoder.weight"].unique().item() == 2
    assert before["encoder.weight"].unique().item() == 1
    assert not (at / "extra.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_replacing_works_where_folders_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "_exchange", lambda *_: False)
    at = save_checkpoint(tmp_path / "model", tensors(1), {"n": 1}, "")
    save_checkpoint(at, tensors(2), {"n": 2}, "")
    assert load_checkpoint(at)[1]["n"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_empty_folder_is_filled_and_follows_the_umask(tmp_path: Path) -> None:
    at = tmp_path / "model"
    at.mkdir()
    old = os.umask(0o027)
    try:
        save_checkpoint(at, tensors(), {}, "")
    finally:
        os.umask(old)
    assert stat.S_IMODE(at.stat().st_mode) == 0o750
    assert stat.S_IMODE((at / "model.safetensors").stat().st_mode) == 0o640


@pytest.mark.parametrize("part", ["save_file", "write_json", "write_text", "_install"])
def test_a_failure_at_any_part_leaves_the_older_one_and_nothing_else(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = save_checkpoint(tmp_path / "model", tensors(1), {"n": 1}, "")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, part, full)
    with pytest.raises(UserError, match="disk is full"):
        save_checkpoint(at, tensors(2), {"n": 2}, "")
    assert load_checkpoint(at)[1]["n"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


_WRITER = """
import sys, torch
from sonoformer.weights import save_checkpoint
n = 0
while True:
    n += 1
    save_checkpoint(sys.argv[1], {"w": torch.full((64, 64), float(n))}, {"n": n}, "")
    print(n, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    at = tmp_path / "model"
    for turn in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(at)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.007 * turn)
        writer.kill()
        writer.wait()
        writer.stdout.close()
        found, config = load_checkpoint(at)
        assert found["w"].unique().tolist() == [config["n"]]


# Bad folders --------------------------------------------------------------------------------------


def test_other_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        save_checkpoint(tmp_path / "notes", tensors(), {}, "")
    with pytest.raises(UserError, match="is a file"):
        save_checkpoint(tmp_path / "notes" / "thesis.txt", tensors(), {}, "")
    with pytest.raises(UserError, match="cannot be written"):
        save_checkpoint(tmp_path / "notes" / "thesis.txt" / "model", tensors(), {}, "")
    assert (tmp_path / "notes" / "thesis.txt").read_text() == "years of work"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "model", tensors(), {}, "")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint folder"):
        load_checkpoint(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_checkpoint(tmp_path / "file")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_part(name: str, saved: Path) -> None:
    (saved / name).unlink()
    assert not is_checkpoint(saved)
    with pytest.raises(UserError, match=f"{name} is missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[" * 100000, "cannot be read as JSON"),
        (b"[1]", "mapping"),
        (b"{}", "format None"),
        (json.dumps({"format": 99}).encode(), "format 99"),
    ],
)
def test_a_bad_config(content: bytes, said: str, saved: Path) -> None:
    (saved / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=said):
        load_checkpoint(saved)


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_weights_cut_short(keep: int, saved: Path) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"model\.safetensors: is not a whole safetensors"):
        load_checkpoint(saved)


def test_weights_that_are_something_else(saved: Path) -> None:
    (saved / "model.safetensors").write_bytes(b"PK\x03\x04 not weights at all, but long enough")
    with pytest.raises(UserError, match=r"model\.safetensors: is not a whole safetensors"):
        load_checkpoint(saved)
