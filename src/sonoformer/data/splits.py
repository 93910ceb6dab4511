"""Train, validation and test parts, and folds, that never tear a group apart.

A group is what would give the answer away if it lay on both sides: a recording, a site, a speaker.
Rows of the same file always stay together. Classes are spread over the parts as evenly as the
groups allow. Everything is a function of the table and the seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from sonoformer.data.manifest import Manifest, natural
from sonoformer.errors import UserError

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Fold:
    """One turn of a cross-validation."""

    name: str
    train: Manifest
    validation: Manifest | None
    """taken from the training groups, never from the test; None if not asked for"""
    test: Manifest


def split(
    manifest: Manifest, *, validation: float = 0.1, test: float = 0.2, seed: int = 0
) -> Manifest:
    """The manifest with a full `split` column; rows that have a split keep it.

    If the table names train and test but no validation, the validation part is taken out of train.

    Args:
        manifest: the rows; `group` (or else the file) says what stays together.
        validation: share of the rows for validation, 0 for none.
        test: share of the rows for the test, 0 for none; not used where the table has a split.
        seed: another seed gives another split.

    Raises:
        UserError: the shares leave nothing for training, or there are fewer groups than parts.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise UserError("validation and test are shares from 0 to below 1 that leave some to train")
    given = manifest.table["split"]
    if given.is_not_null().any():
        filled = given.fill_null("train")
        if validation == 0 or (filled == "validation").any():
            return manifest.with_columns(filled.alias("split"))
        return manifest.with_columns(_carve(manifest, filled, validation, seed).alias("split"))
    shares = np.array([1 - validation - test, validation, test])
    groups = group_index(manifest)
    wanted = int((shares > 0).sum())
    if groups.max() + 1 < wanted:
        raise UserError(
            f"{manifest.source}: {groups.max() + 1} groups cannot fill {wanted} parts; group by "
            "something finer or ask for fewer parts"
        )
    part = deal(contents(manifest, groups), shares, seed)[groups]
    names = pl.Series("split", [PARTS[i] for i in part], dtype=pl.String)
    return manifest.with_columns(names)


def folds(manifest: Manifest, count: int = 5, *, seed: int = 0) -> Manifest:
    """The manifest with a full `fold` column, "1" to `count`; an existing one is kept.

    Raises:
        UserError: fewer groups than folds, or a fold column with gaps.
    """
    fold = manifest.table["fold"]
    if fold.is_not_null().any():
        if fold.is_null().any():
            raise UserError(f"{manifest.source}: the fold column has empty cells; fill or drop it")
        return manifest
    groups = group_index(manifest)
    if not 2 <= count <= groups.max() + 1:
        raise UserError(
            f"{manifest.source}: folds must be from 2 to the number of groups, {groups.max() + 1}"
        )
    part = deal(contents(manifest, groups), np.full(count, 1 / count), seed)[groups]
    return manifest.with_columns(pl.Series("fold", [str(i + 1) for i in part], dtype=pl.String))


def leave_one_group_out(manifest: Manifest) -> Manifest:
    """The manifest with each group as a fold of its own, named after it.

    Raises:
        UserError: rows without a group, or fewer than two groups.
    """
    group = manifest.table["group"]
    if group.is_null().any():
        raise UserError(
            f"{manifest.source}: leaving one group out needs a group in every row; name its column "
            "by --group-column"
        )
    if group.n_unique() < 2:
        raise UserError(f"{manifest.source}: there is only one group, so none can be left out")
    return manifest.with_columns(group.alias("fold"))


def cross_validation(
    manifest: Manifest, *, validation: float = 0.0, seed: int = 0, only: Sequence[str] = ()
) -> list[Fold]:
    """The turns of a cross-validation over the `fold` column, in natural order.

    Args:
        manifest: rows with a full `fold` column (see `folds` and `leave_one_group_out`).
        validation: share of the training rows set aside, by group, for choosing anything; the test
            fold is never used for that.
        seed: of the choice of validation groups.
        only: names of the folds wanted; all by default.

    Raises:
        UserError: a name in `only` is no fold, or the column has gaps.
    """
    fold = manifest.table["fold"]
    names = natural(fold.drop_nulls().unique().to_list())
    strange = [name for name in only if name not in names]
    if strange:
        raise UserError(f"folds: {strange[0]!r} is none of {', '.join(names)}")
    if len(names) < 2 or fold.is_null().any():
        raise UserError(f"{manifest.source}: cross-validation needs a fold in every row, two folds")
    turns = []
    for name in names:
        if only and name not in only:
            continue
        rest, test = manifest.where(fold != name), manifest.where(fold == name)
        held = None
        if validation > 0:
            blank = pl.repeat("train", len(rest), eager=True)
            part = _carve(rest, blank, validation, seed)
            rest, held = rest.where(part == "train"), rest.where(part == "validation")
        turns.append(Fold(name, rest, held, test))
    return turns


def group_index(manifest: Manifest) -> np.ndarray:
    """`(rows,)` int64: which indivisible group a row belongs to, numbered from 0.

    Rows share a group if they have the same `group`, or the same file; where a file belongs to
    several groups, those groups become one.
    """
    table = manifest.table
    own = pl.concat_str(pl.lit("file "), "path")
    key = table.select(
        key=pl.when(pl.col("group").is_null())
        .then(own)
        .otherwise(pl.concat_str(pl.lit("group "), "group"))
    )["key"]
    file = table["path"].rank("dense").to_numpy().astype(np.int64) - 1
    # Numbered by first appearance, so that the same table gives the same parts everywhere.
    group = _by_appearance(key)
    while True:
        lowest = np.full(file.max() + 1, np.iinfo(np.int64).max)
        np.minimum.at(lowest, file, group)
        joined = lowest[file]
        if (joined == group).all():
            break
        root = np.arange(group.max() + 1)
        np.minimum.at(root, group, joined)
        group = root[group]
    return np.unique(group, return_inverse=True)[1]


@dataclass(frozen=True)
class Contents:
    """What each group holds, as a sparse matrix `(groups, columns)` by rows.

    Columns are the classes, and a last one that counts the rows.
    """

    begin: np.ndarray
    """`(groups + 1,)` where each group's entries begin"""
    column: np.ndarray
    """`(entries,)` column, ascending within a group"""
    count: np.ndarray
    """`(entries,)` float64 how often the group has it"""
    columns: int

    @property
    def totals(self) -> np.ndarray:
        """`(columns,)` sums over the groups."""
        return np.bincount(self.column, self.count, self.columns)

    @property
    def rows(self) -> np.ndarray:
        """`(groups,)` rows of each group: its last entry."""
        return self.count[self.begin[1:] - 1]

    def of(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """Columns and counts of one group."""
        span = slice(self.begin[group], self.begin[group + 1])
        return self.column[span], self.count[span]


def contents(manifest: Manifest, groups: np.ndarray) -> Contents:
    """Labels and rows of each group; `groups` is `(rows,)` from `group_index`."""
    names = {name: i for i, name in enumerate(manifest.classes)}
    frame = pl.DataFrame({"group": groups, "label": manifest.table["labels"]})
    labels = (
        frame.explode("label")
        .drop_nulls()
        .with_columns(pl.col("label").replace_strict(names, default=None, return_dtype=pl.Int64))
        .drop_nulls()
        .group_by("group", "label")
        .agg(count=pl.len())
    )
    rows = frame.group_by("group").agg(count=pl.len())
    rows = rows.select("group", pl.lit(len(names), pl.Int64).alias("label"), "count")
    entries = pl.concat([labels, rows]).sort("group", "label")
    begin = np.searchsorted(entries["group"].to_numpy(), np.arange(groups.max() + 2))
    count = entries["count"].to_numpy().astype(np.float64)
    return Contents(begin, entries["label"].to_numpy(), count, len(names) + 1)


def deal(held: Contents, shares: np.ndarray, seed: int) -> np.ndarray:
    """Give every group to a part so that each class is spread by `shares`.

    The largest groups are dealt first, each to the part that lacks most of what the group has
    (rare classes weigh more). Groups of one row come last and are dealt by class in one go. No part
    with a share stays empty where there are as many groups as such parts.

    Args:
        held: what each group holds.
        shares: `(parts,)` wanted share of each part, sum 1; a part with share 0 stays empty.
        seed: breaks ties.

    Returns:
        `(groups,)` int64 part of each group.
    """
    number = len(held.begin) - 1
    totals = held.totals
    weight = 1 / np.maximum(totals, 1) ** 2
    lack = np.outer(shares, totals)  # (parts, columns): still wanted
    lack[shares == 0] = -np.inf
    tie = np.random.default_rng([seed, number]).random(number)
    rows = held.rows
    part = np.full(number, -1)
    large = np.flatnonzero(rows > 1)
    for group in large[np.lexsort((tie[large], -rows[large]))]:
        column, count = held.of(group)
        chosen = int((lack[:, column] @ (count * weight[column])).argmax())
        part[group] = chosen
        lack[chosen, column] -= count
    single = np.flatnonzero(rows <= 1)
    _deal_single(single[np.argsort(tie[single])], held, lack, part)
    _fill(part, shares, rows)
    return part


def _fill(part: np.ndarray, shares: np.ndarray, rows: np.ndarray) -> None:
    """Give a part that got nothing the smallest group of the part that has the most groups."""
    for empty in np.flatnonzero(shares > 0):
        groups = np.bincount(part, minlength=len(shares))
        if not groups[empty] and groups.max() > 1:
            theirs = np.flatnonzero(part == groups.argmax())
            part[theirs[rows[theirs].argmin()]] = empty


def _deal_single(order: np.ndarray, held: Contents, lack: np.ndarray, part: np.ndarray) -> None:
    """Deal one-row groups: rarest class first, its rows cut into runs by what the parts lack."""
    if not len(order):
        return
    # The rarest label of a row leads; rows without a label are led by the column of rows, which
    # is the commonest of all and so comes last.
    rarity = held.totals.copy()
    rarity[-1] = np.inf
    ranked = np.argsort(np.argsort(rarity, kind="stable"), kind="stable")
    lead = np.minimum.reduceat(ranked[held.column], held.begin[:-1])[order]
    by_rank = order[np.argsort(lead, kind="stable")]  # `order` is shuffled: runs are random draws
    ranks, sizes = np.unique(lead, return_counts=True)
    stop = 0
    for rank, size in zip(ranks, sizes, strict=True):
        members = by_rank[stop : stop + size]
        stop += size
        column = int(np.flatnonzero(ranked == rank)[0])
        runs = _apportion(lack[:, column], size)
        part[members] = np.repeat(np.arange(len(runs)), runs)
        for index in np.flatnonzero(runs):
            for_part = members[part[members] == index]
            spans = [slice(held.begin[g], held.begin[g + 1]) for g in for_part]
            taken = np.concatenate([held.column[span] for span in spans])
            lack[index] -= np.bincount(taken, minlength=held.columns)


def _apportion(lack: np.ndarray, count: int) -> np.ndarray:
    """Split `count` rows over parts so that what each still lacks ends as level as possible."""
    open_ = np.isfinite(lack)
    runs = np.zeros(len(lack), np.int64)
    level = lack[open_]
    # Water-filling: lower the fullest needs to one common level that uses up `count`.
    ordered = np.sort(level)[::-1]
    used = np.cumsum(ordered) - ordered * np.arange(1, len(ordered) + 1)
    filled = int(np.searchsorted(used, count, side="right"))
    water = (ordered[:filled].sum() - count) / filled
    exact = np.maximum(level - water, 0)
    whole = np.floor(exact).astype(np.int64)
    rest = count - int(whole.sum())
    whole[np.argsort(-(exact - whole), kind="stable")[:rest]] += 1
    runs[open_] = whole
    return runs


def _carve(manifest: Manifest, parts: pl.Series, share: float, seed: int) -> pl.Series:
    """`parts` with `share` of the train rows turned to validation, by group."""
    rows = (parts == "train").arg_true().to_numpy()
    train = replace(manifest, table=manifest.table[rows])
    groups = group_index(train)
    if groups.max() < 1:
        raise UserError(
            f"{manifest.source}: all training rows are one group, so none can be set aside for "
            "validation; group by something finer or pass --validation 0"
        )
    part = deal(contents(train, groups), np.array([1 - share, share]), seed)[groups]
    values = parts.to_numpy().astype(object).copy()
    values[rows[part == 1]] = "validation"
    return pl.Series(parts.name, values.tolist(), dtype=pl.String)


def _by_appearance(key: pl.Series) -> np.ndarray:
    first = key.unique(maintain_order=True)
    numbers = pl.DataFrame({"key": first, "number": np.arange(len(first))})
    joined = key.alias("key").to_frame().join(numbers, on="key", maintain_order="left", how="left")
    return joined["number"].to_numpy().astype(np.int64)
