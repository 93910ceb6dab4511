"""`sonoformer convert`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.options import Out, Overwrite, say
from sonoformer.cli.published import facts_of
from sonoformer.encoders import (
    Hints,
    PatchEncoder,
    Published,
    is_published,
    read_published,
    save_encoder,
)
from sonoformer.errors import UserError
from sonoformer.pretraining.mspm import MspmConfig
from sonoformer.pretraining.starting import objective_of_ssast
from sonoformer.run import Run
from sonoformer.settings import plain
from sonoformer.tasks.class_names import read_class_names
from sonoformer.tasks.model import Model, published_model


def convert(
    source: Path,
    /,
    *,
    out: Out = Path("runs/convert"),
    hints: Annotated[Hints, Parameter(name="*")] = Hints(),
    class_file: Annotated[
        Path | None,
        Parameter(help="Names of the classes: a .txt with a name a line, or a .csv such as AST's."),
    ] = None,
    drop_head: Annotated[
        bool, Parameter(help="Take the encoder of a classifier alone.", negative="")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Turn a published AST, SSAST or SSAMBA, or one of transformers, into a checkpoint of ours.

    Example: sonoformer convert ast.pth --pool cls --task multi --statistics audioset

    Parameters
    ----------
    source
        A weights file of the AST, SSAST or SSAMBA programs, or a folder of transformers.
    """
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    if not is_published(source):
        raise UserError(
            f"{source}: is neither a weights file nor a folder of transformers; `sonoformer "
            "inspect` says what it is"
        )
    if class_file is not None:
        if hints.classes is not None:
            raise UserError("--class-file, --classes: give one of the two")
        hints = replace(hints, classes=read_class_names(class_file))
    found = read_published(source, hints)
    with_head = found.head is not None and not drop_head
    made = published_model(found, hints.profile) if with_head else found.make_encoder(hints.profile)
    options = {"source": str(source), "hints": hints, "drop_head": drop_head}
    with Run.start(out, "convert", options, 0, overwrite=overwrite) as run:
        digest = _digest(source)
        run.data(digest[:24])
        card = _card(found, source, digest, hints, with_head)
        if isinstance(made, Model):
            made.save(out / "model", card)
        else:
            _save_encoder(made, found, out / "model", card)
        for note in found.notes:
            run.log(note, show=False)
        run.metrics({"classes": len(made.classes) if isinstance(made, Model) else 0})
    for name, text in facts_of(found).items():
        say(f"{name}: {text}")
    say(f"wrote {out / 'model'}")


def _save_encoder(encoder: PatchEncoder, found: Published, folder: Path, card: str) -> None:
    own = {f"objective.{n}": value for n, value in objective_of_ssast(found.pretext).items()}
    objective = {"name": "mspm", "config": plain(MspmConfig.reference())}
    save_encoder(encoder, folder, card, extra={"objective": objective} if own else {}, tensors=own)


def _digest(source: Path) -> str:
    """SHA-256 of the file, or of the folder's files in the order of their names."""
    files = sorted(p for p in source.iterdir() if p.is_file()) if source.is_dir() else [source]
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    return found.hexdigest()


def _card(found: Published, source: Path, digest: str, hints: Hints, with_head: bool) -> str:
    rows = "\n".join(f"- {name}: {text}" for name, text in facts_of(found).items())
    profile = hints.profile
    if profile == "auto":
        profile = "reference" if with_head else "default"
    return (
        f"# {found.kind}\n\nConverted from `{source.name}` (SHA-256 `{digest}`); it hears in the "
        f"{profile} profile. Its training and its scores are those of its authors.\n\n{rows}\n"
    )
