"""The Triton form of the selective scan, on a CUDA device or in Triton's interpreter.

    TRITON_INTERPRET=1 python -m pytest tests/nn/test_scan_kernel.py

runs all but the tests marked `gpu` where triton is installed, without a GPU.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from tests.nn.test_selective_scan import inputs
from torch import Tensor

from sonoformer.nn import selective_scan as room
from sonoformer.nn.mamba import BiMamba, Direction
from sonoformer.nn.selective_scan import selective_scan, sequential_scan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
with_triton = pytest.mark.skipif(find_spec("triton") is None, reason="needs triton")
running = pytest.mark.skipif(
    find_spec("triton") is None or not (INTERPRETED or torch.cuda.is_available()),
    reason="needs triton, and a CUDA device or TRITON_INTERPRET=1",
)
on_a_gpu = pytest.mark.skipif(
    find_spec("triton") is None or INTERPRETED or not torch.cuda.is_available(),
    reason="needs triton and a CUDA device",
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks so short that a few tokens are several pieces, chunks and runs."""
    from sonoformer.nn import scan_kernel

    monkeypatch.setattr(scan_kernel, "CHUNK", 4)
    monkeypatch.setattr(scan_kernel, "RUN", 2)


def both(given: list[Tensor], reverse: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients of the kernel, and of the formulas in fp64."""
    found = []
    for kind, device, form in (("", DEVICE, "kernel"), ("float64", "cpu", "sequential")):
        x = [v.detach().to(device, getattr(torch, kind) if kind else None) for v in given]
        x = [v.requires_grad_() for v in x]
        y = selective_scan(*x, reverse=reverse, form=form)  # type: ignore[arg-type]
        g = torch.Generator().manual_seed(1)
        weights = torch.randn(y.shape, generator=g, dtype=torch.float64).to(y)
        found.append([y.detach(), *torch.autograd.grad((y * weights).sum(), x)])
    return found[0], found[1]


def assert_near(here: list[Tensor], there: list[Tensor], share: float) -> None:
    """Differences of at most a share of each tensor's largest value."""
    for name, one, other in zip(("y", "u", "delta", "a", "b", "c"), here, there, strict=True):
        gap = (one.detach().cpu().double() - other).abs().max()
        assert gap <= share * other.abs().max().clamp_min(1e-30), name


# Where it can run ---------------------------------------------------------------------------------


@running
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("batch", "length", "channels", "states"),
    [
        pytest.param(2, 13, 5, 3, id="odd"),
        pytest.param(1, 1, 2, 2, id="one token"),
        pytest.param(1, 2, 1, 1, id="one channel and state"),
        pytest.param(1, 8, 37, 16, id="several blocks of channels"),
        pytest.param(1, 3, 3, 40, id="states on many lanes"),
    ],
)
def test_outputs_and_gradients_are_those_of_the_formulas(
    batch: int, length: int, channels: int, states: int, reverse: bool
) -> None:
    given = inputs(batch, length, channels, states)
    assert_near(*both(given, reverse), share=5e-6)


@running
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("reverse", [False, True])
def test_fp64_stays_fp64(reverse: bool) -> None:
    here, there = both(inputs(2, 9, 3, 2, "float64"), reverse)
    assert all(x.dtype is torch.float64 for x in here)
    assert_near(here, there, share=1e-13)


@running
def test_lengths_that_are_used() -> None:
    """One clip of 130 tokens: three pieces of 64, the last one ends inside a run."""
    if INTERPRETED:
        from sonoformer.nn import scan_kernel

        u = torch.empty(1, 130, 2)
        assert scan_kernel._piece(u, scan_kernel._tile(2, 8)) == 64
    assert_near(*both(inputs(1, 130, 2, 2), False), share=5e-6)


@running
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_full(kind: str) -> None:
    half = getattr(torch, kind)
    given = [x.to(half) for x in inputs(1, 7, 3, 2)]
    given[1], given[2] = given[1].float(), given[2].float()  # as under autocast
    here, there = both(given, False)
    assert here[0].dtype is torch.float32
    assert [x.dtype for x in here[1:]] == [x.dtype for x in given]
    for one, other in zip(here, there, strict=True):
        rounding = 2e-6 if one.dtype is torch.float32 else torch.finfo(half).eps
        assert (one.cpu().double() - other).abs().max() <= rounding * other.abs().max()
    u, delta, a, b, c = (x.to(DEVICE) for x in given)
    large = selective_scan(u * 300, delta, a, b * 300, c, form="kernel")
    # The product of u and b is beyond the range of fp16.
    assert large.abs().max() > 65504
    exact = sequential_scan(*(x.double() for x in (u * 300, delta, a, b * 300, c)))[0]
    torch.testing.assert_close(large.double(), exact, atol=0.5, rtol=1e-5)


@running
@pytest.mark.usefixtures("short")
def test_any_strides_give_the_same() -> None:
    given = [x.to(DEVICE) for x in inputs(2, 6, 6, 4)]
    plain, _ = both(given, False)
    turned = [x.mT.contiguous().mT for x in given]
    wide = [x.repeat_interleave(2, -1)[..., ::2] for x in given]
    parts = list(torch.cat([given[3], given[4]], -1).split(4, -1))
    for odd in (turned, wide, [*given[:3], *parts]):
        assert not odd[3].is_contiguous()
        x = [v.requires_grad_() for v in odd]
        assert torch.equal(selective_scan(*x, form="kernel"), plain[0])
    y = selective_scan(*[v.requires_grad_() for v in given], form="kernel")
    # A sum's gradient has strides of zero.
    summed = torch.autograd.grad(y.sum(), given)
    y = selective_scan(*given, form="kernel")
    for one, other in zip(summed, torch.autograd.grad(y, given, torch.ones_like(y)), strict=True):
        assert torch.equal(one, other)


@running
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("reverse", [False, True])
def test_a_token_without_a_step_changes_nothing(reverse: bool) -> None:
    u, delta, a, b, c = (x.to(DEVICE) for x in inputs(1, 12, 2, 2))
    u[:, 7:] = 1e6
    delta[:, 7:] = 0
    padded = selective_scan(u, delta, a, b, c, reverse=reverse, form="kernel")[:, :7]
    short = [x[:, :7] for x in (u, delta, b, c)]
    alone = selective_scan(*short[:2], a, *short[2:], reverse=reverse, form="kernel")
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-6)


@running
@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_not_a_number_stays_in_its_clip_and_behind_its_token(reverse: bool) -> None:
    u, delta, a, b, c = (x.to(DEVICE) for x in inputs(2, 10, 2, 2))
    u[0, 5] = torch.nan
    y = selective_scan(u, delta, a, b, c, reverse=reverse, form="kernel")
    spoiled = slice(None, 6) if reverse else slice(5, None)
    kept = slice(6, None) if reverse else slice(None, 5)
    assert y[0, spoiled].isnan().all()
    assert y[0, kept].isfinite().all()
    assert y[1].isfinite().all()


@running
@pytest.mark.usefixtures("short")
def test_a_padded_mixer_gives_what_it_gives_in_another_form() -> None:
    torch.manual_seed(0)
    mixer = BiMamba(dim=4, states=2, expand=2, taps=3, rank=1).to(DEVICE)
    x = torch.randn(2, 9, 4).to(DEVICE)
    valid = torch.arange(9).to(DEVICE) < torch.tensor([[9], [6]]).to(DEVICE)
    found = {}
    for form in ("kernel", "blocked"):
        for part in mixer.modules():
            if isinstance(part, Direction):
                part.form = form  # type: ignore[assignment]
        mixer.zero_grad()
        y = mixer(x, valid)[valid]
        y.square().sum().backward()
        found[form] = [y, *(p.grad for p in mixer.parameters())]
    for here, there in zip(found["kernel"], found["blocked"], strict=True):
        torch.testing.assert_close(here, there, atol=2e-6, rtol=2e-5)


@running
@pytest.mark.usefixtures("short")
def test_states_are_kept_once_a_chunk_and_only_for_gradients() -> None:
    given = [x.to(DEVICE) for x in inputs(1, 10, 3, 2)]
    kept: list[torch.Size] = []

    def note(x: Tensor) -> Tensor:
        kept.append(x.shape)
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        selective_scan(*given, form="kernel")
        assert not kept
        selective_scan(*(x.requires_grad_() for x in given), form="kernel")
    assert kept == [*(x.shape for x in given), (1, 3, 2, 3)]


@running
@pytest.mark.usefixtures("short")
def test_a_compiler_passes_it_on_in_one_graph() -> None:
    given = [x.to(DEVICE).requires_grad_() for x in inputs(1, 6, 3, 2)]

    def scan(*x: Tensor) -> Tensor:
        return selective_scan(*x, reverse=True, form="kernel") * 2

    compiled = torch.compile(scan, backend="aot_eager", fullgraph=True)
    for call in (compiled, scan):
        y = call(*given)
        grads = torch.autograd.grad(y.sum(), given)
        if call is compiled:
            first = [y, *grads]
    for one, other in zip(first, [y, *grads], strict=True):
        assert torch.equal(one, other)


@running
@pytest.mark.usefixtures("short")
def test_operators_say_truly_what_they_return() -> None:
    given = [x.to(DEVICE).requires_grad_() for x in inputs(1, 5, 3, 2)]
    torch.library.opcheck(
        torch.ops.sonoformer.selective_scan.default,
        (*given, False, True),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


# On a GPU -----------------------------------------------------------------------------------------


@on_a_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(1, 3001), (3, 515)])
def test_long_clips_agree(batch: int, length: int, reverse: bool) -> None:
    given = inputs(batch, length, 200, 16)
    here, _ = found = both(given, reverse)
    assert_near(*found, share=1e-5)
    again, _ = both(given, reverse)
    for one, other in zip(here, again, strict=True):
        assert torch.equal(one, other)


@on_a_gpu
@pytest.mark.gpu
def test_it_is_what_a_gpu_takes_by_itself() -> None:
    given = [x.cuda() for x in inputs(2, 600, 64, 16)]
    assert torch.equal(selective_scan(*given), selective_scan(*given, form="kernel"))


@on_a_gpu
@pytest.mark.gpu
def test_a_compiled_mixer_gives_the_same() -> None:
    torch.manual_seed(0)
    mixer = BiMamba(dim=32, states=16, expand=2, taps=4, rank=2).cuda()
    x = torch.randn(2, 300, 32, device="cuda")
    valid = torch.arange(300, device="cuda") < torch.tensor([[300], [120]], device="cuda")
    compiled = torch.compile(mixer)
    for half in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            here, there = compiled(x, valid)[valid], mixer(x, valid)[valid]
        near = 2e-2 if half else 1e-5
        torch.testing.assert_close(here, there, atol=near, rtol=near)
    found: list[list[Tensor | None]] = []
    for call in (compiled, mixer):
        mixer.zero_grad()
        call(x, valid)[valid].square().mean().backward()
        found.append([p.grad for p in mixer.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


# Anywhere -----------------------------------------------------------------------------------------


@with_triton
def test_clips_are_cut_only_where_they_leave_the_device_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sonoformer.nn import scan_kernel

    monkeypatch.setattr(scan_kernel, "_processors", lambda device: 132)
    tile = scan_kernel._tile(16, 8)

    def piece(batch: int, length: int, channels: int) -> int:
        return scan_kernel._piece(torch.empty(batch, length, channels, device="meta"), tile)

    assert piece(64, 512, 1536) == 512
    assert piece(1, 100, 384) == 128
    few = piece(1, 22000, 384)
    assert few % scan_kernel.CHUNK == 0
    assert 12 * 22000 // few > 8 * 132
    assert few < piece(4, 22000, 384) < 22000


@pytest.mark.parametrize(
    ("device", "installed", "form"),
    [
        ("cpu", True, "blocked"),
        ("cuda", True, "kernel"),
        ("cuda", False, "chunked"),
        ("mps", True, "chunked"),
    ],
)
def test_auto_takes_it_on_cuda(
    device: str, installed: bool, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_TRITON", installed)
    assert room._usual(torch.device(device)) == form


def test_asked_for_where_it_cannot_run_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = inputs(1, 4, 2, 3)
    monkeypatch.setattr(room, "_TRITON", True)
    monkeypatch.setenv("TRITON_INTERPRET", "0")
    with pytest.raises(ValueError, match=r"on a CUDA device, these are on cpu; "):
        selective_scan(*given, form="kernel")
    monkeypatch.setattr(room, "_TRITON", False)
    with pytest.raises(ValueError, match="form: kernel needs the package triton"):
        selective_scan(*given, form="kernel")


def test_no_tokens_are_refused_before_anything_runs() -> None:
    u, delta, a, b, c = inputs(1, 4, 2, 3)
    with pytest.raises(ValueError, match="at least one token"):
        selective_scan(u[:, :0], delta[:, :0], a, b[:, :0], c[:, :0], form="kernel")
