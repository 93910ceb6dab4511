"""Learned position tables for grids of other sizes and strides than they were learned at."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def by_seconds(
    table: Tensor, grid: tuple[int, int], stride: tuple[int, int], table_stride: tuple[int, int]
) -> Tensor:
    """Positions by where a token lies in Hz and seconds, whatever the stride or clip length.

    The table is interpolated linearly at the centres of the new tokens and held constant past its
    ends. A token's position depends on its own place alone: padding a batch or choosing a longer
    clip moves nothing.

    Args:
        table: `(dim, freq, time)` learned at `table_stride`.
        grid: counts `(freq, time)` wanted.
        stride: bins and frames between tokens.
        table_stride: bins and frames between the table's cells.

    Returns:
        `(freq * time, dim)`.
    """
    dim, freq, time = table.shape
    if stride == table_stride and grid[0] <= freq and grid[1] <= time:
        return table[:, : grid[0], : grid[1]].reshape(dim, -1).T
    rows = _weights(grid[0], freq, stride[0] / table_stride[0], table)
    columns = _weights(grid[1], time, stride[1] / table_stride[1], table)
    return torch.einsum("dft,nf,mt->nmd", table, rows, columns).reshape(-1, dim)


def _weights(count: int, cells: int, scale: float, like: Tensor) -> Tensor:
    """Linear interpolation as a matrix `(count, cells)`: place i reads the table at `i * scale`."""
    place = torch.arange(count, device=like.device, dtype=torch.float64) * scale
    place = place.clamp(max=cells - 1).unsqueeze(1)
    cell = torch.arange(cells, device=like.device, dtype=torch.float64)
    return (1 - (place - cell).abs()).clamp_min(0).to(like.dtype)


def resampled(
    table: Tensor, grid: tuple[int, int], stride: tuple[int, int], table_stride: tuple[int, int]
) -> Tensor:
    """A table to go on learning with at another grid and stride.

    Along an axis whose old span holds the new one, places keep their Hz or seconds (`by_seconds`).
    Along one that it does not, the table is stretched, as AST and SSAST do: by seconds, all tokens
    past the old end would begin with the same position.

    Args:
        table: `(dim, freq, time)` learned at `table_stride`.
        grid: counts `(freq, time)` wanted.
        stride: bins and frames between the new cells.
        table_stride: bins and frames between the table's cells.

    Returns:
        `(dim, *grid)`.
    """
    counts, steps = list(grid), list(stride)
    for axis, cells in enumerate(table.shape[1:]):
        if not covers(cells, table_stride[axis], grid[axis], stride[axis]):
            counts[axis], steps[axis] = cells, table_stride[axis]
    part = by_seconds(table, (counts[0], counts[1]), (steps[0], steps[1]), table_stride)
    return stretched(part.T.reshape(len(table), *counts), *grid)


def covers(cells: int, table_stride: int, count: int, stride: int) -> bool:
    """Whether `count` tokens every `stride` lie within a table of `cells` every `table_stride`.

    The last token, and no other, may lie past the last cell, by less than a cell: it then gets that
    cell's position for its own.
    """
    last = (cells - 1) * table_stride
    return (count - 1) * stride < last + table_stride and (count - 2) * stride <= last


def by_reference(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Positions by the rule of AST and SSAST (`reference`).

    Each axis: the centre of the table where the new grid is smaller, bilinear stretching where it
    is larger. The stride plays no part, so with another stride an index means another time; the
    rule is kept for the published weights, which were fine-tuned with it. SSAST's slice of the
    frequency axis takes its length from the time axis, which only matters for fewer mel bins than
    it was pretrained with; the length of the frequency axis is taken here.

    Args:
        table: `(dim, freq, time)`.
        grid: counts `(freq, time)` wanted.

    Returns:
        `(freq * time, dim)`.
    """
    freq, time = grid
    if time < table.shape[2]:
        first = table.shape[2] // 2 - time // 2
        table = table[:, :, first : first + time]
    else:
        table = stretched(table, table.shape[1], time)
    if freq < table.shape[1]:
        first = table.shape[1] // 2 - freq // 2
        table = table[:, first : first + freq]
    else:
        table = stretched(table, freq, time)
    return table.reshape(table.shape[0], -1).T


def sincos(grid: tuple[int, int], dim: int, device: torch.device | str = "cpu") -> Tensor:
    """Fixed positions: half of the channels for the row, half for the column.

    Sines and cosines of wavelengths from 2 pi to 20000 pi tokens (Vaswani et al. 2017, section
    3.5; in two dimensions as in MAE, He et al. 2022).

    Args:
        grid: counts `(freq, time)`.
        dim: channels, a multiple of 4.
        device: where.

    Returns:
        `(freq * time, dim)`.
    """
    if dim % 4:
        raise ValueError(f"positions in two dimensions need a multiple of 4 channels, not {dim}")
    rate = 10000 ** -(torch.arange(dim // 4, device=device) / (dim // 4))
    parts = [torch.outer(torch.arange(n, device=device), rate) for n in grid]
    rows, columns = (torch.cat([part.sin(), part.cos()], 1) for part in parts)
    whole = [rows.unsqueeze(1).expand(-1, grid[1], -1), columns.expand(grid[0], -1, -1)]
    return torch.cat(whole, 2).flatten(0, 1)


def stretched(table: Tensor, freq: int, time: int) -> Tensor:
    """A table `(dim, freq, time)` stretched or squeezed bilinearly to another grid, end to end."""
    if table.shape[1:] == (freq, time):
        return table
    grid = F.interpolate(table.unsqueeze(0), (freq, time), mode="bilinear", align_corners=False)
    return grid.squeeze(0)
