"""What corrupted spectrograms hold, and that padding and neighbours do not enter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.nn.corruption import (
    AlienConfig,
    CorruptionConfig,
    alien_noise,
    corrupt,
    corruption_noise,
    overwrite,
)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_padding_and_neighbours_change_nothing() -> None:
    config = CorruptionConfig(fill="noise", alien=AlienConfig(probability=0.0))
    real = torch.tensor([40, 7, 64])
    clean = uniform(3, 64, 16, seed=1) * (torch.arange(64) < real.unsqueeze(1)).unsqueeze(2)
    noise = uniform(3, corruption_noise(config, (64, 16)), seed=2)
    together = corrupt(clean, real, noise, config)
    for row, count in enumerate(real.tolist()):
        one = slice(row, row + 1)
        alone = corrupt(clean[one, :count], real[one], noise[one], config)
        assert torch.equal(alone.spec[0], together.spec[row, :count])
        assert torch.equal(alone.mask[0], together.mask[row, :count])
        assert not together.mask[row, count:].any()
        assert torch.equal(together.spec[row, count:], clean[row, count:])


@pytest.mark.parametrize(
    ("fill", "mean", "std"),
    [("zeros", 0, 0), ("time", 0, 0), ("frequency", 0, 0), ("noise", 0, 0.5), ("reference", -4, 3)],
)
def test_what_rectangles_hold(fill: Any, mean: float, std: float) -> None:
    config = CorruptionConfig(fill=fill, alien=AlienConfig(probability=0.0))
    clean = 5 + uniform(8, 96, 32)
    noise = uniform(8, corruption_noise(config, (96, 32)), seed=1)
    spec, mask = corrupt(clean, torch.full((8,), 96), noise, config, scale=(-4.0, 3.0))
    assert torch.equal(spec[~mask], clean[~mask])
    held = spec[mask]
    assert held.mean().item() == pytest.approx(mean, abs=0.1)
    assert held.std().item() == pytest.approx(std, abs=0.1)
    assert 0.5 <= mask.float().mean((1, 2)).min() <= mask.float().mean((1, 2)).max() < 0.95
    if fill == "time":
        assert torch.equal(mask.any(2), mask.all(2))
    if fill == "frequency":
        assert torch.equal(mask.any(1), mask.all(1))


def test_aliens_are_others_sound_of_the_same_place() -> None:
    clips, config = 64, AlienConfig()
    clean = torch.arange(clips).view(-1, 1, 1) * 1000.0 + torch.arange(80).view(1, -1, 1)
    clean = clean.expand(-1, -1, 16).contiguous()
    real = torch.full((clips,), 80)
    real[::4] = 9  # short ones go round
    noise = uniform(clips, alien_noise(), seed=3)
    (spec, mask), chosen = overwrite(clean, real, noise, config, (1, 1))
    assert 0.3 < chosen.float().mean() < 0.7
    for row in range(clips):
        held = spec[row][mask[row]]
        owners = (held // 1000).unique()
        assert len(owners) == 1
        assert owners.item() != row
        places = torch.arange(80).view(-1, 1).expand(-1, 16)[mask[row]]
        assert torch.equal(held % 1000, (places % real[owners.long().item()]).float())
        assert torch.equal(spec[row][~mask[row]], clean[row][~mask[row]])
    partners = {int(spec[r][mask[r]][0] // 1000) - r for r in range(clips)}
    assert len(partners) > 20
    any_one = AlienConfig(partner="any")
    (spec, mask), _ = overwrite(clean[:2], real[1:3], noise[:2].clone().fill_(0.0), any_one, (1, 1))
    assert torch.equal(spec, clean[:1].expand(2, -1, -1).where(mask, clean[:2]))


def test_half_of_the_clips_are_aliens_and_a_lonely_clip_is_none() -> None:
    config = CorruptionConfig()
    clean = 1 + uniform(200, 48, 16)
    noise = uniform(200, corruption_noise(config, (48, 16)), seed=4)
    real = torch.full((200,), 48)
    spec, mask = corrupt(clean, real, noise, config)
    zeros = ((spec == 0) == mask).flatten(1).all(1)
    assert 0.4 < zeros.float().mean() < 0.6
    share = mask.float().mean((1, 2))
    assert 0.29 < share[~zeros].min() < share[~zeros].max() < 0.5
    assert share[zeros].min() >= 0.5 - 1e-6
    for row in range(8):
        one = slice(row, row + 1)
        spec, mask = corrupt(clean[one], real[one], noise[one], config)
        assert torch.equal(spec == 0, mask)


def test_no_area_is_no_corruption() -> None:
    config = CorruptionConfig(area=(0.0, 0.0), alien=AlienConfig(area=0.0))
    clean = uniform(4, 48, 16)
    noise = uniform(4, corruption_noise(config, (48, 16)))
    spec, mask = corrupt(clean, torch.full((4,), 48), noise, config)
    assert torch.equal(spec, clean)
    assert not mask.any()


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (CorruptionConfig, {"area": (0.7, 0.5)}, "area"),
        (CorruptionConfig, {"area": (0.5, 1.5)}, "area"),
        (CorruptionConfig, {"align": 0}, "align"),
        (AlienConfig, {"probability": 1.1}, "alien.probability"),
        (AlienConfig, {"area": -0.1}, "alien.area"),
    ],
)
def test_bad_options_are_refused(kind: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        kind(**options)
