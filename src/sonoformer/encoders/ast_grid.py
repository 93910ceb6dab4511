"""Which stride and grid a position table can belong to, when only its length is known."""

from __future__ import annotations

from typing import NamedTuple

from sonoformer.errors import UserError

_OVERLAPS = (10, 12, 14)
"""Strides of the published patch models beside that of patches side by side."""
_LENGTHS = (1024, 512, 128, 1000, 600, 100)
"""Frames of the published models' clips (AST and SSAST, sections on data)."""
_FLAG = "give --stride BINS FRAMES to `sonoformer convert`"


class Fit(NamedTuple):
    """A way to read a position table.

    Attributes:
        stride: bins and frames from one patch to the next.
        grid: patches `(freq, time)`.
        shortest: least number of frames that gives this grid.
        longest: greatest.
    """

    stride: tuple[int, int]
    grid: tuple[int, int]
    shortest: int
    longest: int

    @property
    def frames(self) -> int:
        """The published length that gives this grid, or the shortest one.

        All lengths in between give the same tokens: what the last patch does not reach is not
        heard.
        """
        fitting = (frames for frames in _LENGTHS if self.shortest <= frames <= self.longest)
        return next(fitting, self.shortest)

    def __str__(self) -> str:
        return (
            f"{self.stride[0]} {self.stride[1]} ({self.grid[0]} x {self.grid[1]} patches, "
            f"{self.shortest} to {self.longest} frames)"
        )


def fit(patches: int, patch: tuple[int, int], stride: tuple[int, int], bins: int) -> Fit | None:
    """The grid of `patches` at a stride, if there is one."""
    if min(stride) < 1 or bins < patch[0]:
        return None
    rows = (bins - patch[0]) // stride[0] + 1
    columns, rest = divmod(patches, rows)
    if rest or not columns:
        return None
    shortest = (columns - 1) * stride[1] + patch[1]
    return Fit(stride, (rows, columns), shortest, shortest + stride[1] - 1)


def candidates(patches: int, patch: tuple[int, int], bins: int) -> list[Fit]:
    """Every published stride that a table of `patches` positions fits.

    Patches as high as the spectrogram: any stride in time up to their width. Others: the same
    stride on both axes, side by side or one of AST's overlaps.
    """
    if patch[0] == bins:
        strides = [(bins, step) for step in range(1, patch[1] + 1)]
    else:
        strides = [(step, step) for step in _OVERLAPS if step < min(patch)]
        strides.append(patch)
    found = (fit(patches, patch, stride, bins) for stride in strides)
    return [one for one in found if one is not None]


def choose(
    patches: int,
    patch: tuple[int, int],
    bins: int,
    stride: tuple[int, int] | None,
    source: str,
) -> Fit:
    """The grid of a table, by the stride that is given or the only one that fits.

    Raises:
        UserError: nothing fits, or several do and none is given.
    """
    if stride is not None:
        if (found := fit(patches, patch, stride, bins)) is None:
            raise UserError(
                f"--stride {stride[0]} {stride[1]}: does not fit {source}, whose table has "
                f"{patches} positions for patches of {patch[0]} x {patch[1]} on {bins} bins"
            )
        return found
    several = candidates(patches, patch, bins)
    if len(several) == 1:
        return several[0]
    what = f"{source}: a table of {patches} positions for patches of {patch[0]} x {patch[1]}"
    if not several:
        raise UserError(f"{what} fits no published stride; {_FLAG}")
    raise UserError(f"{what} fits several strides: {'; '.join(map(str, several))}; {_FLAG}")
