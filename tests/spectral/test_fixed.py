"""Clips that are longer than a fixed number of frames."""

from __future__ import annotations

import pytest

from sonoformer.errors import UserError
from sonoformer.spectral import FbankConfig
from sonoformer.spectral.fixed import refuse_unheard


def test_sound_past_the_fixed_frames_is_not_lost_in_silence() -> None:
    refuse_unheard(FbankConfig(), 1000.0, "crop")
    # The longest clip of 128 frames has the 128th to its last sample, and not the 129th.
    front = FbankConfig(fixed_frames=128)
    refuse_unheard(front, (127 * 160 + 400 + 159) / 16000, "crop")
    with pytest.raises(UserError, match=r"crop, fixed_frames: 1\.305 s are 129 .* 1\.295 or less"):
        refuse_unheard(front, (128 * 160 + 400) / 16000, "crop")
