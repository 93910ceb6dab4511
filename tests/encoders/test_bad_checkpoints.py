"""Bad and odd checkpoints: one sentence that says what to do, or a model; by hand and by chance."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.fuzz import cases, judge, pickles
from tests.fuzz.checkpoints import run_one
from torch import Tensor, nn

import sonoformer as sf
from sonoformer.audio import write
from sonoformer.cli.main import main
from sonoformer.encoders import Hints, load_encoder, read_published
from sonoformer.tasks.model import load_model
from sonoformer.weights import read_foreign

KNOWN: dict[str, Any] = cases.KNOWN


def named(kind: str, container: str) -> cases.Case:
    """A small valid checkpoint."""
    return next(c for c in cases.every() if (c.kind, c.container) == (kind, container))


def refused(path: Path, said: str, **hints: Any) -> str:
    """The sentence with which a checkpoint is refused, by everything that could read it."""
    reader = load_model if hints else load_encoder
    with pytest.raises(sf.UserError, match=said) as caught:
        reader(path, **hints)
    text = str(caught.value)
    assert text.isprintable()
    return text


# Files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 0.999])
def test_files_cut_short(container: str, share: float, tmp_path: Path) -> None:
    path = named("pretrained SSAST", container).write(tmp_path / "x")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    safe = "is not a whole safetensors file .*copy it again"
    said = safe if container == "safetensors" else "is damaged or cut short"
    assert refused(path, said).startswith(str(path))


def test_a_zip_that_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    refused(path, "no checkpoint that torch.save wrote")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(5_000_000))
    refused(path, "no checkpoint that torch.save wrote")


class Trap:
    """Calls something when a careless reader unpickles it."""

    def __init__(self, what: Any, *arguments: Any) -> None:
        self.call = what, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["eval", "exec", "touch"])
def test_code_is_named_and_not_run(name: str, zipped: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    call = f"open({str(canary)!r}, 'w')"
    traps = {"eval": Trap(eval, call), "exec": Trap(exec, call), "touch": Trap(Path.touch, canary)}
    case = named("pretrained SSAST", "zip")
    path = tmp_path / "w.pth"
    content = {"state_dict": case.tensors, "epoch": traps[name]}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    said = "getattr" if name == "touch" else name
    refused(path, rf"without executing code that it names \({said}\), which is refused")
    assert not canary.exists()


def test_keys_nested_too_deeply_do_not_overflow_the_stack(tmp_path: Path) -> None:
    deep = b"\x80\x02}(" + b")" + b"\x85" * 400_000 + b"K\x01u."
    path = tmp_path / "w.pth"
    case = named("pretrained SSAST", "zip")
    torch.save(case.tensors, path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "deep.pth", "w") as new:
        for entry in old.infolist():
            new.writestr(entry, deep if entry.filename.endswith(".pkl") else old.read(entry))
    refused(tmp_path / "deep.pth", "is damaged")
    hungry = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x80\x00\x85R."
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + hungry)
    refused(path, "is damaged")


def test_a_dictionary_that_holds_itself(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "dictionaries in dictionaries")


def test_views_that_claim_more_than_the_file_holds(tmp_path: Path) -> None:
    case = named("pretrained SSAST", "zip")
    for name, value in case.tensors.items():
        case.tensors[name] = torch.full((), 0.01).expand([s * 64 for s in value.shape])
    refused(case.write(tmp_path / "x"), "its tensors would take .* bytes, far more than the file")


def test_methods_hidden_by_attributes(tmp_path: Path) -> None:
    """Tensors and dictionaries come with attributes that only their classes should have."""
    weight = nn.Parameter(torch.ones(2))
    weight.__dict__["detach"] = 5
    torch.save({"weight": weight}, tmp_path / "w.pth")
    found = read_foreign(tmp_path / "w.pth").tensors["weight"]
    assert torch.equal(found, torch.ones(2))
    assert type(found) is Tensor
    hiding = b"\x80\x02ccollections\nOrderedDict\n)R}" + pickles.text("items") + b"K\x05sb."
    with (
        zipfile.ZipFile(tmp_path / "w.pth") as old,
        zipfile.ZipFile(tmp_path / "d.pth", "w") as new,
    ):
        for entry in old.infolist():
            new.writestr(entry, hiding if entry.filename.endswith(".pkl") else old.read(entry))
    refused(tmp_path / "d.pth", "holds no tensors")


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "x" * 5000, "\ud800"])
def test_names_that_no_program_gives(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.ones(1)}, tmp_path / "w.pth")
    assert len(refused(tmp_path / "w.pth", "names a tensor '.*, as no program does")) < 400


# Other models -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["module.v.layers.0.mixer.in_proj.weight", "module.v.cls"],
            r"is no SSAMBA \(v\.cls_token missing",
        ),
        (["conv1.weight", "layer1.0.bn1.weight"], "no AST of a known layout.*conv1.weight, layer1"),
        (["audio_spectrogram_transformer.layernorm.weight"], "name the folder that holds them"),
        (["cls_token", "pos_embed"], r"is no AST \(patch_embed.*shape of pos_embed \(3, 3\)"),
        (["module.v.cls_token"], r"is no AST \(v\.pos_embed missing"),
    ],
)
def test_other_models_are_told_apart(names: list[str], said: str, tmp_path: Path) -> None:
    torch.save({name: torch.ones(3, 3) for name in names}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", said)


def test_missing_unknown_and_misshapen_tensors_are_listed(tmp_path: Path) -> None:
    case = named("pretrained SSAST", "zip")
    del case.tensors["module.v.norm.bias"]
    case.tensors["module.v.extra"] = torch.ones(1)
    case.tensors["module.v.blocks.0.norm1.weight"] = torch.ones(7)
    refused(
        case.write(tmp_path / "x"),
        r"do not fit this model; missing: norm\.bias; unknown: extra; "
        r"of another shape: blocks\.0\.norm1\.weight is \(7,\), should be \(64,\)",
    )
    case = named("pretrained SSAST", "zip")
    case.tensors["module.v.norm.bias"] = torch.ones(64, dtype=torch.int64)
    refused(case.write(tmp_path / "y"), r"of another kind: norm\.bias holds int64")
    case.tensors["module.v.norm.bias"] = torch.full((64,), float("nan"))
    refused(case.write(tmp_path / "z"), r"values that are not finite in norm\.bias")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float8_e5m2, torch.float64])
@pytest.mark.parametrize("name", ["pretrained SSAST", "DeiT", "classifier"])
def test_other_precisions_become_fp32(name: str, kind: torch.dtype, tmp_path: Path) -> None:
    case = named(name, "zip")
    whole = load_encoder(case.write(tmp_path / "whole")).state_dict()
    for key, value in case.tensors.items():
        case.tensors[key] = value.to(kind) if value.is_floating_point() else value
    found = load_encoder(case.write(tmp_path / "x")).state_dict()
    assert all(value.dtype == torch.float32 for value in found.values())
    for key, value in whole.items():
        assert torch.equal(found[key], value.to(kind).float())


def test_what_lies_beside_the_weights_is_noted(tmp_path: Path) -> None:
    case = named("pretrained SSAST", "zip")
    state = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {"model": case.tensors, "optimizer": state, "epoch": 3}
    torch.save(content, tmp_path / "w.pth")
    notes = read_published(tmp_path / "w.pth").notes
    assert "left out, being no weights: optimizer, epoch" in notes
    assert load_encoder(tmp_path / "w.pth").depth == 1


# Folders ------------------------------------------------------------------------------------------


def test_folders_that_are_not_whole(tmp_path: Path) -> None:
    folder = named("transformers", "safetensors").write(tmp_path / "x")
    config = (folder / "config.json").read_text()
    (folder / "config.json").unlink()
    refused(folder, r"x/config\.json: is missing; copy the whole folder")
    (folder / "config.json").write_text(
        json.dumps({**json.loads(config), "model_type": "wav2vec2"})
    )
    refused(folder, "model of type 'wav2vec2', not 'audio-spectrogram-transformer'")
    (folder / "config.json").write_text("9" * 6000)
    refused(folder, "holds no checkpoint|cannot be read as JSON")
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").unlink()
    refused(folder, r"x: holds no weights \(model\.safetensors or pytorch_model\.bin\)")


@pytest.mark.parametrize(
    "place", ["../x.safetensors", "/etc/passwd", "..", "", "config.json", "a\nb"]
)
def test_an_index_names_files_of_its_folder_only(place: str, tmp_path: Path) -> None:
    folder = named("transformers", "parts").write(tmp_path / "x")
    assert load_model(folder).classes == ("sound 0", "sound 1", "sound 2")
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"][next(iter(values["weight_map"]))] = place
    index.write_text(json.dumps(values))
    refused(folder, r"index\.json: .* is no file of this folder")


def test_an_index_that_does_not_fit_its_files(tmp_path: Path) -> None:
    folder = named("transformers", "parts").write(tmp_path / "x")
    index = folder / "model.safetensors.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["more"] = "model-1-of-2.safetensors"
    index.write_text(json.dumps(values))
    refused(folder, "lists tensors that its files do not hold: more")
    (folder / "model-2-of-2.safetensors").unlink()
    refused(folder, r"model-2-of-2\.safetensors: no such file")


# Hints --------------------------------------------------------------------------------------------


def test_hints(tmp_path: Path) -> None:
    path = named("classifier", "zip").write(tmp_path / "x")
    with pytest.raises(sf.UserError, match=r"--pool: .*; --task: .*; --statistics: "):
        load_model(path)
    refused(path, r"hints: unknown option 'pools'\. Did you mean 'pool'\?", pools="cls")
    refused(path, "hints: pool must be one of mean, cls; got 'max'", pool="max")
    refused(path, "--stride 7 7: does not fit", **KNOWN, stride=(7, 7))
    ours = named("our classifier", "safetensors").write(tmp_path / "ours")
    refused(ours, f"pool, task: {ours} says itself what these are", pool="cls", task="multi")


def test_a_stride_that_the_shapes_leave_open_is_asked_for(tmp_path: Path) -> None:
    """360 positions are 12, 10, 9 or 8 rows of whole columns."""
    case = named("classifier", "zip")
    case.tensors["module.v.pos_embed"] = torch.zeros(1, 2 + 360, 64)
    path = case.write(tmp_path / "x")
    refused(
        path,
        r"a table of 360 positions for patches of 16 x 16 fits several strides: 10 10 \(12 x 30 "
        r"patches, .*; 12 12 .*; 14 14 .*; 16 16 .*; give --stride BINS FRAMES",
        **KNOWN,
    )
    found = read_published(path, Hints(**KNOWN, stride=(10, 10)))
    assert found.config.table == (12, 30)


# The command line ---------------------------------------------------------------------------------


def sonoformer(*words: object) -> int:
    """The exit code of a command."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.mark.parametrize(
    "words",
    [
        ["convert", "BAD", "--out", "OUT"],
        ["inspect", "BAD"],
        ["embed", "WAVE", "--encoder", "BAD", "--out", "OUT"],
        ["finetune", "TABLE", "--init", "BAD", "--out", "OUT", "--steps", "1"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("kind", ["cut", "code"])
def test_a_bad_file_is_one_line_and_exit_code_2(
    words: list[str], kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = named("pretrained SSAST", "zip").write(tmp_path / "x")
    if kind == "cut":
        bad.write_bytes(bad.read_bytes()[:5000])
    else:
        torch.save({"a": torch.ones(1), "b": Trap(Path.touch, tmp_path / "canary")}, bad)
    noise = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    rows = ["file,species,split"]
    for number in range(8):
        write(tmp_path / f"{number}.wav", noise, 16000)
        rows.append(f"{number}.wav,{number % 2},{'test' if number > 5 else 'train'}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    places = {
        "BAD": bad,
        "OUT": tmp_path / "out",
        "WAVE": tmp_path / "0.wav",
        "TABLE": tmp_path / "labels.csv",
    }
    code = sonoformer(*(places.get(word, word) for word in words))
    said = capsys.readouterr().err
    assert code == 2, said
    assert said.startswith(f"sonoformer: {bad}: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out" / "model").exists()
    assert not (tmp_path / "canary").exists()


def test_inspect_shows_what_names_hold_as_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = named("our classifier", "safetensors")
    case.configs["config.json"]["classes"] = ["[/red]", "a\nb", "\x1b[31m"]
    folder = case.write(tmp_path / "x")
    (folder / "config.json").write_text(json.dumps(case.configs["config.json"], ensure_ascii=False))
    assert sonoformer("inspect", folder) == 0
    said = capsys.readouterr().out
    assert "[/red]" in said
    assert "\x1b" not in said


# By chance ----------------------------------------------------------------------------------------


def test_150_damaged_checkpoints(tmp_path: Path) -> None:
    """A sample of `python -m tests.fuzz.checkpoints`, which runs thousands."""
    found = [run_one(1, number, tmp_path) for number in range(150)]
    assert not [one for one in found if "failure" in one]
    outcomes = {one["outcome"] for one in found}
    assert {"a refusal", "an encoder", "something to show"} <= outcomes


def test_undamaged_ones_are_read(tmp_path: Path) -> None:
    for number, case in enumerate(cases.every()):
        path = case.write(tmp_path / str(number))
        assert judge.read("load_encoder", path, case.hints) == "an encoder"


@pytest.mark.parametrize(
    "deed",
    [
        lambda folder: eval("len('fuzz_canary')"),
        lambda folder: (folder / "new").write_text("x"),
        lambda folder: (folder.parent / "fuzz_canary").symlink_to(folder),
        lambda folder: __import__("os").system("true"),
        lambda folder: torch.empty(2**40),
    ],
    ids=["code", "file", "link", "command", "address space"],
)
def test_the_judge_sees_what_is_forbidden(deed: Any, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    folder.mkdir()

    def reader(path: Path, hints: dict[str, Any]) -> str:
        deed(path)
        return "something"

    judge.READERS["deed"] = reader
    try:
        with pytest.raises(judge.ForbiddenError):
            judge.read("deed", folder, {})
    finally:
        del judge.READERS["deed"]
