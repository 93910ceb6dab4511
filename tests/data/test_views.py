"""Parts and selections of a source."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sonoformer.data.views import First, Pieces, Subset


class Numbers:
    """Items whose samples are numbered through all of them."""

    sample_rate = 10

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths)
        self.begins = np.cumsum(self.lengths) - self.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return f"item {index}"

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        count = min(count, int(self.lengths[index]) - start)
        return (self.begins[index] + start + np.arange(count)).astype(np.float32)


def test_a_subset_shows_its_items_in_its_order() -> None:
    part = Subset(Numbers([3, 4, 5]), np.array([2, 0]))
    assert (len(part), part.lengths.tolist(), part.sample_rate) == (2, [5, 3], 10)
    assert [part.name(i) for i in range(2)] == ["item 2", "item 0"]
    assert part.read(0, 1, 3).tolist() == [8, 9, 10]


def test_of_an_item_only_the_beginning_is_left() -> None:
    first = First(Numbers([3, 9, 5]), 5)
    assert (len(first), first.lengths.tolist(), first.rows.tolist()) == (3, [3, 5, 5], [0, 1, 2])
    assert first.read(1, 0, 100).tolist() == [3, 4, 5, 6, 7]
    assert first.read(1, 3, 100).tolist() == [6, 7]
    assert (first.name(1), first.sample_rate) == ("item 1", 10)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 20))
def test_pieces_hold_every_sample_once(lengths: list[int], samples: int) -> None:
    source = Numbers(lengths)
    pieces = Pieces(source, samples)
    heard = [pieces.read(i, 0, int(pieces.lengths[i])) for i in range(len(pieces))]
    assert [len(x) for x in heard] == pieces.lengths.tolist()
    assert np.concatenate(heard).tolist() == list(range(sum(lengths)))
    for row, length in zip(pieces.rows, pieces.lengths, strict=True):
        whole = lengths[row]
        assert length == whole if whole < 2 * samples else samples <= length < 2 * samples


def test_a_piece_is_read_no_further_than_its_end() -> None:
    pieces = Pieces(Subset(Numbers([4, 9]), np.array([1])), 4)
    assert pieces.lengths.tolist() == [4, 5]
    assert pieces.read(0, 2, 100).tolist() == [6, 7]
    assert pieces.name(1) == "item 1"
