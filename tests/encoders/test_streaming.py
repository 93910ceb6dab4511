"""Tokens of pieces are the tokens of the whole."""

from __future__ import annotations

import pytest
import torch

from sonoformer.encoders import (
    AstEncoder,
    Ssamba2Encoder,
    SsambaEncoder,
    ast_config,
    ssamba2_config,
    ssamba_config,
)
from sonoformer.encoders.streaming import Stream
from sonoformer.errors import UserError


def forward_only(kind: str) -> SsambaEncoder:
    torch.manual_seed(0)
    options = {"dim": 32, "depth": 2, "directions": "forward"}
    if kind == "ssamba":
        return SsambaEncoder(ssamba_config("micro", "frame", **options)).eval()
    shape = ssamba2_config("micro", "frame", head_width=16, **options)
    return Ssamba2Encoder(shape).eval()


@pytest.mark.parametrize("kind", ["ssamba", "ssamba2"])
@torch.inference_mode()
def test_pieces_of_any_length_are_the_whole(kind: str) -> None:
    encoder = forward_only(kind)
    wave = torch.randn(40000) * 0.1
    whole = encoder(wave[None]).x[0, 1:]
    for sizes in ([40000], [1, 300, 560, 16000, 7, 23132], [1600] * 25):
        stream = Stream(encoder)
        found = torch.cat([stream.push(piece) for piece in wave.split(sizes)])
        torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
        assert stream.seconds == pytest.approx(len(whole) * 0.02)


@torch.inference_mode()
def test_positions_past_the_table_and_memory_that_does_not_grow() -> None:
    torch.manual_seed(0)
    shape = ssamba_config("micro", "frame", dim=32, depth=1, directions="forward", table=(1, 40))
    encoder = SsambaEncoder(shape).eval()
    wave = torch.randn(48000) * 0.1
    stream, found, kept = Stream(encoder), [], set()
    for piece in wave.split(3200):
        found.append(stream.push(piece))
        memory = [x.numel() for pair in stream._memory if pair for x in pair]
        kept.add((sum(memory), len(stream._sound) <= 400, len(stream._frames) < 2))
    assert len(kept) == 1
    torch.testing.assert_close(torch.cat(found), encoder(wave[None]).x[0, 1:], atol=1e-5, rtol=0)


def test_what_needs_the_future_cannot_stream() -> None:
    with pytest.raises(UserError, match=r"both directions.*8 rows of tokens"):
        Stream(SsambaEncoder(ssamba_config("micro", dim=32, depth=1)))
    with pytest.raises(UserError, match="no state-space encoder"):
        Stream(AstEncoder(ast_config("micro", depth=1)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"samples should be"):
        Stream(forward_only("ssamba")).push(torch.zeros(1, 100))
