"""Waveforms continued past both ends, each at its own end."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.spectral.framing import PadMode


def extend(
    wave: Tensor, before: int, after: int, mode: PadMode, lengths: Tensor | None = None
) -> Tensor:
    """Clips with `before` samples in front of them and `after` samples behind the longest.

    Reflection does not repeat the last sample, and goes to and fro in clips that are shorter than
    what is asked for.

    Args:
        wave: `(batch, samples)`.
        before: samples in front; below 0 to cut some off.
        after: samples behind `wave`'s end; below 0 to cut some off.
        mode: what the clips are continued with.
        lengths: `(batch,)` samples of each clip, at which it is continued; all of them if absent.

    Returns:
        `(batch, before + samples + after)`.
    """
    samples = wave.shape[-1]
    if samples == 0:
        return wave.new_zeros(*wave.shape[:-1], before + after)
    if lengths is None:
        if mode == "zeros" and samples + min(before, after, before + after) >= 0:
            return F.pad(wave, (before, after))
        if min(before, after) >= 0 and (mode == "replicate" or max(before, after) < samples):
            return F.pad(wave, (before, after), mode=mode)
    place = torch.arange(-before, samples + after, device=wave.device)
    ends = torch.full((1,), samples, device=wave.device) if lengths is None else lengths
    index, inside = continued(place, ends.to(wave.device).unsqueeze(-1), mode)
    found = wave.gather(-1, index.clamp_max(samples - 1).expand(len(wave), -1))
    return torch.where(inside, found, found.new_zeros(())) if mode == "zeros" else found


def continued(place: Tensor, length: Tensor, mode: PadMode) -> tuple[Tensor, Tensor]:
    """Which sample of a clip stands at a place before, in or after it, and whether it is in it.

    Args:
        place: `(n,)` places, 0 being the clip's first sample.
        length: `(..., 1)` samples of the clips.
        mode: what the clips are continued with.
    """
    last = (length - 1).clamp_min(0)
    inside = (place >= 0) & (place < length)
    if mode != "reflect":
        return torch.minimum(place.clamp_min(0), last), inside
    turn = (2 * last).clamp_min(1)
    there = place.remainder(turn)
    return torch.minimum(there, turn - there).minimum(last), inside
