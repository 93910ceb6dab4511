"""Equal level: the same spectrogram however loud a clip was recorded."""

from __future__ import annotations

import torch

from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.spectral.front import equal_level


def test_gain_does_not_matter_and_padding_does_not_count() -> None:
    wave = torch.randn(2, 16000) * 0.1
    wave[1, 9000:] = 0
    lengths = torch.tensor([16000, 9000])
    front = FrontEnd(FbankConfig(level="equal"))
    loud, quiet = front(wave, lengths)[0], front(wave * 0.03, lengths)[0]
    torch.testing.assert_close(loud, quiet, atol=1e-4, rtol=0)
    alone, _ = front(wave[1:, :9000])
    torch.testing.assert_close(alone[0], loud[1, : alone.shape[1]], atol=1e-4, rtol=0)


def test_mean_level_is_minus_26_dbfs_and_silence_stays() -> None:
    wave = torch.stack([torch.randn(8000), torch.zeros(8000)])
    levelled = equal_level(wave)
    assert abs(levelled[0].square().mean().sqrt().item() - 0.05) < 1e-6
    assert levelled[1].abs().max() == 0
