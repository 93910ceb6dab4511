"""The same numbers on a CUDA device as on the CPU; run by `pytest -m gpu`."""

from __future__ import annotations

import pytest
import torch

from sonoformer.data.batch import Batch
from sonoformer.encoders import AstEncoder, ast_config
from sonoformer.pretraining import Mspm, MspmConfig
from sonoformer.spectral import FrontEnd

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def batch(learner: Mspm) -> Batch:
    wave = torch.randn(4, 48000, generator=torch.Generator().manual_seed(0)) * 0.1
    lengths = torch.tensor([48000, 30000, 48000, 9000])
    wave[torch.arange(48000) >= lengths.unsqueeze(1)] = 0
    noise = torch.rand(4, learner.noise, generator=torch.Generator().manual_seed(1))
    return Batch(wave, lengths, torch.arange(4), noise=noise)


def test_front_end_agrees() -> None:
    wave = torch.randn(2, 32000) * 0.1
    lengths = torch.tensor([32000, 20000])
    front = FrontEnd()
    here, _ = front(wave, lengths)
    there, _ = front.cuda()(wave.cuda(), lengths.cuda())
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)


def test_masks_losses_and_gradients_agree() -> None:
    torch.manual_seed(0)
    learner = Mspm(AstEncoder(ast_config("micro")), MspmConfig(), 48000)
    work = batch(learner)
    here, terms = learner.loss(work)
    here.backward()
    norm = learner.mask_token.grad.norm()
    learner.zero_grad()
    learner.cuda()
    there, terms_there = learner.loss(work.to("cuda"))
    there.backward()
    assert there.item() == pytest.approx(here.item(), rel=1e-4)
    assert terms_there["chance"].item() == pytest.approx(terms["chance"].item())
    assert learner.mask_token.grad.norm().item() == pytest.approx(norm.item(), rel=1e-3)


def test_bf16_step_is_finite() -> None:
    learner = Mspm(AstEncoder(ast_config("micro")), MspmConfig(), 48000).cuda()
    with torch.autocast("cuda", torch.bfloat16):
        loss, _ = learner.loss(batch(learner).to("cuda"))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in learner.parameters() if p.grad is not None)
