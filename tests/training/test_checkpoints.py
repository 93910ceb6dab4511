"""Checkpoint files are whole or absent, and run no code."""

from __future__ import annotations

import pickle
import resource
import signal
from pathlib import Path

import pytest
import torch

from sonoformer.errors import UserError
from sonoformer.training.checkpoints import read_checkpoint, remove_leftovers, write_checkpoint


def test_round_trip_keeps_bits_and_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    value = {"w": torch.randn(3, 2), "step": 7, "name": "x", "none": None, "pair": (0.1, 2)}
    write_checkpoint(path, value)
    back = read_checkpoint(path)
    assert torch.equal(back.pop("w"), value.pop("w"))
    assert back == value


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    """A limit on the size of files fails a write half way, as a full disk does."""
    path = tmp_path / "last.ckpt"
    write_checkpoint(path, {"step": 1, "w": torch.zeros(10)})
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        with pytest.raises(UserError, match=r"last\.ckpt"):
            write_checkpoint(path, {"step": 2, "w": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert read_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class _Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (open, ("/nonexistent/never-opened",))


@pytest.mark.parametrize("kind", ["missing", "truncated", "text", "pickle", "list"])
def test_what_is_no_checkpoint_is_a_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "last.ckpt"
    if kind == "truncated":
        write_checkpoint(path, {"w": torch.zeros(1000)})
        path.write_bytes(path.read_bytes()[:700])
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "pickle":
        torch.save({"w": _Bomb()}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    with pytest.raises(UserError, match=r"last\.ckpt: "):
        read_checkpoint(path)


def test_a_pickle_bomb_is_not_run_even_in_the_old_format(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(marker), "w"))

    (tmp_path / "last.ckpt").write_bytes(pickle.dumps(Touch(), protocol=2))
    with pytest.raises(UserError):
        read_checkpoint(tmp_path / "last.ckpt")
    assert not marker.exists()


def test_leftovers_of_a_killed_writer_go_and_checkpoints_stay(tmp_path: Path) -> None:
    for name in (".last-abc.ckpt", "last.ckpt", "best.ckpt"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    remove_leftovers(tmp_path / "none")
