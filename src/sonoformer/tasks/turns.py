"""What is trained on and what is tested on: one turn for a split, one a fold for a
cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sonoformer.data.classes import targets
from sonoformer.data.findings import refuse_errors
from sonoformer.data.leaks import find_leaks
from sonoformer.data.manifest import Manifest, natural
from sonoformer.data.shots import few_shots
from sonoformer.data.splits import cross_validation, folds, leave_one_group_out, split
from sonoformer.data.strong import STRETCHES
from sonoformer.errors import UserError
from sonoformer.tasks.config import FinetuneConfig

Rows = NDArray[np.int64]
_ROW = "_row"


@dataclass(frozen=True, eq=False)
class Turn:
    """Rows of the manifest by their part.

    Attributes:
        fold: name of the test fold; empty for a single split.
        train, validation, test: row numbers; validation and test may be empty.
    """

    fold: str
    train: Rows
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Task:
    """What is to be told apart.

    Attributes:
        classes: names, in the order of the scores.
        single: exactly one class a clip.
    """

    classes: tuple[str, ...]
    single: bool


def divide(manifest: Manifest, config: FinetuneConfig, seed: int) -> Manifest:
    """The manifest with its split or fold column filled, as the protocol says; the other is empty.

    Raises:
        UserError: the protocol does not fit the table.
    """
    protocol = config.protocol
    if protocol == "auto":
        has = {name: bool(manifest.table[name].is_not_null().any()) for name in ("split", "fold")}
        protocol = "folds" if has["fold"] and not has["split"] else "split"
    if protocol == "split":
        if config.only:
            raise UserError("only: names folds, but the protocol is split.")
        divided = split(manifest, validation=config.validation, test=config.test, seed=seed)
        return _emptied(divided, "fold")
    if protocol == "groups":
        divided = leave_one_group_out(manifest)
    else:
        divided = folds(manifest, config.folds, seed=seed)
    return _emptied(divided, "split")


def turns(manifest: Manifest, config: FinetuneConfig, seed: int) -> list[Turn]:
    """The turns of a manifest of `divide`.

    Raises:
        UserError: nothing to train on, or a name in `only` is no fold.
    """
    numbered = manifest.with_columns(pl.Series(_ROW, np.arange(len(manifest))))
    if manifest.table["fold"].is_not_null().any():
        found = cross_validation(
            numbered, validation=config.validation, seed=seed, only=config.only
        )
        return [Turn(f.name, _rows(f.train), _rows(f.validation), _rows(f.test)) for f in found]
    part = manifest.table["split"]
    rows = {
        name: np.flatnonzero((part == name).to_numpy()) for name in ("train", "validation", "test")
    }
    if not len(rows["train"]):
        raise UserError(f"{manifest.source}: no clip is in the part called train")
    return [Turn("", **rows)]


def few(
    turn: Turn, manifest: Manifest, config: FinetuneConfig, seed: int, say: Callable[[str], None]
) -> Turn:
    """The turn with no more than `shots` training clips of each class, and a line of what was
    taken; as it is if that is not asked for.

    Validation clips are left to watch training, but a probe, which would learn from them, gets
    none.
    """
    if config.shots is None:
        return turn
    found = few_shots(manifest.take(turn.train.tolist()), config.shots, seed)
    say(f"shots: {config.shots} of each class, {len(found.rows)} of {len(turn.train)} clips")
    if found.short:
        named = [f"{name} ({count})" for name, count in found.short.items()]
        shown = ", ".join(named[:8]) + (", ..." if len(named) > 8 else "")
        say(f"shots: fewer than {config.shots} clips to train on, all of them taken: {shown}")
    watched = turn.validation[:0] if config.method == "probe" else turn.validation
    return replace(turn, train=turn.train[found.rows], validation=watched)


def task_of(manifest: Manifest, config: FinetuneConfig) -> Task:
    """Classes and kind of task.

    The class list that came with the data, else every label outside the test part: a label that
    only test clips have cannot be learned.

    Raises:
        UserError: fewer than two things to tell apart; several labels where the task allows one.
    """
    manifest.require_labels()
    learned = manifest.where((manifest.table["split"] == "test").fill_null(False).not_())
    names = pl.concat([learned.table["labels"].explode(), learned.table["negatives"].explode()])
    classes = manifest.classes_given or tuple(natural(names.drop_nulls().unique().to_list()))
    present, known = targets(learned, classes, multi_label=True, strict=False)
    absences = known & (present == 0)
    # One class that some clips are known to lack is a question too: is it there or not?
    question = len(classes) == 1 and bool(absences.any())
    single = config.classifier.is_single(manifest.multi_label or question)
    heard = [name for name, count in zip(classes, present.sum(0), strict=True) if count]
    if not heard or (single and len(heard) < 2):
        what = f"all labels are {heard[0]!r}" if heard else "no clip has a label"
        raise UserError(
            f"{manifest.source}: {what} in the training part, so there is nothing to tell apart; "
            "name the label column by --label-column, or add clips of another class"
        )
    return Task(classes, single)


def check(
    manifest: Manifest, config: FinetuneConfig, task: Task, say: Callable[[str], None]
) -> None:
    """Refuse tables that cannot give a true result, and say what else is odd.

    Raises:
        UserError: bad times or bands, contradicting labels, or a leak between the parts.
    """
    findings = [
        finding
        for finding in manifest.check()
        # Missing files are skipped and listed one by one; `task_of` knows about single classes.
        if finding.kind not in ("missing-file", "one-class")
    ]
    by = "fold" if manifest.table["fold"].is_not_null().any() else "split"
    leaks = find_leaks(manifest, by=by)  # type: ignore[arg-type]
    if config.leaks == "refuse":
        hint = "; group what belongs together, or pass --leaks allow"
        errors = [f for f in leaks if f.severity == "error"]
        if errors:
            raise UserError(f"{manifest.source}: {errors[0]}{hint}")
    refuse_errors(findings, manifest.source)
    for finding in [*findings, *leaks]:
        say(f"{finding.severity}: {finding}")
    _say_unlearnable(manifest, task, by, say)


def _say_unlearnable(manifest: Manifest, task: Task, by: str, say: Callable[[str], None]) -> None:
    """Classes that lie in one fold only are never learned when it is tested."""
    if by != "fold":
        return
    places = (
        manifest.table.select("fold", label=pl.col("labels"))
        .explode("label")
        .drop_nulls("label")
        .group_by("label")
        .agg(pl.col("fold").n_unique().alias("folds"))
        .filter(pl.col("folds") == 1)["label"]
        .to_list()
    )
    alone = [name for name in task.classes if name in set(places)]
    if alone:
        shown = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
        say(f"warning: only one fold holds {shown}: tested there, no clip of it can be right")


def fingerprint(manifest: Manifest, task: Task) -> str:
    """Of the rows, their labels and their parts, whatever folder they lie in."""
    digest = hashlib.blake2b(repr(task).encode(), digest_size=12)
    columns = ["path", "start", "end", "channel", "labels", "negatives", "split", "fold", "group"]
    columns += [STRETCHES] if STRETCHES in manifest.table.columns else []
    for row in manifest.table.select(columns).iter_rows():
        name = row[0].replace("\\", "/").rpartition("/")[2]
        digest.update(repr((name, *row[1:])).encode())
    return digest.hexdigest()


def _rows(part: Manifest | None) -> Rows:
    return np.zeros(0, np.int64) if part is None else part.table[_ROW].to_numpy()


def _emptied(manifest: Manifest, column: str) -> Manifest:
    return manifest.with_columns(pl.lit(None, dtype=pl.String).alias(column))
