"""`sonoformer review`: export, import."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from cyclopts import App, Parameter

from sonoformer.cli.options import Out, Overwrite, Seed, say
from sonoformer.cli.tables import Columns, Separator, read_labels
from sonoformer.data.columns import ColumnMap
from sonoformer.data.manifest import Manifest
from sonoformer.errors import UserError
from sonoformer.files import write_text
from sonoformer.run import Run
from sonoformer.tasks.review.candidates import located, read_candidates
from sonoformer.tasks.review.export import ClipConfig, export_review
from sonoformer.tasks.review.labels import COLUMN, Conflict, Prefer, labelled, merged, save
from sonoformer.tasks.review.pick import PickConfig
from sonoformer.tasks.review.sheet import SHEET, Answered, Review, read_answers

_SHOWN = 5
Recordings = Annotated[
    Path | None,
    Parameter(help="Folder with the recordings, looked up by name, if they have moved."),
]

app = App(name="review", help="Hear what a model found, and take the answers back as labels.")


@app.command
def export(
    found: Path,
    /,
    *,
    out: Out = Path("review"),
    config: Annotated[PickConfig, Parameter(name="*")] = PickConfig(),
    clips: Annotated[ClipConfig, Parameter(name="*")] = ClipConfig(),
    known: Annotated[
        Path | None, Parameter(help="Table of labels: what it says is not asked again.")
    ] = None,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    recordings: Recordings = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write clips of what a model found, pages to hear them, and a table to fill in.

    Example: sonoformer review export runs/detect --out review --pick uncertain --per-class 20

    Parameters
    ----------
    found
        A run of predict or detect, or a table of theirs.
    """
    candidates = read_candidates(found)
    labels = None if known is None else read_labels(known, columns, separator, None)
    _keep_answers(out)
    options: dict[str, Any] = {"found": str(found), "pick": config, "clips": clips}
    with Run.start(out, "review", options, seed, overwrite=overwrite) as run:
        review = export_review(
            candidates,
            out,
            config,
            clips,
            seed=seed,
            recordings=recordings,
            known=labels,
            problem=run.problem,
        )
        counts = Counter(question.label for question in review.questions)
        run.metrics({"review": review.review, "clips": dict(counts)})
    shown = ", ".join(f"{name} {count}" for name, count in counts.items())
    say(f"review {review.review}: {len(review.questions)} clips ({shown})")
    say(f"pages: {', '.join(str(page) for page in sorted(out.glob('review-*.html')))}")
    say(
        f"fill in the column answer of {out / SHEET}: confirmed, rejected, unsure, or other with "
        f"the class in the column other; then: sonoformer review import {out}"
    )


@app.command(name="import")
def import_(
    filled: Path,
    /,
    *,
    out: Annotated[
        Path | None,
        Parameter(
            help="Table to write, .csv or .parquet; --into, or labels.csv beside the answers."
        ),
    ] = None,
    into: Annotated[
        Path | None, Parameter(help="Table of labels to put them into; a copy of it is kept.")
    ] = None,
    prefer: Annotated[
        Prefer, Parameter(help="Which side stays where the table and an answer contradict.")
    ] = "table",
    review: Annotated[
        Path | None, Parameter(help="Folder of the export, if the filled table is not in it.")
    ] = None,
    columns: Columns = ColumnMap(),
    separator: Separator = None,
    recordings: Recordings = None,
) -> None:
    """Take a filled table back as labels that finetune reads.

    A table that is filled in part gives what there is; import it again when there is more.

    Example: sonoformer review import review --into labels.csv

    Parameters
    ----------
    filled
        The table, or the folder of the export.
    """
    sheet = filled / SHEET if filled.is_dir() else filled
    if not sheet.is_file():
        raise UserError(f"{sheet}: no such file; name the filled table or the folder of the export")
    record = Review.read(review or sheet.parent)
    answers, empty = read_answers(sheet, record)
    if not answers:
        raise UserError(f"{sheet}: nothing is filled in yet; write into the column answer")
    names = [answer.question.path for answer in answers]
    paths = located(names, str(sheet), (Path(),), recordings)
    target = out or into or sheet.parent / "labels.csv"
    if target.suffix.lower() not in (".csv", ".parquet"):
        raise UserError(f"--out {target}: must end in .csv or .parquet")
    base = into if into is not None else _earlier(target, record)
    manifest = labelled(answers, paths)
    conflicts: tuple[Conflict, ...] = ()
    if base is not None:
        table = _labels(base, columns, separator)
        done = merged(table, answers, paths, record, prefer)
        manifest, conflicts = done.manifest, done.conflicts
        if done.replaced:
            say(f"{done.replaced} rows of an earlier import of this review are replaced")
        if done.in_reviewed:
            say(
                f"warning: {done.in_reviewed} unsure answers lie where {base} is called reviewed, "
                "and count as absent there"
            )
    if not len(manifest):
        raise UserError(f"{sheet}: all answers are unsure, so there is no label to write")
    kept = save(manifest, target, record.review)
    _tell(answers, empty, conflicts, prefer, target)
    say(f"wrote {target}: {len(manifest)} rows" + (f"; before: {kept}" if kept else ""))
    several = any(manifest.table[name].list.len().max() > 1 for name in ("labels", "negatives"))  # type: ignore[operator]
    say(f"next: sonoformer finetune {target}" + (" --separator ';'" if several else ""))


def _labels(path: Path, columns: ColumnMap, separator: str | None) -> Manifest:
    """A table of labels; one that an import wrote has several labels in a cell."""
    table = read_labels(path, columns, separator, None)
    ours = separator is None and COLUMN in table.table.columns
    return read_labels(path, columns, ";", None) if ours else table


def _keep_answers(out: Path) -> None:
    """Refuse to write over what a person filled in."""
    if not (out / SHEET).is_file():
        return
    try:
        answers, _ = read_answers(out / SHEET, Review.read(out))
    except UserError as error:
        raise UserError(f"{error}; it may hold answers, so choose another --out") from None
    if answers:
        raise UserError(
            f"{out}: holds {len(answers)} answers; import them by `sonoformer review import "
            f"{out}`, and choose another --out"
        )


def _earlier(target: Path, record: Review) -> Path | None:
    """The table that an earlier import of the same review alone left, to be written anew.

    Raises:
        UserError: there is another table.
    """
    if not target.exists():
        return None
    before = _labels(target, ColumnMap(), None).table
    own = f"{record.review}-"
    if COLUMN in before.columns and before[COLUMN].cast(pl.String).str.starts_with(own).all():
        return None
    raise UserError(
        f"{target}: is there already and is not of this review; put the answers into it by --into "
        f"{target}, or choose another --out"
    )


def _tell(
    answers: list[Answered],
    empty: int,
    conflicts: tuple[Conflict, ...],
    prefer: Prefer,
    target: Path,
) -> None:
    counts = Counter(answer.answer for answer in answers)
    shown = ", ".join(f"{counts[name]} {name}" for name in counts)
    say(f"{len(answers)} answers ({shown}), {empty} still empty")
    if not conflicts:
        return
    listed = target.with_name(f"{target.stem}.conflicts.txt")
    write_text(listed, "".join(f"{conflict}\n" for conflict in conflicts))
    for conflict in conflicts[:_SHOWN]:
        say(f"conflict: {conflict}")
    stays = "the table's stay" if prefer == "table" else "the answers stay"
    say(f"{len(conflicts)} conflicts, of which {stays}; all are listed in {listed}")
