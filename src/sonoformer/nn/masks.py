"""Which tokens of a clip are hidden: cluster and frame masks, for a whole batch at once.

A mask is a pure function of uniform noise that comes with the batch, drawn on the CPU from a
generator keyed by the place of the clip in the epoch. Device, batch and padding do not enter: the
noise is laid out by time column, so a clip finds the same numbers however far it is padded.

SSAST (section 2.2 and algorithm 1) hides clusters of C x C patches, C drawn once a clip from
3, 4, 5, until N patches are hidden. Drawing places with repeats hides the same cells, in the same
order, as visiting all places once in a random order: a repeat adds nothing. So no loop is needed.
Rank all places by their noise; a cell is reached at the smallest rank of a place whose cluster
covers it; the mask is whatever was reached by the moment there were enough.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Masking = Literal["centred", "random", "reference", "inverse"]

SIDES = (3, 4, 5)
_INVERSE_SIDE, _INVERSE_MORE = 5, 0.07  # EAT's squares, and the surplus of area they are drawn for
_MARGIN = SIDES[-1] - 1  # rows and columns by which a cluster may stick out of the grid
_RATIO_BITS = 20


class Mask(NamedTuple):
    """The hidden tokens of a batch of clips.

    Attributes:
        ids: int64 `(batch, most)`, ids of the hidden tokens, rising. `most` follows from the
            grid alone, so that shapes are static; a clip that hides fewer repeats its first id.
        keep: bool `(batch, most)`, false at such repeats.
    """

    ids: Tensor
    keep: Tensor

    def dense(self, tokens: int) -> Tensor:
        """Bool `(batch, tokens)`, true where a token is hidden."""
        empty = torch.zeros(len(self.ids), tokens, dtype=torch.bool, device=self.ids.device)
        return empty.scatter_(1, self.ids, torch.ones_like(self.keep))


class Split(NamedTuple):
    """The tokens of a batch of clips, divided into those that are hidden and those that are seen.

    Attributes:
        hidden: the mask.
        visible: the other real tokens, in the same form; the numbers of both follow from the grid.
    """

    hidden: Mask
    visible: Mask


def noise_count(masking: Masking, grid: tuple[int, int]) -> int:
    """Uniform numbers a clip that `draw_mask` needs for a `(freq, time)` grid."""
    freq, time = grid
    if masking == "random":
        return freq * time
    if masking == "reference":
        return 1 + freq * time
    if masking == "inverse":
        return 2 * freq * time
    return 1 + (time + _MARGIN) * (2 * freq + _MARGIN)


def masked_count(tokens: int, ratio: float) -> int:
    """Tokens that are hidden of `tokens` real ones: rounded, at least 1, and never all of several.

    Zero for a clip without tokens.
    """
    rounded = (tokens * round(ratio * 2**_RATIO_BITS) + 2 ** (_RATIO_BITS - 1)) >> _RATIO_BITS
    return min(max(1, min(rounded, tokens - 1)), tokens)


def draw_mask(
    noise: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float, masking: Masking
) -> Mask:
    """Hide `ratio` of the real tokens of each clip.

    * `centred`: squares of C x C patches centred on the patch drawn, as the paper says. Places
      reach past the borders, so that each cell is covered by equally many and the rate is the same
      in all rows and columns: within 1 % of itself for 512 tokens, 2.5 % for a clip of one second
      (there up to 13 % if only a square or two fit in the mask). Nothing wraps; of the square that
      makes it enough, cells are left out at random.
    * `reference`: what the authors' program does. The place drawn is the corner of lowest frequency
      and earliest time; squares wrap over the last column to the first of the next row; token 0 is
      never hidden; it stops at more than N and leaves out the highest ids. With 400 of 512, the
      lowest row (20 to 300 Hz) is hidden at a rate of 0.42, rows in the middle at 0.89. Where the
      program would loop for ever, because there are not more than N tokens to hide, all but token 0
      are candidates.
    * `random`: N tokens without regard to place, as SSAST does for frames.
    * `inverse`: what stays visible lies in squares of 5 x 5, as in EAT (Chen et al. 2024, section
      3.3): so many squares, centred on any token, that their area is the visible share and 0.07;
      of the tokens in them (or, if they overlap too much, beside them) some are taken at random to
      make the number exact.

    Args:
        noise: uniform in [0, 1), `(batch, at least noise_count(masking, grid))`.
        columns: int64 `(batch,)`, columns of the grid made of real frames; these come first.
        grid: `(freq, time)` of the padded batch; token id = `f * time + t`.
        ratio: share of the real tokens that are hidden, see `masked_count`.
        masking: the law.

    Raises:
        ValueError: too little noise.
    """
    return _first(_order(noise, columns, grid, ratio, masking), columns * grid[0], ratio)


def draw_split(
    noise: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float, masking: Masking
) -> Split:
    """Hide tokens as `draw_mask` does, and name those that are left."""
    return split_by(_order(noise, columns, grid, ratio, masking), columns, grid, ratio)


def split_by(key: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float) -> Split:
    """Hide the tokens of smallest `key`, and name those that are left.

    Args:
        key: `(batch, tokens)`; where there is no sound, larger than anywhere else.
        columns: int64 `(batch,)`, columns of the grid made of real frames; these come first.
        grid: `(freq, time)` of the padded batch.
        ratio: share of the real tokens that are hidden, see `masked_count`.
    """
    hidden = _first(key, columns * grid[0], ratio)
    cells = key.shape[1]
    most = cells - masked_count(cells, ratio)
    seen = ~hidden.dense(cells)
    real = torch.arange(grid[1], device=key.device) < columns.unsqueeze(1)
    seen &= real.unsqueeze(1).expand(-1, grid[0], -1).flatten(1)
    # Numbers of tokens rise with those of real ones, so a clip never sees more than the grid does.
    ids = torch.arange(cells, device=key.device).masked_fill(~seen, cells).sort(dim=1).values
    ids = ids[:, :most]
    keep = ids < cells
    return Split(hidden, Mask(torch.where(keep, ids, ids[:, :1].clamp_max(cells - 1)), keep))


def _order(
    noise: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float, masking: Masking
) -> Tensor:
    """A key `(batch, cells)` that rises in the order in which cells are hidden."""
    needed = noise_count(masking, grid)
    if noise.shape[-1] < needed:
        raise ValueError(
            f"a {grid[0]} x {grid[1]} grid needs {needed} random numbers a clip for "
            f"{masking} masks; got {noise.shape[-1]}"
        )
    noise = noise[:, :needed]
    if masking == "reference":
        return _reference_order(noise, columns, grid, ratio)
    if masking == "centred":
        return _centred_order(noise, columns, grid)
    if masking == "inverse":
        return _inverse_order(noise, columns, grid, ratio)
    cells = noise.reshape(len(noise), grid[1], grid[0]).transpose(1, 2)
    real = torch.arange(grid[1], device=noise.device) < columns[:, None, None]
    return _ranks(cells.masked_fill(~real, 2.0).flatten(1))


def _first(key: Tensor, tokens: Tensor, ratio: float) -> Mask:
    """The cells of smallest `key` `(batch, cells)`, as many as each clip's real tokens ask for."""
    most = masked_count(key.shape[1], ratio)
    count = _masked_counts(tokens, ratio).unsqueeze(1)
    chosen = key.topk(most, dim=1, largest=False, sorted=True).indices
    keep = torch.arange(most, device=key.device) < count
    ids = chosen.masked_fill(~keep, key.shape[1]).sort(dim=1).values
    ids = torch.where(keep, ids, ids[:, :1])
    return Mask(ids.clamp_max(key.shape[1] - 1), keep)  # of a clip without tokens, any id


def _masked_counts(tokens: Tensor, ratio: float) -> Tensor:
    """`masked_count` of an int64 tensor, by the same whole-number arithmetic on every device."""
    rounded = (tokens * round(ratio * 2**_RATIO_BITS) + 2 ** (_RATIO_BITS - 1)) >> _RATIO_BITS
    return torch.minimum(torch.minimum(rounded, tokens - 1).clamp_min(1), tokens)


def _centred_order(noise: Tensor, columns: Tensor, grid: tuple[int, int]) -> Tensor:
    """A key `(batch, cells)` that rises in the order in which cells are hidden.

    A square is named by its far corner, counted from the first square that touches the grid. The
    squares that touch the grid are those centred on it or just outside; for even C, either of the
    two ways of centring gives this same set.
    """
    freq, time = grid
    side = _sides(noise[:, 0])
    by_column = noise[:, 1:].reshape(len(noise), time + _MARGIN, 2 * freq + _MARGIN)
    places = by_column[..., : freq + _MARGIN].transpose(1, 2)
    ties = by_column[:, :time, freq + _MARGIN :].transpose(1, 2)

    row = torch.arange(freq + _MARGIN, device=noise.device).unsqueeze(1)
    column = torch.arange(time + _MARGIN, device=noise.device)
    touches = (row < freq + side - 1) & (column < columns.view(-1, 1, 1) + side - 1)
    rank = _ranks(places.masked_fill(~touches, 2.0).flatten(1)).view_as(places)
    reached = torch.stack(
        [rank.unfold(1, c, 1).unfold(2, c, 1).amin((-2, -1))[:, :freq, :time] for c in SIDES], 1
    )
    reached = reached.gather(1, (side - SIDES[0]).expand(-1, freq, time).unsqueeze(1)).squeeze(1)
    # Cells of one square are reached together; which of them come first is decided by their noise.
    key = reached * 2**24 + (ties * 2**24).long()
    return key.masked_fill(column[:time] >= columns.view(-1, 1, 1), 2**62).flatten(1)


def _inverse_order(noise: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float) -> Tensor:
    """A key `(batch, cells)`: cells outside the squares come first, each part in random order."""
    freq, time = grid
    places, ties = noise.reshape(len(noise), time, 2, freq).permute(2, 0, 3, 1)
    real = torch.arange(time, device=noise.device) < columns.view(-1, 1, 1)
    rank = _ranks(places.masked_fill(~real, 2.0).flatten(1)).view(-1, freq, time)
    area = (columns * freq).double() * (1 - ratio + _INVERSE_MORE)
    squares = (area / _INVERSE_SIDE**2).long().clamp_min(1).view(-1, 1, 1)
    centres = (rank < squares).to(noise.dtype).unsqueeze(1)
    inside = F.max_pool2d(centres, _INVERSE_SIDE, 1, _INVERSE_SIDE // 2).squeeze(1).long()
    key = inside * 2**24 + (ties * 2**24).long()
    return key.masked_fill(~real, 2**62).flatten(1)


def _reference_order(noise: Tensor, columns: Tensor, grid: tuple[int, int], ratio: float) -> Tensor:
    """A key `(batch, cells)`: the id for cells reached in time, out of the way for all others."""
    freq, time = grid
    width = columns.clamp_min(1).unsqueeze(1)
    tokens = freq * width
    own = torch.arange(freq * time, device=noise.device).expand(len(noise), -1)
    f, t = own // width, own % width
    never = freq * time
    rank = _ranks(noise[:, 1:].gather(1, (t * freq + f) % never).masked_fill(own >= tokens, 2.0))

    side = _sides(noise[:, 0]).view(-1, 1)
    reached = torch.full_like(rank, never)
    for i in range(SIDES[-1]):
        for j in range(SIDES[-1]):
            start = own - i * width - j
            covers = (start >= 0) & (i < side) & (j < side)
            arrival = rank.gather(1, start.clamp_min(0)).masked_fill(~covers, never)
            reached = torch.minimum(reached, arrival)
    hidable = (own < tokens) & ((own > 0) | (tokens == 1))
    reached = reached.masked_fill(~hidable, never)

    enough = _masked_counts(columns * freq, ratio).unsqueeze(1)  # the place of number N + 1 from 0
    last = reached.sort(dim=1).values.gather(1, enough.clamp_max(never - 1))
    taken = (reached <= last) & (reached < never)
    key = own.masked_fill(~taken, never)
    # Back from the clip's own ids to those of the padded grid.
    place = torch.where(own < tokens, f * time + t, own)
    return torch.full_like(key, never).scatter_reduce_(1, place, key, "amin")


def _sides(noise: Tensor) -> Tensor:
    """The side C of each clip's clusters, int64 `(batch, 1, 1)`, each of `SIDES` equally likely."""
    return (SIDES[0] + (noise * len(SIDES)).long().clamp_max(len(SIDES) - 1)).view(-1, 1, 1)


def _ranks(noise: Tensor) -> Tensor:
    """The place of each number in its row `(batch, k)` when sorted; equal ones keep their order."""
    order = noise.argsort(dim=1, stable=True)
    places = torch.arange(noise.shape[1], device=noise.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
