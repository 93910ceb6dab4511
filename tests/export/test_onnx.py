"""ONNX files: what onnxruntime makes of them is what the model makes, at any length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sonoformer.encoders import ast_config, new_encoder, ssamba2_config, ssamba_config
from sonoformer.errors import UserError
from sonoformer.export import to_onnx
from sonoformer.spectral import FbankConfig
from sonoformer.tasks.model import Model

pytest.importorskip("onnxscript")
FRONT = FbankConfig(sample_rate=8000, n_mels=32)


def small(make: Callable, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return new_encoder(make("micro", dim=64, depth=1, front=FRONT, table=(2, 8), **changes)).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "frames"),
    [(ssamba_config, 96), (ssamba_config, None), (ssamba2_config, None), (ast_config, None)],
)
def test_outputs_are_the_models(make: Callable, frames: int | None, tmp_path: Path) -> None:
    encoder = small(make)
    done = to_onnx(encoder, tmp_path / "model.onnx", frames)  # type: ignore[arg-type]
    assert done.difference < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(str(done.path))
    for length in [frames] if frames else [40, 700]:
        clips = torch.randn(3, length, 32)
        with torch.inference_mode():
            ours = encoder(clips).pool().numpy()
        theirs = session.run(None, {"spectrogram": clips.numpy()})[0]
        np.testing.assert_allclose(theirs, ours, atol=1e-4)


@pytest.mark.slow
def test_a_classifier_of_any_length(tmp_path: Path) -> None:
    model = Model(small(ssamba_config), ["a", "b", "c"]).eval()
    done = to_onnx(model, tmp_path / "model.onnx")
    assert done.difference < 1e-4


def test_lengths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    encoder = small(ssamba_config)
    with pytest.raises(UserError, match="frames: a patch is 16 long"):
        to_onnx(encoder, tmp_path / "model.onnx", 8)  # type: ignore[arg-type]
    other = small(ssamba_config, positions="reference")
    with pytest.raises(UserError, match="reference rule"):
        to_onnx(other, tmp_path / "model.onnx")  # type: ignore[arg-type]
