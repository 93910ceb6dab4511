"""HEAR's and X-ARES's interfaces: shapes, times, any length, nobody else's clip."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sonoformer.encoders import AstConfig, AstEncoder, ast_config
from sonoformer.errors import UserError
from sonoformer.suite import hear
from sonoformer.suite.xares import XaresEncoder


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> hear.HearModel:
    return hear.load_model(checkpoint)


def sound(clips: int, seconds: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(clips, int(seconds * 16000), generator=rng)


def test_hears_attributes(model: hear.HearModel) -> None:
    assert model.sample_rate == 16000
    assert model.timestamp_embedding_size == 8 * 24
    assert model.scene_embedding_size == 2 * 8 * 24


@pytest.mark.parametrize("seconds", [0.005, 0.1, 0.5, 1.0, 10.05, 23.0])
def test_hears_shapes_and_times_at_any_length(model: hear.HearModel, seconds: float) -> None:
    audio = sound(2, seconds)
    found, times = hear.get_timestamp_embeddings(audio, model)
    assert found.shape == (2, times.shape[1], model.timestamp_embedding_size)
    assert found.isfinite().all()
    assert (times[0] == times[1]).all()
    assert (times.diff(dim=1) > 0).all()
    if seconds >= 0.2:
        assert 0 <= float(times.min()) <= float(times.max()) < 1000 * seconds
        assert times.diff(dim=1).numpy() == pytest.approx(160, rel=1e-3)
        assert times.shape[1] == pytest.approx(seconds / 0.16, abs=1.6)
    scenes = hear.get_scene_embeddings(audio, model)
    assert scenes.shape == (2, model.scene_embedding_size)
    assert scenes.isfinite().all()


def test_a_scene_is_the_encoders_own_pooling(model: hear.HearModel, encoder: AstEncoder) -> None:
    audio = sound(3, 2.0)
    with torch.no_grad():
        expected = encoder(audio).pool("bands_std")
    found = hear.get_scene_embeddings(audio, model)
    # Both hold means and deviations of rows; a column that is cut off by the end is in neither.
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_clip_is_nobody_elses_business(model: hear.HearModel) -> None:
    audio = sound(20, 0.7)
    together, _ = hear.get_timestamp_embeddings(audio, model)
    alone, _ = hear.get_timestamp_embeddings(audio[7:8], model)
    assert torch.allclose(together[7:8], alone, atol=1e-5)


def test_long_sound_is_cut_between_columns(encoder: AstEncoder) -> None:
    """Parts of another length give other neighbours but the same number, places and sizes."""
    audio = sound(1, 5.0)
    short, long = (hear.HearModel(encoder, seconds)(audio) for seconds in (1.0, 10.0))
    assert short[0].shape == long[0].shape
    assert torch.allclose(short[1], long[1], atol=1e-6)


@pytest.mark.parametrize("audio", [torch.zeros(16000), torch.zeros(2, 0), torch.zeros(1, 2, 160)])
def test_other_shapes_are_refused(model: hear.HearModel, audio: torch.Tensor) -> None:
    with pytest.raises(UserError, match="audio"):
        hear.get_scene_embeddings(audio, model)
    with pytest.raises(UserError, match="audio"):
        XaresEncoder(model.encoder)(audio)
    with pytest.raises(UserError, match="no default weights"):
        hear.load_model()


def test_xares_contract(checkpoint: Path) -> None:
    encoder = XaresEncoder(checkpoint)
    assert (encoder.sampling_rate, encoder.output_dim) == (16000, 192)
    assert encoder.hop_size_in_ms == pytest.approx(160)
    for seconds in (0.05, 1.0, 12.3):
        found = encoder(sound(3, seconds))
        assert found.shape[::2] == (3, encoder.output_dim)
        assert found.shape[1] == pytest.approx(max(1, seconds / 0.16), abs=1.6)
    audio = sound(3, 1.0)
    assert torch.allclose(encoder(audio)[1:2], encoder(audio[1:2]), atol=1e-5)


def test_xares_takes_frame_tokens() -> None:
    config = ast_config("micro", "frame")
    small = AstConfig(
        dim=24, depth=1, heads=2, patch=config.patch, stride=config.stride, table=config.table,
        table_stride=config.table_stride,
    )  # fmt: skip
    encoder = XaresEncoder(AstEncoder(small))
    assert (encoder.output_dim, encoder.hop_size_in_ms) == (24, pytest.approx(20))
    assert encoder(sound(1, 1.0)).shape == (1, 49, 24)
