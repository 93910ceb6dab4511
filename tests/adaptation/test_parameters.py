"""Parameter groups: every weight once, at the right rate; frozen weights do not move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sonoformer.adaptation.parameters import AdaptationConfig, freeze, levels, parameter_groups
from sonoformer.errors import UserError

DEPTH = 4


class Encoder(nn.Module):
    """The names and the order of registration of a real encoder, at a tenth of its size."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 3, 4))
        self.patch_embed = nn.Linear(6, 4)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"norm1": nn.LayerNorm(4), "fc": nn.Linear(4, 4)}) for _ in range(DEPTH)
        )
        self.norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x) + self.pos_embed.mean(1) + self.cls_token[0]
        for block in self.blocks:
            x = x + block["fc"](block["norm1"](x))
        return self.norm(x)


def parts() -> tuple[Encoder, nn.Module]:
    torch.manual_seed(0)
    return Encoder(), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2))


def test_levels_follow_the_blocks() -> None:
    found = levels(Encoder())
    assert found["cls_token"] == found["pos_embed"] == found["patch_embed.weight"] == 0
    assert [found[f"blocks.{i}.fc.weight"] for i in range(DEPTH)] == [1, 2, 3, 4]
    assert found["norm.bias"] == DEPTH + 1


@settings(max_examples=40, deadline=None)
@given(
    train=st.sampled_from(["full", "partial", "head"]),
    blocks=st.integers(1, DEPTH),
    decay=st.floats(0.5, 1),
    multiplier=st.floats(0.1, 10),
    norms=st.booleans(),
)
def test_every_training_weight_is_in_exactly_one_group(
    train: str, blocks: int, decay: float, multiplier: float, norms: bool
) -> None:
    encoder, head = parts()
    config = AdaptationConfig(train, blocks, decay, multiplier, decay_norms=norms)  # type: ignore[arg-type]
    groups = parameter_groups(encoder, head, config, lr=0.1)
    listed = [id(p) for group in groups for p in group["params"]]
    expected = {id(p) for p in [*encoder.parameters(), *head.parameters()] if p.requires_grad}
    assert len(listed) == len(set(listed))
    assert set(listed) == expected
    by_id = {id(p): n for n, p in encoder.named_parameters()}
    for group in groups:
        for p in group["params"]:
            if id(p) in by_id:
                level = levels(encoder)[by_id[id(p)]]
                assert group["lr"] == pytest.approx(0.1 * decay ** (DEPTH + 2 - level))
            else:
                assert group["lr"] == pytest.approx(0.1 * multiplier)
            plain = p.ndim < 2 or by_id.get(id(p)) in ("cls_token", "pos_embed")
            assert (group.get("weight_decay") == 0.0) == (plain and not norms)


@pytest.mark.parametrize(
    ("config", "moving"),
    [
        (AdaptationConfig("full"), set(range(DEPTH + 2))),
        (AdaptationConfig("partial", blocks=1), {DEPTH, DEPTH + 1}),
        (AdaptationConfig("head"), set()),
    ],
)
def test_only_the_named_weights_move(config: AdaptationConfig, moving: set[int]) -> None:
    encoder, head = parts()
    before = {n: p.detach().clone() for n, p in encoder.named_parameters()}
    optimiser = torch.optim.AdamW(parameter_groups(encoder, head, config, lr=0.1))
    for _ in range(2):
        optimiser.zero_grad()
        head(encoder(torch.randn(8, 6))).square().sum().backward()
        optimiser.step()
    level = levels(encoder)
    moved = {level[n] for n, p in encoder.named_parameters() if not torch.equal(p, before[n])}
    assert moved == moving


def test_the_encoder_joins_after_warming_with_its_optimiser_unbroken() -> None:
    encoder, head = parts()
    config = AdaptationConfig(freeze_epochs=1)
    optimiser = torch.optim.Adam(parameter_groups(encoder, head, config, lr=0.1), fused=True)
    start = encoder.blocks[0]["fc"].weight.detach().clone()  # type: ignore[index]
    for step in range(4):
        freeze(encoder, config, warming=step < 2)
        optimiser.zero_grad()
        head(encoder(torch.randn(8, 6))).square().sum().backward()
        optimiser.step()
        same = torch.equal(encoder.blocks[0]["fc"].weight, start)  # type: ignore[index]
        assert same == (step < 2)


def test_more_blocks_than_there_are_is_said() -> None:
    encoder, head = parts()
    with pytest.raises(UserError, match="blocks: the encoder has 4 blocks; got 9"):
        parameter_groups(encoder, head, AdaptationConfig("partial", blocks=9), lr=0.1)


@pytest.mark.parametrize(
    "options",
    [
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"head_multiplier": 0},
        {"blocks": 0},
        {"freeze_epochs": -1},
    ],
)
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(options))):
        AdaptationConfig(**options)  # type: ignore[arg-type]
