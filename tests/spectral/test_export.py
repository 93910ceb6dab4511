"""Graphs for other runtimes: matrix products, any length and batch, the same values."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sonoformer.spectral.istft import Istft
from sonoformer.spectral.kaldi import FbankConfig, KaldiFbank
from sonoformer.spectral.mel_config import MelConfig
from sonoformer.spectral.mel_spectrogram import MelSpectrogram
from sonoformer.spectral.mfcc import Mfcc, MfccConfig
from sonoformer.spectral.scaled_stft import ScaledStft
from sonoformer.spectral.stft import Stft

pytestmark = pytest.mark.slow


class Planes(nn.Module):
    def __init__(self, stft: Stft | ScaledStft) -> None:
        super().__init__()
        self.stft = stft

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        re, im, frames = self.stft.planes(wave, lengths)
        return torch.stack([re, im], -1), frames


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def exported(module: nn.Module, inputs: tuple, shapes: tuple):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(
        module.eval(), inputs, dynamo=True, dynamic_shapes=shapes, verbose=False
    )
    file = io.BytesIO()
    program.save(file)
    kinds = {node.op_type for node in program.model.graph}
    # No Fourier operator: other runtimes have none, or a slow one.
    assert not kinds & {"DFT", "STFT", "Loop"}
    # Matrices are made from one turn of a circle rather than carried along.
    assert len(file.getvalue()) < 3_000_000
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [found.name for found in session.get_inputs()]

    def run(*values: Tensor) -> list[np.ndarray]:
        named = zip(names, (value.numpy() for value in values), strict=True)
        return session.run(None, dict(named))

    return run


@pytest.mark.parametrize(
    "module",
    [
        Planes(Stft(n_fft=512, hop_length=128)),
        Planes(Stft(n_fft=512, hop_length=128, center=False)),
        Planes(ScaledStft(n_fft=512, n_bins=30)),
        MelSpectrogram(n_mels=40),
        MelSpectrogram(n_fft=400, hop_length=160, kind="gammatone", pad_mode="zeros"),
        Mfcc(MfccConfig()),
        Mfcc(n_mfcc=8, mel=MelConfig(n_fft=512, trainable_filters="edges")),
        KaldiFbank(FbankConfig()),
    ],
    ids=lambda module: type(module).__name__,
)
def test_spectra_of_any_length(module: nn.Module) -> None:
    batch, samples = torch.export.Dim("batch", max=64), torch.export.Dim("samples", min=4096)
    inputs = (noise(2, 8000), torch.tensor([8000, 5000]))
    run = exported(module, inputs, ({0: batch, 1: samples}, {0: batch}))
    for wave, lengths in (inputs, (noise(3, 9999, seed=1), torch.tensor([9999, 700, 4100]))):
        inside = torch.arange(wave.shape[1]) < lengths.unsqueeze(1)
        wave = torch.where(inside, wave, 0)
        exact, counts = module(wave, lengths)
        found, frames = run(wave, lengths)
        assert frames.tolist() == counts.tolist()
        for row, count in enumerate(counts.tolist()):
            gap = np.abs(found[row, :count] - exact[row, :count].detach().numpy()).max()
            assert gap < 5e-3 if isinstance(module, KaldiFbank) else gap < 5e-4


def test_the_inverse_of_any_length() -> None:
    batch, frames = torch.export.Dim("batch", max=64), torch.export.Dim("frames", min=4)
    stft, inverse = Stft(n_fft=512, hop_length=128), Istft(n_fft=512, hop_length=128)

    def planes(wave: Tensor) -> tuple[Tensor, Tensor]:
        re, im, _ = stft.planes(wave)
        return re.contiguous(), im.contiguous()

    shapes = ({0: batch, 1: frames}, {0: batch, 1: frames})
    run = exported(inverse, planes(noise(2, 1280)), shapes)
    wave = noise(3, 128 * 40, seed=1)
    assert np.abs(run(*planes(wave))[0] - wave.numpy()).max() < 1e-6
