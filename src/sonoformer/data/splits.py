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
    part = deal(groups, label_matrix(manifest), shares, seed)
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
    part = deal(groups, label_matrix(manifest), np.full(count, 1 / count), seed)
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


def label_matrix(manifest: Manifest) -> np.ndarray:
    """`(rows, classes + 1)` float64: the labels, and a last column of ones that counts rows."""
    from sonoformer.data.classes import targets

    classes = manifest.classes
    target, _ = targets(manifest, classes, multi_label=True, strict=False)
    return np.concatenate([target, np.ones((len(manifest), 1))], axis=1).astype(np.float64)


def deal(groups: np.ndarray, counts: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Give every group to a part so that each class is spread by `shares`.

    The largest groups are dealt first, each to the part that lacks most of what the group has
    (rare classes weigh more). Groups of one row come last and are dealt by class in one go.

    Args:
        groups: `(rows,)` group of each row, from 0.
        counts: `(rows, columns)` what is to be spread; the last column counts rows.
        shares: `(parts,)` wanted share of each part, sum 1.

    Returns:
        `(rows,)` int64 part of each row.
    """
    number = int(groups.max()) + 1
    rng = np.random.default_rng([seed, number])
    contents = np.zeros((number, counts.shape[1]))
    np.add.at(contents, groups, counts)
    totals = np.maximum(contents.sum(0), 1)
    lack = np.outer(shares, totals)  # (parts, columns): still wanted
    lack[shares == 0] = -np.inf
    tie = rng.random(number)
    size = contents[:, -1]
    part = np.full(number, -1)
    large = np.flatnonzero(size > 1)
    for group in large[np.lexsort((tie[large], -size[large]))]:
        need = (lack * contents[group] / totals**2).sum(1) if contents[group].any() else lack[:, -1]
        part[group] = _most(need)
        lack[part[group]] -= contents[group]
    single = np.flatnonzero(size <= 1)
    _deal_single(single[np.argsort(tie[single])], contents, lack, part)
    return part[groups]


def _deal_single(
    order: np.ndarray, contents: np.ndarray, lack: np.ndarray, part: np.ndarray
) -> None:
    """Deal one-row groups: rarest class first, its rows cut into runs by what the parts lack."""
    classes = contents[order, :-1]
    rarity = contents[:, :-1].sum(0)
    # The rarest label of a row decides where it goes; rows without labels come last.
    scored = np.where(classes > 0, rarity, np.inf)
    lead = scored.argmin(1) if classes.shape[1] else np.zeros(len(order), int)
    if classes.shape[1]:
        lead[~(classes > 0).any(1)] = classes.shape[1]
    else:
        lead[:] = classes.shape[1]
    present = np.unique(lead)
    for column in sorted(present, key=lambda c: rarity[c] if c < len(rarity) else np.inf):
        members = order[lead == column]
        runs = _apportion(lack[:, column], len(members))
        # `order` is shuffled already, so consecutive runs are a random draw.
        part[members] = np.repeat(np.arange(len(runs)), runs)
        ends = np.cumsum(runs)
        for index, (stop, run) in enumerate(zip(ends, runs, strict=True)):
            if run:
                lack[index] -= contents[members[stop - run : stop]].sum(0)


def _apportion(lack: np.ndarray, count: int) -> np.ndarray:
    """Split `count` rows over parts so that what each still lacks ends as level as possible."""
    open_ = np.isfinite(lack)
    runs = np.zeros(len(lack), np.int64)
    level = lack[open_].astype(np.float64)
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
    part = deal(groups, label_matrix(train), np.array([1 - share, share]), seed)
    values = parts.to_numpy().astype(object).copy()
    values[rows[part == 1]] = "validation"
    return pl.Series(parts.name, values.tolist(), dtype=pl.String)


def _most(need: np.ndarray) -> int:
    return int(np.nan_to_num(need, nan=-np.inf, neginf=-np.inf).argmax())


def _by_appearance(key: pl.Series) -> np.ndarray:
    first = key.unique(maintain_order=True)
    numbers = pl.DataFrame({"key": first, "number": np.arange(len(first))})
    joined = key.alias("key").to_frame().join(numbers, on="key", maintain_order="left", how="left")
    return joined["number"].to_numpy().astype(np.int64)
