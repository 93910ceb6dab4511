"""Published checkpoints: every kind, what files do not say, and the two profiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.published_files import (
    finetuned_ssast,
    image_model,
    pretrained_ssast,
    supervised_ast,
    transformers_folder,
)

import sonoformer as sf
from sonoformer.encoders import Hints, is_published, load_encoder, read_published
from sonoformer.tasks.class_names import read_class_names
from sonoformer.tasks.model import load_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    table = torch.randn(1, 513, 192) * 0.02
    return {
        "patch": pretrained_ssast(root / "patch.pth", "patch", "tiny", "std02"),
        "frame": pretrained_ssast(root / "frame.pth", "frame", "tiny", "std02"),
        "tuned": finetuned_ssast(root / "tuned.pth", "frame", "tiny", "std02", table),
        "ast": supervised_ast(root / "ast.pth", 1024, "std02"),
        "deit": image_model(root / "deit.pth", "tiny224", "std02"),
        "folder": transformers_folder(root / "folder", "hf_ast_b", "std02"),
    }


KNOWN = {"pool": "cls", "task": "multi", "statistics": "audioset"}


@pytest.mark.parametrize(
    ("name", "kind", "patch", "stride", "table", "frames"),
    [
        ("patch", "pretrained SSAST", (16, 16), (16, 16), (8, 64), 1024),
        ("frame", "pretrained SSAST", (128, 2), (128, 2), (1, 512), 1024),
        ("ast", "AST or fine-tuned SSAST", (16, 16), (10, 10), (12, 101), 1024),
        ("deit", "DeiT image model", (16, 16), (10, 10), (14, 14), 1024),
    ],
)
def test_sizes_follow_from_the_shapes(
    files: dict[str, Path],
    name: str,
    kind: str,
    patch: tuple[int, int],
    stride: tuple[int, int],
    table: tuple[int, int],
    frames: int,
) -> None:
    found = read_published(files[name])
    config = found.config
    assert (found.kind, found.frames) == (kind, frames)
    assert (config.patch, config.stride, config.table) == (patch, stride, table)
    assert (config.dim, config.depth, config.heads, config.prefix) == (192, 12, 3, 2)
    assert config.norm_eps == 1e-6
    assert is_published(files[name])


def test_what_a_classifier_does_not_say_is_asked_for_at_once(files: dict[str, Path]) -> None:
    with pytest.raises(sf.UserError, match=r"--pool: .*; --task: .*; --statistics: ") as caught:
        load_model(files["ast"])
    assert "ast.pth" in str(caught.value)
    with pytest.raises(sf.UserError, match=r"convert` --task: ") as caught:
        load_model(files["ast"], pool="cls", statistics="audioset")
    assert "--pool" not in str(caught.value)
    with pytest.raises(sf.UserError, match=r"128 1 .*; 128 2 .*give --stride"):
        load_model(files["tuned"], **{**KNOWN, "pool": "mean"})
    with pytest.raises(sf.UserError, match="without a classifier"):
        load_model(files["patch"])
    with pytest.raises(sf.UserError, match="Did you mean 'stride'"):
        load_encoder(files["patch"], strides=(16, 16))
    with pytest.raises(sf.UserError, match="says itself"):
        load_model(files["folder"], pool="mean")


def test_hints_are_obeyed(files: dict[str, Path]) -> None:
    model = load_model(files["tuned"], stride=(128, 1), pool="mean", task="single",
                       statistics="speech-commands")  # fmt: skip
    config = model.encoder.config
    assert (config.stride, config.table, config.front.fixed_frames) == ((128, 1), (1, 511), 512)
    assert (model.config.pool, model.softmax, config.front.mean) == ("mean", True, -6.845978)
    assert model.classes[:2] == ("class 0", "class 1")
    names = [f"bird {number}" for number in range(50)]
    hints = {"stride": (128, 1), "pool": "mean", "task": "multi", "statistics": "esc50"}
    model = load_model(files["tuned"], classes=names, **hints)
    assert (list(model.classes), model.softmax) == (names, False)
    with pytest.raises(sf.UserError, match="classes: 2 names for the 50 outputs"):
        load_model(files["tuned"], classes=["a", "b"], **hints)
    with pytest.raises(sf.UserError, match="classes: bird stand twice"):
        load_model(files["tuned"], classes=["bird"] * 50, **hints)


@torch.inference_mode()
def test_the_reference_profile_hears_as_the_original(files: dict[str, Path]) -> None:
    """Padding is raw zero and attended to, only the first frames are heard, length is fixed."""
    model = load_model(files["ast"], **KNOWN)
    wave = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 200_000)).float()
    short, long = wave[:40_000], wave[:180_000]
    spec, frames = model.encoder.front(short[None])
    assert spec.shape == (1, 1024, 128)
    assert frames.tolist() == [1024]
    assert spec[0, 248:].unique().tolist() == pytest.approx([4.2677393 / (2 * 4.5689974)])
    whole = model.logits(long[None])
    first = model.logits(long[None, : 1023 * 160 + 400])
    assert torch.allclose(whole, first, atol=1e-6)
    batch = torch.nn.utils.rnn.pad_sequence([short, long], batch_first=True)
    both = model.logits(batch, torch.tensor([len(short), len(long)]))
    assert torch.allclose(both[0], model.logits(short[None])[0], atol=1e-5)
    free = load_model(files["ast"], **KNOWN, profile="default")
    assert free.encoder.config.positions == "seconds"
    assert free.encoder.front(short[None])[0].shape == (1, 248, 128)
    # On a clip that fills the length, both profiles are one.
    full = wave[: 1023 * 160 + 400]
    assert torch.allclose(free.logits(full[None]), model.logits(full[None]), atol=1e-5)


def test_encoders_hear_any_length_unless_told(files: dict[str, Path]) -> None:
    for name in ("patch", "ast", "folder"):
        assert load_encoder(files[name]).config.front.fixed_frames is None
        fixed = load_encoder(files[name], profile="reference").config
        assert fixed.front.fixed_frames == read_published(files[name]).frames
        assert (fixed.positions, fixed.front.padding) == ("reference", "reference")


def test_a_checkpoint_of_ours_takes_no_hints(files: dict[str, Path], tmp_path: Path) -> None:
    load_model(files["folder"]).save(tmp_path / "ours")
    assert not is_published(tmp_path / "ours")
    with pytest.raises(sf.UserError, match=r"pool: .* says itself"):
        load_model(tmp_path / "ours", pool="cls")
    assert read_published(files["folder"], Hints()).head is not None


@torch.inference_mode()
def test_a_loaded_model_is_saved_as_one_of_ours(files: dict[str, Path], tmp_path: Path) -> None:
    for name, hints in (("ast", KNOWN), ("folder", {})):
        model = load_model(files[name], **hints)
        model.save(tmp_path / name)
        again = load_model(tmp_path / name)
        spec = torch.randn(2, 64, 128)
        assert torch.equal(model.logits(spec), again.logits(spec))
        assert (again.classes, again.config) == (model.classes, model.config)


def test_names_of_classes(tmp_path: Path) -> None:
    listing = tmp_path / "labels.csv"
    listing.write_text('index,mid,display_name\n1,/m/b,"Speech, child"\n0,/m/a,Bark\n')
    assert read_class_names(listing) == ("Bark", "Speech, child")
    (tmp_path / "names.txt").write_text("one\ntwo\n")
    assert read_class_names(tmp_path / "names.txt") == ("one", "two")
    for text, said in (
        ("a,b\n1,2\n", "has no column display_name"),
        ("index,name\n0,a\n2,b\n", "does not count 0 to 1"),
        ("name\n\n", "no column"),
        ("", "no column"),
    ):
        listing.write_text(text)
        with pytest.raises(sf.UserError, match=said):
            read_class_names(listing)
    with pytest.raises(sf.UserError, match="cannot be read as text"):
        read_class_names(tmp_path / "missing.txt")
