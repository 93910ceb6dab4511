"""Foreign state dictionaries: every wrapping that is met, no code run, every kind of bad file."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.weights import read_foreign

STATE = {"v.weight": torch.arange(6.0).reshape(2, 3), "v.bias": torch.ones(2)}


def same(found: dict[str, Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[n], STATE[n]) for n in STATE)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE},
        {"model": STATE, "epoch": 3, "args": argparse.Namespace(lr=1e-4)},
        {"model": {"state_dict": STATE}},
        {f"module.{name}": value for name, value in STATE.items()},
        {"state_dict": {f"module.{n}": v for n, v in STATE.items()}, "optimizer": {"lr": 0.1}},
        {**STATE, "version": 2, "note": "text"},
        {name: nn.Parameter(value) for name, value in STATE.items()},
    ],
    ids=["plain", "state_dict", "model", "nested", "parallel", "both", "others", "parameters"],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_every_wrapping_is_taken_off(content: dict, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = read_foreign(path).tensors
    assert same(found)
    assert not any(value.requires_grad for value in found.values())


def test_a_prefix_on_some_names_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "w.pt")
    assert read_foreign(tmp_path / "w.pt").tensors.keys() == {"module.a", "b"}


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({f"module.{name}": value for name, value in STATE.items()}, path)
    assert same(read_foreign(path).tensors)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        read_foreign(path)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = {"state_dict": STATE, "trap": Trap(tmp_path / "sprung")}
    torch.save(trap, tmp_path / "w.pth")
    with pytest.raises(UserError, match="without executing code"):
        read_foreign(tmp_path / "w.pth")
    (tmp_path / "p.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung"), protocol=2))
    with pytest.raises(UserError, match="without executing code"):
        read_foreign(tmp_path / "p.bin")
    assert not (tmp_path / "sprung").exists()


def test_a_whole_pickled_module_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_foreign(tmp_path / "w.pth")


def zipped(content: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return memory.getvalue()


def saved(content: object) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no checkpoint"),
        (b"a page of text instead of weights\n" * 20, "no checkpoint"),
        (b"<html>404</html>", "no checkpoint"),
        (zipped({"a.txt": b"x"}), "no checkpoint"),
        (zipped({"archive/data.pkl": b"x", "archive/version": b"3"}), "no checkpoint"),
        (pickle.dumps({"a": 1}, protocol=5), "no checkpoint"),
        (saved(STATE)[:-200], "no checkpoint"),
        (saved(STATE)[:300], "no checkpoint"),
        (saved([1, 2]), "holds a list"),
        (saved(torch.ones(2)), "holds a Tensor"),
        (saved({"epoch": 3}), "no tensors"),
        (saved({"state_dict": {}}), "no tensors"),
    ],
)
def test_bad_files_are_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as caught:
        read_foreign(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_never_give_another_error(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[float, int]]
) -> None:
    whole = bytearray(saved(STATE))
    for place, byte in damage:
        # Most of the damage goes to the front, where the pickle lies.
        whole[int(place**2 * (len(whole) - 1))] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(bytes(whole))
    with contextlib.suppress(UserError):
        assert read_foreign(path).tensors


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        read_foreign(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        read_foreign(tmp_path / "w.pth")


def test_numbers_of_numpy_do_not_stop_a_reading(tmp_path: Path) -> None:
    torch.save({"model": STATE, "best": float(np.float64(0.5))}, tmp_path / "w.pth")
    assert same(read_foreign(tmp_path / "w.pth").tensors)


def test_what_lies_beside_the_weights_is_named(tmp_path: Path) -> None:
    content = {"state_dict": {**STATE, "step": 3}, "optimizer": {"state": {}}, "epoch": 7}
    torch.save(content, tmp_path / "w.pth")
    assert read_foreign(tmp_path / "w.pth").left_out == ("optimizer", "epoch", "step")


@pytest.mark.parametrize(
    "odd",
    [
        torch.eye(2).to_sparse(),
        torch.ones(2, dtype=torch.complex64),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "complex", "quantised"],
)
@pytest.mark.filterwarnings("ignore:torch.quantize")
def test_tensors_that_no_model_has_are_refused(odd: Tensor, tmp_path: Path) -> None:
    torch.save({**STATE, "odd": odd}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: (sparse, quantised or complex|is no checkpoint)"):
        read_foreign(tmp_path / "w.pth")
