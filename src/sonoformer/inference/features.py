"""An encoder's features over recordings: one vector a window."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from sonoformer.inference.engine import Compute
from sonoformer.nn.tokens import Encoder, Pooling


def pooled_features(
    encoder: Encoder, device: torch.device, pool: Pooling = "mean", layer: int | None = None
) -> Compute:
    """What `compute_table` runs to embed recordings: a column `embedding` of `dim` floats.

    Args:
        encoder: the encoder, in eval mode on `device`.
        device: where it runs.
        pool: mean of the tokens made of real sound, or mean of the prefix tokens.
        layer: block whose output is taken, counted from 0; the final norm's output if absent.
    """

    @torch.inference_mode()
    def compute(wave: Tensor, lengths: Tensor) -> pl.DataFrame:
        layers = None if layer is None else (layer,)
        tokens = encoder(wave.to(device), lengths.to(device), layers=layers)
        if layer is not None:
            tokens.x = tokens.layers[0]
        vectors = tokens.pool(pool).float().cpu().numpy()
        return pl.DataFrame(
            {"embedding": pl.Series(np.ascontiguousarray(vectors))},
            schema={"embedding": pl.Array(pl.Float32, vectors.shape[1])},
        )

    return compute
