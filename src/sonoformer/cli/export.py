"""`sonoformer export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sonoformer.cli.options import say
from sonoformer.encoders import find_checkpoint, is_published, load_encoder
from sonoformer.errors import UserError
from sonoformer.export import to_half, to_onnx, to_transformers
from sonoformer.files import read_json
from sonoformer.tasks.model import load_model, model_folder
from sonoformer.weights.folder import CARD, CONFIG


def export(
    model: Path,
    /,
    *,
    to: Annotated[
        Literal["transformers", "half", "onnx"],
        Parameter(
            help="transformers: a folder for its ASTForAudioClassification or ASTModel; half: one "
            "of ours in half precision, without what only training needs; onnx: model.onnx, from "
            "spectrograms to logits, or to the mean of the tokens without a head."
        ),
    ] = "transformers",
    out: Annotated[Path, Parameter(help="Folder to write; an earlier export is replaced.")] = Path(
        "exported"
    ),
    frames: Annotated[
        int | None,
        Parameter(
            help="transformers, onnx: frames (of 10 ms) of the clips it takes; those of the model "
            "if fixed; onnx: else any number."
        ),
    ] = None,
) -> None:
    """Write a model in another format, and compare what was written with it.

    Example: sonoformer export runs/finetune --to transformers --frames 1024 --out frogs-ast
    """
    if is_published(model):
        raise UserError(f"{model}: is no checkpoint of ours; `sonoformer convert` makes it one")
    if to == "half":
        if frames is not None:
            raise UserError("frames: belongs to the format transformers; leave it away")
        written, difference = to_half(model, out)
        say(f"wrote {written}; outputs on noise differ by at most {difference:.1e}")
        return
    folder = find_checkpoint(model)
    settings = read_json(folder / CONFIG)
    with_head = isinstance(settings, dict) and "head" in settings
    loaded = load_model(model_folder(model)) if with_head else load_encoder(folder)
    if to == "onnx":
        out.mkdir(parents=True, exist_ok=True)
        made = to_onnx(loaded, out / "model.onnx", frames)
        length = "any length" if made.frames is None else f"{made.frames} frames"
        say(
            f"wrote {made.path} for clips of {length}; outputs on noise differ by at most "
            f"{made.difference:.1e} in onnxruntime"
        )
        return
    card = folder / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    done = to_transformers(loaded, out, frames, text)
    for note in done.notes:
        say(f"note: {note}")
    what = "logits" if with_head else "tokens"
    say(
        f"wrote {done.folder} for clips of {done.frames} frames; {what} on noise differ by at most "
        f"{done.difference:.1e} from the model's own"
    )
