"""The transformer block: masks, the shortened last block, stochastic depth, mixed precision."""

from __future__ import annotations

import pytest
import torch

from sonoformer.nn.blocks import Block, DropPath, Mlp
from sonoformer.nn.heads import ClassifierHead, PredictionHead


def block(**options: float) -> Block:
    torch.manual_seed(0)
    return Block(32, 4, **options).eval()  # type: ignore[arg-type]


def plain_attention(layer: Block, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Attention written out, a head at a time."""
    attn = layer.attn
    query, key, value = (attn.qkv.weight @ x.T + attn.qkv.bias[:, None]).split(len(x.T))
    heads = []
    for q, k, v in zip(query.split(8), key.split(8), value.split(8), strict=True):
        scores = (q.T @ k / 8**0.5).masked_fill(~mask, -torch.inf)
        heads.append(v @ scores.softmax(1).T)
    return attn.proj(torch.cat(heads).T)


def test_attention_is_softmax_of_scaled_products_over_real_tokens() -> None:
    layer, x = block(), torch.randn(7, 32)
    mask = torch.tensor([True, True, False, True, True, False, True])
    ours = layer.attn(x[None], mask[None, None, None])[0]
    torch.testing.assert_close(ours, plain_attention(layer, x, mask), atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_the_first_tokens_alone_are_the_first_of_all(masked: bool) -> None:
    layer, x = block(), torch.randn(2, 9, 32)
    mask = (torch.rand(2, 1, 1, 9) > 0.4) if masked else None
    if mask is not None:
        mask[..., 0] = True
    torch.testing.assert_close(layer(x, mask, 2), layer(x, mask)[:, :2], atol=1e-5, rtol=0)


def test_a_masked_token_has_no_influence_and_no_gradient() -> None:
    layer, x = block(), torch.randn(1, 6, 32)
    mask = torch.tensor([True] * 4 + [False] * 2)[None, None, None]
    other = x.clone()
    other[:, 4:] += 5
    torch.testing.assert_close(layer(x, mask)[:, :4], layer(other, mask)[:, :4])
    x.requires_grad_()
    layer(x, mask)[:, :4].square().sum().backward()
    assert (x.grad[:, 4:] == 0).all()
    assert (x.grad[:, :4] != 0).any()


def test_drop_path_leaves_whole_clips_out_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop, x = DropPath(0.25), torch.ones(4000, 3)
    out = drop(x)
    assert ((out == 0).all(1) | (out == 1 / 0.75).all(1)).all()
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x


def test_autocast_keeps_the_residual_stream_and_norms_in_fp32() -> None:
    layer, x = block(), torch.randn(2, 9, 32)
    head = ClassifierHead(32, 5)
    expected = head(layer(x).mean(1))
    seen: list[torch.dtype] = []
    for part in (layer.norm1, layer.norm2, head[0]):
        part.register_forward_hook(lambda _m, given, out: seen.extend([given[0].dtype, out.dtype]))
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
        logits = head(out.mean(1))
    assert seen == [torch.float32] * 6
    assert out.dtype == torch.float32
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0)


def test_heads_keep_the_authors_names_and_epsilon() -> None:
    assert set(ClassifierHead(8, 3).state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert ClassifierHead(8, 3)[0].eps == 1e-5
    names = {f"{layer}.{kind}" for layer in "02" for kind in ("weight", "bias")}
    assert set(PredictionHead(8, 256).state_dict()) == names
    assert PredictionHead(8, 256)(torch.randn(2, 5, 8)).shape == (2, 5, 256)


@pytest.mark.parametrize("learns", ["nothing", "a module beside it", "bias", "all"])
def test_a_frozen_mlp_gives_the_same_gradients_without_keeping_its_hidden_layer(
    learns: str,
) -> None:
    torch.manual_seed(0)
    layer, x = Mlp(8, 48), torch.randn(2, 5, 8, requires_grad=True)
    weights = {"bias": [layer.fc1.bias], "all": list(layer.parameters())}.get(learns, [])
    layer.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_()
    if learns == "a module beside it":
        layer.adapter = torch.nn.Linear(8, 8)
    kept: list[int] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.shape[-1] if tensor.ndim == 3 else 0)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x)
    assert (48 in kept) is bool(weights)
    hidden = torch.nn.functional.gelu(x @ layer.fc1.weight.T + layer.fc1.bias)
    plain = hidden @ layer.fc2.weight.T + layer.fc2.bias
    ours, theirs = (torch.autograd.grad(y.square().sum(), [x, *weights]) for y in (out, plain))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
