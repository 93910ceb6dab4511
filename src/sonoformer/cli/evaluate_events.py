"""`sonoformer evaluate --events`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from sonoformer.cli.options import Out, Overwrite, Seed, say
from sonoformer.data.annotations import EventColumns, read_class_map
from sonoformer.evaluation.events.about import About, read_about
from sonoformer.evaluation.events.evaluate import (
    answers_of,
    evaluate_events,
    read_tables,
    summary,
)
from sonoformer.evaluation.events.judged import EventScoring
from sonoformer.run import Run


def evaluate(
    truth: Path,
    found: Path,
    /,
    *,
    events: Annotated[
        bool, Parameter(help="Compare tables of events, rather than score a model.", negative="")
    ],
    out: Out = Path("runs/evaluate"),
    recordings: Annotated[
        Path | None,
        Parameter(help="Folder with the sound; without it names stay as the tables have them."),
    ] = None,
    about: Annotated[
        Path | None,
        Parameter(
            help="Table with a row a recording: path, and seconds, group, fold where known. "
            "Recordings without any event count too, groups are drawn as a whole for intervals, "
            "and figures are given fold by fold."
        ),
    ] = None,
    only_annotated: Annotated[
        bool,
        Parameter(
            help="Leave out recordings that TRUTH does not name, rather than count all that was "
            "found in them as wrong.",
            negative="",
        ),
    ] = False,
    class_map: Annotated[
        Path | None,
        Parameter(help="YAML mapping of old to new class names, for both; null drops a class."),
    ] = None,
    columns: Annotated[EventColumns, Parameter(name="*")] = EventColumns(),
    scoring: Annotated[EventScoring, Parameter(name="*")] = EventScoring(),
    resamples: Annotated[int, Parameter(help="Bootstrap samples behind each interval.")] = 1000,
    examples: Annotated[
        int, Parameter(help="Mistakes of each kind that the report shows with sound.")
    ] = 6,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Score events that were found against those that are there: figures, mistakes, a report.

    Both are tables of any format that `sonoformer data convert` reads, or folders of them.

    Example: sonoformer evaluate --events truth.csv runs/detect/events.csv --recordings field/

    Parameters
    ----------
    truth
        Annotations.
    found
        What a detector found.
    """
    mapping = None if class_map is None else read_class_map(class_map)
    tables = read_tables(truth, found, recordings=recordings, columns=columns, classes=mapping)
    known = About() if about is None else read_about(about, recordings)
    answers = answers_of(tables, known, only_annotated=only_annotated)
    options = {
        "truth": str(truth),
        "found": str(found),
        "recordings": None if recordings is None else str(recordings),
        "about": None if about is None else str(about),
        "only_annotated": only_annotated,
        "class_map": mapping,
        "columns": columns,
        "scoring": scoring,
        "resamples": resamples,
    }
    with Run.start(out, "evaluate", options, seed, overwrite=overwrite) as run:
        card = evaluate_events(
            answers,
            run,
            scoring=scoring,
            folds=known.folds or None,
            resamples=resamples,
            seed=seed,
            facts=options,
            examples=examples,
        )
        for line in (*summary(card), *card.notes):
            say(line)
        say(f"report: {out / 'report.html'}")
