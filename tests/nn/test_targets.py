"""What is predicted, brought to one scale: loops as the reference, silence, padding."""

from __future__ import annotations

import pytest
import torch

from sonoformer.nn.targets import mean_of_layers, per_patch


def test_each_patch_has_mean_0_and_variance_1() -> None:
    pixels = 5 * torch.randn(2, 3, 16, requires_grad=True) + 2
    found = per_patch(pixels)
    assert not found.requires_grad
    for ours, patch in zip(found.flatten(0, 1), pixels.detach().flatten(0, 1), strict=True):
        expected = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_silence_becomes_zeros_and_half_precision_is_not_used() -> None:
    silent = torch.full((1, 2, 16), -1.3)
    assert per_patch(silent).abs().max() < 1e-3
    assert per_patch(torch.randn(1, 2, 16, dtype=torch.bfloat16)).dtype == torch.float32


def literal(layers: list[torch.Tensor], real: int) -> torch.Tensor:
    """One clip, channel by channel, then token by token."""
    total = torch.zeros(real, layers[0].shape[-1], dtype=torch.double)
    for layer in layers:
        for channel in range(layer.shape[-1]):
            x = layer[:real, channel].double()
            total[:, channel] += (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()
    mean = total / len(layers)
    rows = [(row - row.mean()) / (row.var(unbiased=False) + 1e-5).sqrt() for row in mean]
    return torch.stack(rows).float()


@pytest.mark.parametrize("prefix", [1, 2])
def test_layers_are_normalised_over_the_clip_then_by_token(prefix: int) -> None:
    torch.manual_seed(0)
    layers = [scale * torch.randn(2, prefix + 7, 6) + scale for scale in (0.1, 1.0, 10.0)]
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, 4:] = False
    found = mean_of_layers(layers, valid, prefix)
    for clip, real in enumerate((7, 4)):
        expected = literal([layer[clip, prefix:] for layer in layers], real)
        torch.testing.assert_close(found[clip, :real], expected, atol=1e-5, rtol=1e-4)
    for layer in layers:
        layer[1, prefix + 4 :] = 1e3  # what padding holds plays no part
        layer[:, :prefix] = -1e3
    again = mean_of_layers(layers, valid, prefix)
    assert torch.equal(again[0], found[0])
    assert torch.equal(again[1, :4], found[1, :4])


def test_a_clip_of_one_token_and_no_layers() -> None:
    found = mean_of_layers([torch.randn(1, 2, 4)], torch.ones(1, 1, dtype=torch.bool), 1)
    assert torch.equal(found, torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="no layers"):
        mean_of_layers([], torch.ones(1, 1, dtype=torch.bool), 1)
