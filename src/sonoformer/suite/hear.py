"""HEAR's interface: holistic evaluation of audio representations (Turian et al. 2022).

    import sonoformer.suite.hear as module
    model = module.load_model("runs/pretrain")
    scenes = module.get_scene_embeddings(audio, model)
    tokens, milliseconds = module.get_timestamp_embeddings(audio, model)

HEAR's programs take the module by name: `hear-eval-kit` with `sonoformer.suite.hear --model PATH`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sonoformer.encoders import load_encoder
from sonoformer.errors import UserError
from sonoformer.suite.times import columns_of

# Clips heard at once; HEAR hands over batches of any size.
_BATCH = 16


class HearModel(nn.Module):
    """An encoder with the attributes that HEAR asks for.

    Args:
        encoder: an `nn.tokens.Encoder`.
        seconds: longest stretch that it hears at once.

    Attributes:
        sample_rate: Hz of the audio it takes.
        scene_embedding_size: two numbers (mean, standard deviation over time) for each of a
            column's.
        timestamp_embedding_size: all tokens of one time side by side.
    """

    sample_rate: int
    scene_embedding_size: int
    timestamp_embedding_size: int

    def __init__(self, encoder: nn.Module, seconds: float = 10.0) -> None:
        super().__init__()
        self.encoder, self.seconds = encoder.eval(), seconds
        self.sample_rate = int(encoder.sample_rate)  # type: ignore[arg-type]
        with torch.inference_mode():
            home = next(encoder.parameters()).device
            second = torch.zeros(1, self.sample_rate, device=home)
            self.timestamp_embedding_size = columns_of(encoder, second)[0].shape[2]
        self.scene_embedding_size = 2 * self.timestamp_embedding_size

    @torch.inference_mode()
    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """`(sounds, samples)` -> `(sounds, times, size)` on the model's device, and seconds.

        Raises:
            UserError: audio of another shape.
        """
        if audio.ndim != 2 or not audio.shape[1]:
            raise UserError(f"audio: must be (sounds, samples); got {tuple(audio.shape)}")
        home = next(self.encoder.parameters()).device
        parts = [
            columns_of(self.encoder, x.to(home).float(), self.seconds) for x in audio.split(_BATCH)
        ]
        return torch.cat([columns for columns, _ in parts]), torch.from_numpy(parts[0][1])


def load_model(model_file_path: str | Path = "") -> HearModel:
    """A model from a run, checkpoint or weights file.

    Raises:
        UserError: no path, or nothing that can be loaded there.
    """
    if not str(model_file_path):
        raise UserError("load_model: name a run or checkpoint; there are no default weights")
    return HearModel(load_encoder(model_file_path))


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """`(sounds, times, timestamp_embedding_size)` and milliseconds `(sounds, times)`."""
    columns, seconds = model(audio)
    times = (seconds * 1000).float().to(columns.device).expand(len(columns), -1)
    return columns, times.clone()


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """`(sounds, scene_embedding_size)`: mean and standard deviation over time of the columns."""
    columns, _ = model(audio)
    spread = (columns.var(1, correction=0) + 1e-6).sqrt()
    return torch.cat([columns.mean(1), spread], 1)
