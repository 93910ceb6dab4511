"""Rectangles of a spectrogram, drawn one after the other until enough of it is covered.

This is the law of group masked model learning (Atito et al., SiT 2021; ASiT, TASLP 2024, section
III): corners anywhere, sides up to 0.3 of the spectrogram's. No loop is needed: a fixed number of
rectangles is drawn for each clip; the first that covers a cell is its arrival; the mask is whatever
has arrived by the moment the area was reached.

All is a pure function of uniform noise that comes with the batch. What is not real sound is neither
covered nor counted, so padding changes nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Stretch = Literal["none", "time", "frequency"]

WORD = 62  # rectangles whose presence at a place is kept in one 64-bit integer
# Of an area of 0.7 by single cells, 75 rectangles are needed in the mean and 107 in one clip of
# 300; of 0.3, 21 and 33. Where they are not enough, the area stays a little smaller.
MANY, FEW = 3 * WORD, WORD
_LONGEST = (3, 10)  # of a side, as a fraction of the spectrogram's


def rectangle_noise(count: int) -> int:
    """Uniform numbers a clip that `arrivals` needs for `count` rectangles."""
    return 4 * count


def arrivals(
    noise: Tensor,
    frames: Tensor,
    shape: tuple[int, int],
    align: tuple[int, int] = (1, 1),
    stretch: Stretch = "none",
) -> Tensor:
    """For each cell the number of the first rectangle that covers it.

    A corner is any frame and bin, moved down to a multiple of `align`; a side is uniform from
    `align` to below 0.3 of the real spectrogram's; the far ends are cut off at its border and
    rounded to the nearest multiple of `align`.

    Args:
        noise: uniform in [0, 1), `(batch, 4 x count)`, count a multiple of `WORD` below 256.
        frames: int64 `(batch,)`, real frames; these come first.
        shape: `(frames, bins)` of the padded spectrogram.
        align: frames and bins of a cell.
        stretch: time: rectangles reach over all bins; frequency: over all frames.

    Returns:
        uint8 `(batch, cells in time, cells in frequency)`; `count` where there is none, or no
        sound. The last cells may stick out of the spectrogram.
    """
    u = noise.unflatten(1, (4, -1)).unbind(1)
    count = u[0].shape[1]
    bins = torch.full_like(frames, shape[1])
    first_t, end_t = _sides(u[0], u[1], frames, align[0], stretch == "frequency")
    first_f, end_f = _sides(u[2], u[3], bins, align[1], stretch == "time")
    cells = -(-shape[0] // align[0]), -(-shape[1] // align[1])
    rows, columns = _inside(first_t, end_t, cells[0]), _inside(first_f, end_f, cells[1])
    found = torch.full((len(noise), *cells), count, dtype=torch.uint8, device=noise.device)
    for word in reversed(range(count // WORD)):
        both = rows[:, :, None, word] & columns[:, None, :, word]
        # The lowest bit that is set, as a power of two, which a float holds exactly.
        lowest = (both & -both).float()
        number = lowest.clamp_min(1).log2_().round_().add_(word * WORD).to(torch.uint8)
        found = torch.where(both != 0, number, found)
    return found.masked_fill(~_real(frames, cells[0], align[0]).unsqueeze(-1), count)


def until(found: Tensor, area: Tensor, count: int) -> Tensor:
    """Bool, as `found`: the cells covered once they are at least `area`; none for an area of 0.

    Args:
        found: arrivals, uint8 `(batch, ...)`.
        area: `(batch,)`, cells.
        count: of rectangles.
    """
    flat = found.flatten(1)
    low, high = torch.zeros_like(area, dtype=torch.int64), torch.full_like(area, count - 1).long()
    for _ in range(count.bit_length()):
        middle = (low + high) // 2
        enough = (flat <= middle.to(torch.uint8).unsqueeze(1)).sum(1) >= area
        low, high = (
            torch.where(enough, low, (middle + 1).minimum(high)),
            high.where(~enough, middle),
        )
    each = (-1, *[1] * (found.ndim - 1))
    return (found <= high.to(torch.uint8).view(each)) & (area > 0).view(each)


def cell_count(frames: Tensor, shape: tuple[int, int], align: tuple[int, int]) -> Tensor:
    """Cells of each clip that hold sound, int64 `(batch,)`."""
    return -(-frames // align[0]) * -(-shape[1] // align[1])


def as_pixels(
    cells: Tensor, frames: Tensor, shape: tuple[int, int], align: tuple[int, int]
) -> Tensor:
    """A mask of cells as bool `(batch, frames, bins)`, without what is not real."""
    if align != (1, 1):
        cells = cells.repeat_interleave(align[0], 1).repeat_interleave(align[1], 2)
    cells = cells[:, : shape[0], : shape[1]]
    return cells & _real(frames, shape[0], 1).unsqueeze(-1)


def whole(u: Tensor, count: Tensor | int) -> Tensor:
    """A whole number in 0 .. count - 1 from uniform `u`."""
    return (u * count).long().clamp(max=count - 1)


def _sides(
    corner: Tensor, length: Tensor, size: Tensor, align: int, stretch: bool
) -> tuple[Tensor, Tensor]:
    """First cell and end `(batch, count)` along an axis of `size` `(batch,)`."""
    size = (-(-size // align) * align).unsqueeze(1)
    if stretch:
        return torch.zeros_like(corner).long(), (size // align).expand_as(corner)
    first = whole(corner, size) // align
    span = (size * _LONGEST[0] // _LONGEST[1] - align).clamp_min(1)
    end = torch.minimum(first * align + align + whole(length, span), size)
    return first, (end + align // 2) // align


def _inside(first: Tensor, end: Tensor, cells: int) -> Tensor:
    """Which rectangles hold a place: bits of int64 `(batch, cells, count / WORD)`.

    A bit is added where its rectangle begins and taken away where it ends.
    """
    batch, count = first.shape
    words = count // WORD
    number = torch.arange(count, device=first.device)
    bits = (2 ** (number % WORD)).expand(batch, -1)
    changes = torch.zeros(batch, (cells + 1) * words, dtype=torch.int64, device=first.device)
    changes.scatter_add_(1, first * words + number // WORD, bits)
    changes.scatter_add_(1, end * words + number // WORD, -bits)
    return changes.view(batch, cells + 1, words).cumsum(1)[:, :cells]


def _real(frames: Tensor, cells: int, align: int) -> Tensor:
    return torch.arange(cells, device=frames.device) * align < frames.unsqueeze(1)
