"""X-ARES's interface: an encoder as that suite takes it (Zhang et al. 2025).

    encoder = XaresEncoder("runs/pretrain")
    encoder(audio)  # (batch, samples) -> (batch, time, output_dim)

X-ARES asks for a file that makes the encoder; two lines are enough:

    from sonoformer.suite.xares import XaresEncoder
    encoder = XaresEncoder("runs/pretrain")
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sonoformer.encoders import load_encoder
from sonoformer.errors import UserError
from sonoformer.suite.times import columns_of


class XaresEncoder(nn.Module):
    """An encoder with the attributes that X-ARES asks for.

    Args:
        encoder: a run, checkpoint or weights file, or an `nn.tokens.Encoder`.
        seconds: longest stretch that it hears at once.

    Attributes:
        sampling_rate: Hz of the audio it takes.
        output_dim: all tokens of one time side by side.
        hop_size_in_ms: time from one output to the next.
    """

    def __init__(self, encoder: str | Path | nn.Module, seconds: float = 10.0) -> None:
        super().__init__()
        loaded = encoder if isinstance(encoder, nn.Module) else load_encoder(encoder)
        self.encoder, self.seconds = loaded.eval(), seconds
        self.sampling_rate = int(loaded.sample_rate)  # type: ignore[arg-type]
        self.hop_size_in_ms = 1000 * float(loaded.seconds_per_token)  # type: ignore[arg-type]
        with torch.inference_mode():
            home = next(loaded.parameters()).device
            second = torch.zeros(1, self.sampling_rate, device=home)
            self.output_dim = columns_of(loaded, second)[0].shape[2]

    def forward(self, audio: Tensor) -> Tensor:
        """`(batch, samples)` in [-1, 1] -> `(batch, time, output_dim)`.

        Raises:
            UserError: audio of another shape.
        """
        if audio.ndim != 2 or not audio.shape[1]:
            raise UserError(f"audio: must be (batch, samples); got {tuple(audio.shape)}")
        home = next(self.encoder.parameters()).device
        with torch.inference_mode():
            return columns_of(self.encoder, audio.to(home).float(), self.seconds)[0].clone()
