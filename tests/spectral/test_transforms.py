"""Every transform as a model's front end: shapes, padding, statistics, learning, checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from sonoformer.encoders import AstEncoder, ast_config, load_encoder, save_encoder
from sonoformer.errors import UserError
from sonoformer.pretraining.pretrain import PretrainConfig
from sonoformer.spectral import FbankConfig, FrontEnd
from sonoformer.spectral.config import Transform

BASE = FbankConfig(sample_rate=8000, n_mels=32, low_hz=110, mean=-3.0, std=2.0)
CONFIGS = {kind: replace(BASE, transform=kind) for kind in get_args(Transform)}
CONFIGS["kaldi pcen"] = replace(BASE, compress="pcen")
CONFIGS["htk pcen"] = replace(BASE, transform="htk", compress="pcen")
CONFIGS["cqt pcen"] = replace(BASE, transform="cqt", compress="pcen")
CONFIGS["fft 512"] = replace(BASE, fft_length=512)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", CONFIGS)
def test_shapes_lengths_and_padding(name: str) -> None:
    """Frames are as many as the options say, and padding in a batch changes none of them."""
    config = CONFIGS[name]
    front, wave = FrontEnd(config), noise(3, 9000)
    lengths = torch.tensor([9000, 5003, 2000])
    for clip, length in zip(wave, lengths, strict=True):
        clip[length:] = 0
    spec, frames = front(wave, lengths)
    assert frames.tolist() == [config.frames(int(length)) for length in lengths]
    assert spec.shape == (3, config.frames(9000), 32)
    assert torch.isfinite(spec).all()
    for clip, length, count, found in zip(wave, lengths, frames, spec, strict=True):
        alone, _ = front(clip[None, :length])
        assert (found[:count] - alone[0]).abs().max() < 2e-3
        assert (found[count:] == 0).all()
    raw, _ = front.raw(wave[:1])
    assert torch.allclose((raw + 3.0) / 4.0, spec[:1], atol=1e-4)


def test_a_longer_clip_after_a_short_one() -> None:
    """Blocks in memory that is used again grow with the clips of a batch."""
    front, wave = FrontEnd(CONFIGS["htk"]), noise(2, 40000)
    lengths = torch.tensor([9000, 40000])
    wave[0, 9000:] = 0
    found, _ = front(wave, lengths)
    assert torch.allclose(found[1], front(wave[1:])[0][0], atol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_high_tone_lies_above_a_low_one(name: str) -> None:
    if name in ("mfcc", "gfcc"):
        pytest.skip("cepstral coefficients are no frequencies")
    time = torch.arange(8000) / 8000
    # The bins of a CQT end at 270 Hz here.
    hertz = torch.tensor([[140.0], [250.0]] if "qt" in name else [[300.0], [900.0]])
    tones = 0.3 * torch.sin(2 * torch.pi * hertz * time)
    tones = tones * (time % 0.5 < 0.2)  # PCEN hears what changes
    spec, _ = FrontEnd(CONFIGS[name])(tones + 1e-4 * noise(2, 8000))
    place = spec.mean(1).argmax(1)
    assert place[0] < place[1]


@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_takes_it_and_comes_back(name: str, tmp_path: Path) -> None:
    shape = {"dim": 32, "depth": 1, "heads": 1}
    encoder = AstEncoder(ast_config("tiny", front=CONFIGS[name], **shape)).eval()
    assert encoder.config.table[0] == 2
    save_encoder(encoder, tmp_path / "model", "card")
    again = load_encoder(tmp_path / "model")
    wave = noise(1, 8000)
    with torch.no_grad():
        assert torch.equal(encoder(wave).x, again(wave).x)


@pytest.mark.parametrize("kind", ["htk", "gammatone", "log", "leaf", "kaldi pcen"])
def test_what_is_learnt_is_saved(kind: str, tmp_path: Path) -> None:
    config = replace(CONFIGS[kind], trainable=True)
    shape = {"dim": 32, "depth": 1, "heads": 1}
    encoder = AstEncoder(ast_config("tiny", front=config, **shape))
    learnt = [p for n, p in encoder.named_parameters() if n.startswith("front_end.")]
    assert learnt
    encoder(noise(2, 8000)).x.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in learnt)
    with torch.no_grad():
        for parameter in learnt:
            parameter.mul_(1.05)
    save_encoder(encoder, tmp_path / "model", "card")
    again = load_encoder(tmp_path / "model")
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    wave = noise(1, 8000)
    with torch.no_grad():
        assert torch.equal(encoder.eval().front(wave)[0], again.front(wave)[0])
    fixed = AstEncoder(ast_config("tiny", front=CONFIGS[kind], **shape))
    assert not any(p.requires_grad for p in fixed.front_end.parameters())


def test_pretraining_does_not_learn_what_it_predicts() -> None:
    with pytest.raises(UserError, match=r"front\.trainable"):
        PretrainConfig(front=FbankConfig(transform="htk", trainable=True))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"transform": "wavelet"}, "transform: must be one of"),
        ({"transform": "htk", "window": "povey"}, "are kaldi's"),
        ({"transform": "mfcc", "compress": "pcen"}, "mfcc cannot take pcen"),
        ({"transform": "cqt", "trainable": True}, "cqt with log has nothing to learn"),
        ({"fft_length": 100}, "fft_length: must hold a frame of 400"),
    ],
)
def test_bad_combinations(bad: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        FbankConfig(**bad)
    with pytest.raises(UserError, match="Hz"):
        FrontEnd(FbankConfig(transform="cqt", low_hz=4000, n_mels=128))
