"""Crops with strong labels: the share of events, determinism, targets where the crop lies."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from sonoformer.data.augment import AugmentConfig
from sonoformer.data.crops import Cut, EventCrops, pieces, windows
from sonoformer.data.dataset import collate
from sonoformer.data.events import manifest_of
from sonoformer.data.manifest import Manifest
from sonoformer.data.order import Draw
from sonoformer.data.strong import Truth, recordings
from sonoformer.errors import AudioError, UserError

RATE, CELL = 100, 0.5
CLASSES = ("x", "y")


class Ramps:
    """Recordings whose samples tell where they are: recording * 1000 + seconds."""

    def __init__(self, seconds: list[float], bad: tuple[int, ...] = ()) -> None:
        self.sample_rate, self.bad = RATE, bad
        self.lengths = np.array([round(s * RATE) for s in seconds])

    def __len__(self) -> int:
        return len(self.lengths)

    def name(self, index: int) -> str:
        return f"{index}.wav"

    def read(self, index: int, start: int, count: int) -> np.ndarray:
        if index in self.bad:
            raise AudioError(f"{index}.wav", "is damaged")
        places = np.arange(start, min(start + count, self.lengths[index]))
        return (1000 * index + places / RATE).astype(np.float32)


def cells(count: int, start: float) -> np.ndarray:
    return start + CELL * np.arange(count + 1)


def truth_of(rows: list[tuple], seconds: list[float], reviewed: pl.DataFrame | None = None):
    table = pl.DataFrame(rows, ["path", "start", "end", "label"], orient="row")
    if reviewed is None:
        names = [f"{n}.wav" for n in range(len(seconds))]
        reviewed = pl.DataFrame({"path": names, "start": 0.0, "end": seconds})
    found = recordings(manifest_of(table, reviewed=reviewed))
    order = pl.DataFrame({"path": [f"{n}.wav" for n in range(len(seconds))]})
    found = Manifest(order.join(found.table, on="path", how="left", maintain_order="left"))
    return Truth(found, CLASSES, np.array(seconds))


def dataset(
    rows: list[tuple], seconds: list[float], *, share: float = 0.5, train: bool = True, **more
) -> EventCrops:
    source = Ramps(seconds, more.pop("bad", ()))
    truth = truth_of(rows, seconds, more.pop("reviewed", None))
    crop = round(4 * RATE)
    parts = (pieces if train else windows)(source, truth, crop)
    cut = Cut(crop, 8, cells, share, more.pop("balanced", False))
    return EventCrops(parts, truth, cut, seed=3, train=train, **more)


ROWS = [("0.wav", 50.0, 52.0, "x"), ("1.wav", 10.0, 10.2, "y")]
LENGTHS = [100.0, 30.0]


def draws(data: EventCrops, count: int) -> list[Draw]:
    return [Draw(n // len(data), n, n % len(data)) for n in range(count)]


def test_an_epoch_passes_over_all_that_is_known() -> None:
    data = dataset(ROWS, LENGTHS, share=0.0)
    assert len(data) == 25 + 7
    places = [data.place(n, "crop", (0, n)) for n in range(len(data))]
    for item, seconds in enumerate(LENGTHS):
        starts = sorted(start / RATE for i, start, _ in places if i == item)
        assert max(np.diff([0.0, *starts, seconds])) < 2 * 4 + 4
        assert all(0 <= start <= seconds - 4 for start in starts)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_crops_with_an_event_is_as_asked(share: float) -> None:
    data = dataset(ROWS, LENGTHS, share=share)
    held = [data[draw].targets.max() > 0 for draw in draws(data, 600)]  # type: ignore[union-attr]
    by_chance = 2 * 6 / 130  # some 6 s of starts for each event
    wanted = share + (1 - share) * by_chance
    assert np.mean(held) == pytest.approx(wanted, abs=0.06)
    if share == 1:
        assert all(held)


def test_targets_lie_where_the_sound_lies() -> None:
    data = dataset(ROWS, LENGTHS, share=0.7)
    for draw in draws(data, 60):
        item = data[draw]
        number, begin = divmod(float(item.wave[0]), 1000)
        target, known = data.truth.cells(int(number), cells(8, begin))
        inside = cells(8, begin)[1:] <= LENGTHS[int(number)]
        assert item.targets is not None
        assert item.known is not None
        assert np.array_equal(item.targets[inside], target[inside])
        assert np.array_equal(item.known[inside], known[inside])
        assert item.known[~inside].all()


def test_a_draw_is_a_function_of_its_place() -> None:
    data, again = (dataset(ROWS, LENGTHS) for _ in range(2))
    other = [data[draw] for draw in reversed(draws(data, 40))][::-1]
    for draw, one in zip(draws(data, 40), other, strict=True):
        two = again[draw]
        assert np.array_equal(one.wave, two.wave)
        assert np.array_equal(one.targets, two.targets)  # type: ignore[arg-type]
    begins = {float(data[Draw(epoch, 0, 0)].wave[0]) for epoch in range(20)}
    assert len(begins) > 10


def test_rare_classes_come_as_often_when_balanced() -> None:
    rows = [("0.wav", 3.0 * n, 3.0 * n + 1, "x") for n in range(30)] + ROWS[1:]
    plain = dataset(rows, LENGTHS, share=1.0)
    even = dataset(rows, LENGTHS, share=1.0, balanced=True)
    count = {}
    for name, data in (("plain", plain), ("even", even)):
        count[name] = sum(data[d].targets[:, 1].max() for d in draws(data, 200))  # type: ignore[index]
    assert count["plain"] < 30
    assert 70 < count["even"] < 130


def test_only_reviewed_stretches_are_passed_over() -> None:
    reviewed = pl.DataFrame({"path": ["0.wav"], "start": [45.0], "end": [47.0]})
    data = dataset(ROWS[:1], [100.0], share=0.0, reviewed=reviewed)
    for draw in draws(data, 50):
        item = data[draw]
        assert item.known is not None
        assert item.known.any()
        assert len(item.wave) == 4 * RATE
    unknown = [data[draw].known for draw in draws(data, 50)]
    assert not all(known.all() for known in unknown)  # type: ignore[union-attr]


def test_recordings_shorter_than_a_crop_come_whole() -> None:
    data = dataset([("0.wav", 1.0, 2.0, "x")], [2.5])
    batch = collate([data[draw] for draw in draws(data, 3)])
    assert batch.wave.shape == (3, 250)
    assert batch.targets is not None
    assert batch.targets.shape == (3, 8, 2)
    assert batch.targets[:, :, 0].sum(1).tolist() == [2, 2, 2]


def test_windows_cover_what_is_known_once() -> None:
    data = dataset(ROWS, LENGTHS, train=False)
    assert len(data) == 25 + 8
    starts = [data[Draw(0, n, n)].wave[0] % 1000 for n in range(25)]
    assert starts == pytest.approx(np.arange(25) * 4.0, abs=0.01)


def test_a_recording_that_cannot_be_read_is_replaced_and_listed() -> None:
    data = dataset(ROWS, LENGTHS, bad=(1,))
    items = [data[draw] for draw in draws(data, 60)]
    assert all(item.wave[0] < 1000 for item in items)
    assert any("is damaged" in text for item in items for text in item.problems)


def test_mixing_mixes_targets_and_what_is_known() -> None:
    data = dataset(ROWS, LENGTHS, share=1.0, augment=AugmentConfig(mixup=1.0))
    values = np.unique([data[draw].targets for draw in draws(data, 30)])
    assert ((values > 0) & (values < 1)).any()
    with pytest.raises(UserError, match="roll: moves sound in time"):
        dataset(ROWS, LENGTHS, augment=AugmentConfig(roll=True))
    with pytest.raises(UserError, match="noise: moves"):
        dataset(ROWS, LENGTHS, augment=AugmentConfig(noise=True))
