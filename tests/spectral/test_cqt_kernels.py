"""The convolution form: its tables, training them, export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral import cqt as cqt_module
from sonoformer.spectral.cqt import Cqt
from sonoformer.spectral.cqt_config import CqtConfig
from sonoformer.spectral.cqt_kernels import KernelBank, table_values

TINY = CqtConfig(sample_rate=800, hop_length=16, fmin=60.0, n_bins=9, bins_per_octave=6)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_tables_hold_every_kernel_once() -> None:
    bank = KernelBank(CqtConfig(n_bins=40))
    tables = bank.analytic()
    assert sum(len(table) for table in tables.values()) == 2 * 40
    assert sum(table.numel() for table in tables.values()) == table_values(bank.config)
    lengths = bank.config.lengths
    for table, first in zip(tables.values(), (0, 12, 24, 36), strict=True):
        real = table[0, 0]
        assert real.count_nonzero() > 0.9 * lengths[first]
        assert len(real) < lengths[first] + 3


def test_trained_kernels_are_saved_and_reset() -> None:
    cqt = Cqt(**{**vars(TINY), "trainable": True})
    wave = noise(2, 500)
    start = cqt(wave)[0].detach()
    assert (start - Cqt(TINY)(wave)[0]).abs().max() < 1e-4
    rate = torch.optim.SGD(cqt.parameters(), 0.1)
    cqt(wave)[0].square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in cqt.parameters())
    rate.step()
    trained = cqt(wave)[0].detach()
    assert (trained - start).abs().max() > 1e-3
    other = Cqt(**{**vars(TINY), "trainable": True})
    other.load_state_dict(cqt.state_dict())
    assert torch.equal(other(wave)[0], trained)
    cqt.reset_to_analytic()
    assert torch.equal(cqt(wave)[0], start)


def test_fixed_kernels_are_in_no_checkpoint() -> None:
    cqt = Cqt(**{**vars(TINY), "backend": "gemm"})
    assert not list(cqt.parameters())
    assert not cqt.state_dict()
    cqt.reset_to_analytic()


def test_gradients_of_kernels() -> None:
    cqt = Cqt(**{**vars(TINY), "trainable": True, "n_bins": 4}).double()
    wave = noise(1, 100).double()
    names = [name for name, _ in cqt.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in cqt.parameters())

    def of_kernels(*tables: Tensor) -> Tensor:
        return torch.func.functional_call(cqt, dict(zip(names, tables, strict=True)), (wave,))[0]

    assert torch.autograd.gradcheck(of_kernels, values, fast_mode=True)


@pytest.mark.slow
def test_export_runs_elsewhere(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    cqt = Cqt(TINY).eval()
    shapes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("samples")},)
    program = torch.onnx.export(
        cqt, (noise(2, 900),), dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    assert program is not None
    program.save(tmp_path / "cqt.onnx")
    run = runtime.InferenceSession(tmp_path / "cqt.onnx")
    wave = noise(3, 1234, seed=1)
    found, frames = run.run(None, {run.get_inputs()[0].name: wave.numpy()})
    wanted, counts = Cqt(**{**vars(TINY), "backend": "gemm"})(wave)
    assert np.abs(found - wanted.numpy()).max() < 1e-5
    assert frames.tolist() == counts.tolist()


def test_large_kernels_are_not_made_just_in_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cqt_module, "_SPARE", 10)
    cqt = Cqt(TINY)
    assert cqt.bank is None
    cqt(noise(100))
    cqt.reset_to_analytic()
    monkeypatch.setattr(cqt_module, "exporting", lambda: True)
    with pytest.raises(UserError, match="backend"):
        cqt(noise(100))
