"""A model in half precision and without what only training needs: half the size, to give away."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from sonoformer.encoders import find_checkpoint, load_encoder
from sonoformer.errors import UserError
from sonoformer.nn.tokens import Encoder
from sonoformer.tasks.model import Model, load_model
from sonoformer.weights import load_checkpoint, save_checkpoint
from sonoformer.weights.folder import CARD


def to_half(model: str | Path, folder: str | Path, card: str | None = None) -> tuple[Path, float]:
    """Write a checkpoint whose weights are stored in fp16; they are used in fp32 as before.

    The heads of a pretraining objective are left out, so that only the encoder (and a classifier's
    head) remains.

    Args:
        model: a run or checkpoint folder of ours.
        folder: where; an earlier checkpoint there is replaced.
        card: text of its README; the model's own if absent.

    Returns:
        The folder, and the largest difference of logits (of tokens, without a head) between the
        model and what was written, on two clips of noise of a second.

    Raises:
        UserError: no checkpoint there, or weights beyond the range of fp16.
    """
    source = find_checkpoint(model)
    tensors, config = load_checkpoint(source)
    kept = {n: v for n, v in tensors.items() if not n.startswith("objective.")}
    config = {name: value for name, value in config.items() if name != "format"}
    if "objective" in config:
        config["objective"] = {"name": config["objective"].get("name")}
    halves = {n: v.half() if v.is_floating_point() else v for n, v in kept.items()}
    beyond = [n for n, v in halves.items() if v.is_floating_point() and not v.isfinite().all()]
    if beyond:
        raise UserError(
            f"{source}: {', '.join(beyond[:3])} has weights beyond 65504, which half precision "
            "cannot hold; keep the model as it is"
        )
    text = (source / CARD).read_text(encoding="utf-8") if card is None else card
    written = save_checkpoint(folder, halves, config, text)
    return written, float((_outputs(source) - _outputs(written)).abs().max())


@torch.inference_mode()
def _outputs(folder: Path) -> torch.Tensor:
    config = load_checkpoint(folder)[1]
    model = load_model(folder) if "head" in config else load_encoder(folder)
    encoder = cast(Encoder, model.encoder if isinstance(model, Model) else model)
    rate = encoder.sample_rate
    generator = torch.Generator().manual_seed(0)
    noise = 0.1 * torch.randn(2, rate, generator=generator)
    found = model(noise)
    return found if isinstance(found, torch.Tensor) else found.x
