"""A model as an ONNX file: log-mel spectrograms in, features or logits out.

Clips of a batch have one length and no padding. The waveform's way to the spectrogram stays
outside: `encoder.front`, whose numbers the file's metadata names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.encoders import PatchEncoder
from sonoformer.errors import UserError
from sonoformer.files import atomic
from sonoformer.nn.patches import grid_of
from sonoformer.settings import plain
from sonoformer.tasks.model import Model

_MOST = 2**16
"""Frames of the longest clip that a file of dynamic length takes: eleven minutes."""


@dataclass(frozen=True)
class OnnxExport:
    """A file that was written, run and compared.

    Attributes:
        path: the file.
        difference: largest difference of outputs between the model and what was written, on noise.
        frames: length of its clips; None for any.
    """

    path: Path
    difference: float
    frames: int | None


class _Graph(nn.Module):
    """Spectrograms `(batch, frames, bins)` -> mean of the tokens, or logits, without padding.

    The patches are a convolution here and positions are looked up, so that the number of frames
    may stay open.
    """

    positions: Tensor

    def __init__(self, model: Model | PatchEncoder, frames: int | None) -> None:
        super().__init__()
        encoder = cast(PatchEncoder, model.encoder) if isinstance(model, Model) else model
        self.encoder, self.head = encoder, model.head if isinstance(model, Model) else None
        self.layers = model._layers if isinstance(model, Model) else None
        config = encoder.config
        rows, columns = self._positions(frames)
        with torch.no_grad():
            table = encoder.position_table((rows, columns)).unflatten(0, (rows, columns))
        self.register_buffer("positions", table.detach().clone())
        self.patch, self.stride = config.patch, config.stride

    def _positions(self, frames: int | None) -> tuple[int, int]:
        """Rows, and columns up to where the table's last column holds for all that follow."""
        config = self.encoder.config
        long = frames
        if long is None:
            cells = (config.table[1] - 1) * config.table_stride[1]
            long = -(-cells // config.stride[1]) * config.stride[1] + config.patch[1]
        return grid_of(config.front.n_mels, long, config.patch, config.stride)

    def forward(self, spectrogram: Tensor) -> Tensor:
        weight = self.encoder.patch_embed.proj.weight
        bias = self.encoder.patch_embed.proj.bias
        x = F.conv2d(spectrogram.transpose(1, 2).unsqueeze(1), weight, bias, self.stride)
        rows, columns = x.shape[2], x.shape[3]
        place = torch.arange(columns, device=x.device).clamp(max=self.positions.shape[1] - 1)
        position = self.positions.index_select(1, place)
        x = x.permute(0, 2, 3, 1) + position
        tokens = self.encoder.encode(x.flatten(1, 2), None, (rows, columns), self.layers)
        return tokens.pool() if self.head is None else self.head(tokens)


def to_onnx(model: Model | PatchEncoder, path: str | Path, frames: int | None = None) -> OnnxExport:
    """Write one file, and compare what onnxruntime makes of it.

    Args:
        model: a classifier, or an encoder alone, whose output is the mean of its tokens.
        path: the file.
        frames: frames of the clips; any number from one patch on if absent.

    Raises:
        UserError: onnx is not installed, or a length that the model does not take.
    """
    _needed()
    encoder = cast(PatchEncoder, model.encoder) if isinstance(model, Model) else model
    config = encoder.config
    frames = frames or config.front.fixed_frames
    if frames is not None and frames < config.patch[1]:
        raise UserError(f"frames: a patch is {config.patch[1]} long; got {frames}")
    if frames is None and config.positions == "reference":
        raise UserError(
            "frames: with the reference rule positions depend on the clip's length; say it"
        )
    training = model.training
    graph = _Graph(model.eval(), frames).eval()
    try:
        # Long enough for several chunks of `duality`: what is 1 while exporting stays 1.
        clips = _noise(config, frames or 96 * config.stride[1] + config.patch[1])
        made = _exported(graph, clips, frames, config.patch[1])
        path = Path(path)
        made.model.metadata_props["sonoformer"] = json.dumps(plain(config.front))
        with atomic(path) as scratch:
            made.save(str(scratch))
        tried = clips if frames else _noise(config, 7 * config.patch[1] + 1)
        with torch.inference_mode():
            ours = graph(tried)
            whole = model.logits(tried) if isinstance(model, Model) else model(tried).pool()
        assert torch.allclose(ours, whole, atol=1e-3, rtol=1e-3)
        difference = float((_run(path, tried) - whole).abs().max())
    finally:
        model.train(training)
    return OnnxExport(path, difference, frames)


def _exported(
    graph: _Graph, clips: Tensor, frames: int | None, shortest: int
) -> torch.onnx.ONNXProgram:
    batch = torch.export.Dim("batch", min=1, max=1024)
    shapes: dict[int, object] = {0: batch}
    if frames is None:
        shapes[1] = torch.export.Dim("frames", min=2 * shortest, max=_MOST)
    with torch.no_grad():
        made = torch.onnx.export(
            graph,
            (clips,),
            input_names=["spectrogram"],
            output_names=["logits" if graph.head is not None else "features"],
            dynamic_shapes=(shapes,),
            dynamo=True,
            verbose=False,
        )
    assert made is not None
    return made


def _noise(config: object, frames: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    bins = config.front.n_mels  # type: ignore[attr-defined]
    return 0.5 * torch.randn(2, frames, bins, generator=generator)


def _run(path: Path, clips: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"spectrogram": clips.numpy()})[0])


def _needed() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"onnx: {error.name} is not installed; `pip install onnx onnxruntime onnxscript`"
        ) from None
