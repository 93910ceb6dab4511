"""The authors' SSAMBA, read from files as their program writes them: tokens, positions, logits."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.fixture_rules import close, note, ruled_ssamba, spectrograms
from tests.published_files import FIXTURES, finetuned_ssamba, pretrained_ssamba, ssamba_state

from sonoformer.encoders import SsambaEncoder, load_encoder, with_stride
from sonoformer.encoders.ssamba import SsambaConfig
from sonoformer.encoders.ssamba_keys import PARTS, from_ssamba
from sonoformer.errors import UserError
from sonoformer.nn.mamba import BiMamba
from sonoformer.tasks.model import load_model

STEMS = sorted(path.stem for path in (FIXTURES / "ssamba").glob("ft_*.npz"))
FILES = [
    pytest.param(stem, marks=pytest.mark.slow) if "depth24" in stem else stem for stem in STEMS
]


@pytest.mark.parametrize("mode", ["std02", "wide"])
def test_weights_are_made_by_the_rule(mode: str) -> None:
    tables = json.loads((FIXTURES / "ssamba" / "keys.json").read_text())
    for table in ("layer_d192", "pretrain_tiny_depth4"):
        for key, facts in tables[table].items():
            if f"sum_{mode}" in facts and not key.startswith("p_input"):
                made = ruled_ssamba(key, tuple(facts["shape"]), mode)
                assert made.double().sum().item() == pytest.approx(facts[f"sum_{mode}"], abs=1e-4)


@pytest.mark.parametrize("mode", ["std02", "wide"])
@torch.inference_mode()
def test_a_layer_is_the_references(mode: str) -> None:
    there = np.load(FIXTURES / "ssamba" / f"layer_d192_len130_{mode}.npz")
    config = SsambaConfig()
    mixer = BiMamba(config.dim, config.states, config.expand, config.taps, config.rank)
    names = {n: tuple(v.shape) for n, v in mixer.named_parameters()}
    ours = ssamba_state("layer_d192", mode)
    mixer.load_state_dict(
        {".".join([PARTS[n.split(".")[1]], *n.split(".")[2:]]): v for n, v in ours.items()}
    )
    assert len(names) == len(ours)
    seed = zlib.crc32(b"input/ssamba/layer/192/130")
    x = torch.from_numpy(np.random.RandomState(seed).standard_normal((2, 130, 192))).float()
    gap = float((mixer(x) - torch.from_numpy(there["output"])).abs().max())
    note("layer", gap)
    assert gap < (1e-5 if mode == "wide" else 1e-8)
    u, z = mixer.in_proj(x).chunk(2, dim=-1)
    gate = torch.nn.functional.silu(z)
    assert mixer.back is not None
    for name, branch in (
        ("forward", mixer.ahead(u) * gate),
        ("backward", mixer.back(u, reverse=True) * gate),
    ):
        theirs = torch.from_numpy(there[f"{name}_branch_sample"])
        gap = float((branch[..., :32] - theirs).abs().max())
        note("branch", gap)
        assert gap < 3e-5


@pytest.mark.parametrize("stem", FILES)
@torch.inference_mode()
def test_tokens_positions_and_logits_are_the_authors(stem: str, tmp_path: Path) -> None:
    _, _, deep, wiring, _, length, mode = stem.split("_")
    frames, depth = int(length[1:]), int(deep[5:])
    there = np.load(FIXTURES / "ssamba" / f"{stem}.npz")
    spec = spectrograms(f"ssamba/ft/{frames}", frames)
    assert spec.double().sum().item() == pytest.approx(there["input_sum64"].item(), abs=1e-6)
    file = pretrained_ssamba(tmp_path / "pretrained.pth", mode, depth)
    encoder = with_stride(load_encoder(file, profile="reference"), (10, 10))
    assert isinstance(encoder, SsambaEncoder)
    if wiring == "sequential":
        encoder = _one_after_the_other(encoder)
    heard = _listen(encoder)
    ids = there["token_ids"].astype(int)
    pixels, grid, _ = encoder.patches(spec)
    deepest = len(encoder.blocks) - 2
    tokens = encoder(spec, layers=(deepest,))
    inside = ids[ids < pixels.shape[1]]
    close(encoder.patch_embed(pixels)[:, inside], there["tokens_patch_embed"], "embedding")
    last = tokens.x.shape[1] - 1
    for number in (0, 1, depth - 1):
        # Odd layers of a pair hear the line turned round, and count from its end.
        where = last - ids if wiring == "pairs" and number % 2 else ids
        close(heard[number][:, where], there[f"tokens_layer{number}_mixer"], "block")
    where = last - ids if wiring == "pairs" else ids
    stream = tokens.layers[0][:, where]
    if depth == 24:
        gap = float(np.abs(stream.numpy() - there["tokens_layer23_residual"]).max())
        note("stream", gap)
        assert gap < 2e-2  # of 5800: it doubles at every pair
    else:
        close(stream, there[f"tokens_layer{depth - 1}_residual"], "block")
    close(tokens.x[:, ids], there["tokens_second_final_norm"], "norm")
    table = torch.cat([encoder.pos_embed[0, :1], encoder.position_table(grid)])
    assert there["pos_shape"].tolist() == [1, *table.shape]
    close(table[there["pos_ids"].astype(int)], there["pos_sample"], "positions")
    close(table.double().mean(), there["pos_mean_sum64"], "positions")
    if wiring == "sequential":
        return
    file = finetuned_ssamba(tmp_path / "finetuned.pth", mode, depth, table.unsqueeze(0))
    for pool, name in (("mean", "logits_ft_avgtok"), ("cls", "logits_ft_cls")):
        said = {"stride": (10, 10), "task": "single", "statistics": "audioset"}
        model = load_model(file, pool=pool, **said)
        assert torch.equal(model.encoder.position_table(grid), table[1:])
        close(model.head(replace(tokens, layers=())), there[name], "logits")


def _listen(encoder: SsambaEncoder) -> list[torch.Tensor]:
    """What each mixer returns, in the order of the authors' layers."""
    heard: list[torch.Tensor] = []
    for module in encoder.blocks.modules():
        if isinstance(module, BiMamba):
            module.register_forward_hook(lambda _, __, out: heard.append(out))
    return heard


def _one_after_the_other(encoder: SsambaEncoder) -> SsambaEncoder:
    """The same weights without pairs; the authors apply the final norm twice there too."""
    made = SsambaEncoder(replace(encoder.config, wiring="sequential"))
    halves = {"one": 0, "other": 1}
    renamed = {}
    for name, value in encoder.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1:3] = [str(2 * int(parts[1]) + halves[parts[2]])]
        renamed[".".join(parts)] = value
    made.load_state_dict(renamed)
    made.twice = True
    return made.eval()


def test_another_variants_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = ssamba_state("pretrain_tiny_depth4", "std02")
    one_way = {n: v for n, v in whole.items() if "_b." not in n and not n.endswith("_b_log")}
    one_way = {n: v for n, v in one_way.items() if not n.endswith("D_b")}
    with pytest.raises(UserError, match="one direction"):
        from_ssamba(one_way, "file")
    odd = {n: v for n, v in whole.items() if ".layers.3." not in n}
    with pytest.raises(UserError, match="reference needs an even depth"):
        from_ssamba(odd, "file")
    wide = {**whole, "v.layers.0.mixer.dt_proj.weight": torch.zeros(384, 13)}
    with pytest.raises(UserError, match="another variant"):
        from_ssamba(wide, "file")
    without = {n: v for n, v in whole.items() if "x_proj_b" not in n}
    file = tmp_path / "without.pth"
    torch.save(without, file)
    with pytest.raises(UserError, match=r"missing: .*back\.x_proj"):
        load_encoder(file)
