"""Where token columns lie: counts agree with the encoder, times with a click."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sonoformer.encoders import AstConfig, AstEncoder
from sonoformer.encoders.columns import ColumnGrid, row_hertz
from sonoformer.spectral import FbankConfig

FRONTS = {
    "kaldi": FbankConfig(sample_rate=8000, n_mels=16),
    "slaney": FbankConfig(sample_rate=8000, n_mels=16, transform="slaney", low_hz=0.0),
    "cqt": FbankConfig(sample_rate=8000, n_mels=16, transform="cqt", low_hz=200.0, hop_ms=16.0),
}


def encoder(front: FbankConfig, **shape: tuple[int, int]) -> AstEncoder:
    torch.manual_seed(0)
    plain = {"patch": (8, 8), "stride": (8, 8), "table": (2, 32), "table_stride": (8, 8)}
    return AstEncoder(AstConfig(dim=16, depth=1, heads=2, front=front, **(plain | shape))).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("shape", [{}, {"stride": (4, 5)}, {"patch": (16, 2), "stride": (16, 2)}])
def test_counts_are_the_encoders(front: str, shape: dict) -> None:
    model = encoder(FRONTS[front], **shape)
    grid = ColumnGrid.of(model)
    for samples in (3000, 3001, 5000, 8111, grid.needed(3), grid.needed(7)):
        with torch.no_grad():
            tokens = model(torch.zeros(1, samples), torch.tensor([samples]))
        assert grid.count(samples) == int(tokens.valid_frames().sum())
    for columns in (1, 2, 9):
        assert grid.count(grid.needed(columns)) == columns
        assert grid.count(grid.needed(columns) - 1) == columns - 1


@pytest.mark.parametrize("front", FRONTS)
def test_a_click_is_heard_in_the_cell_of_its_time(front: str) -> None:
    model = encoder(FRONTS[front])
    grid = ColumnGrid.of(model)
    edges = grid.edges(12)
    for cell in (3, 7):
        wave = torch.full((1, 16000), 1e-4)
        wave[0, round(grid.times(12)[cell] * 8000)] = 0.9
        with torch.no_grad():
            spec, _ = model.front(wave)
            quiet, _ = model.front(torch.full((1, 16000), 1e-4))
        change = (spec - quiet).abs().sum(2)[0]
        centre = float((change * torch.arange(len(change))).sum() / change.sum())
        time = (centre * grid.front.hop_length + grid._frame / 2) / 8000
        assert edges[cell] < time < edges[cell + 1]


def test_cells_lie_side_by_side_around_their_middles() -> None:
    grid = ColumnGrid.of(encoder(FRONTS["kaldi"]))
    edges, times = grid.edges(5, start=2.0), grid.times(5)
    assert edges[:-1] + grid.step / 2 == pytest.approx(times + 2.0)
    assert grid.step == pytest.approx(0.08)
    assert grid.first == pytest.approx(0.0475)


def test_rows_have_bands_of_their_filters() -> None:
    bands = row_hertz(encoder(FRONTS["kaldi"]))
    assert bands is not None
    assert bands.shape == (2, 2)
    assert bands[0, 0] == pytest.approx(20)
    assert bands[1, 1] == pytest.approx(4000)
    assert bands[0, 1] > bands[1, 0]  # neighbouring filters overlap
    octaves = row_hertz(encoder(FRONTS["cqt"]))
    assert octaves is not None
    assert octaves[1, 0] / octaves[0, 0] == pytest.approx(2 ** (8 / 24))
    assert row_hertz(encoder(FbankConfig(sample_rate=8000, n_mels=16, transform="mfcc"))) is None
    assert np.all(np.diff(bands, axis=1) > 0)
