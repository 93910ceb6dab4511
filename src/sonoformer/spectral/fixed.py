"""Clips and a fixed number of frames."""

from __future__ import annotations

from dataclasses import replace

from sonoformer.errors import UserError
from sonoformer.spectral.config import FbankConfig


def refuse_unheard(front: FbankConfig, seconds: float, option: str) -> None:
    """Refuse clips whose end would be cut off by `fixed_frames`, unheard and unsaid.

    Args:
        front: the front end.
        seconds: the longest clip that it will be given.
        option: name of the option that says so.

    Raises:
        UserError: the clip has more frames than are fixed.
    """
    fixed = front.fixed_frames
    frames = replace(front, fixed_frames=None).frames(round(seconds * front.rate))
    if fixed is None or frames <= fixed:
        return
    span = ((fixed - 1) * front.hop_length + front.window_length) / front.rate
    raise UserError(
        f"{option}, fixed_frames: {seconds:g} s are {frames} frames, of which only the first "
        f"{fixed} would be heard; set {option} to {span:g} or less, or fix more frames or none"
    )
