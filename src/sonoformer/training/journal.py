"""The curves of a run: a table of what was computed, and one of how fast.

`metrics.csv` holds only what the seed decides, so that a resumed run leaves the same bytes as one
that was never stopped; `timing.csv` holds the clock.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sonoformer.errors import MissingExtraError
from sonoformer.files import write_text, writing
from sonoformer.nn.reduce import all_sum, world_size

Row = dict[str, float]


class Table:
    """A CSV file with a row a logged step; a new column is added when it first appears.

    Args:
        path: the file.
        last_step: rows after this step are dropped: they belong to a stretch that is run again.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        self.path = path
        self.rows = [row for row in _read(path) if row["step"] <= last_step]
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if self.rows:
            self._rewrite()
        else:
            path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Append a row, on the disk when this returns."""
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
        else:
            with writing(self.path), open(self.path, "a", encoding="utf-8", newline="") as file:
                self._writer(file).writerow(row)

    def _rewrite(self) -> None:
        text = io.StringIO(newline="")
        writer = self._writer(text)
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, text.getvalue())

    def _writer(self, file: Any) -> csv.DictWriter[str]:
        return csv.DictWriter(file, self.columns, restval="", lineterminator="\n")


class Window:
    """Means of the training metrics since the last row, summed where they were computed.

    Nothing is read back from the device until a row is due. Of several processes the figures are
    averaged, so all must ask for them at the same time.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: dict[str, Tensor]) -> None:
        """Take in one step's scalars."""
        for name, value in values.items():
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            scalar = value.detach().to(wide)
            self._sums[name] = self._sums[name] + scalar if name in self._sums else scalar
            self._counts[name] = self._counts.get(name, 0) + 1

    def close(self) -> Row:
        """The means so far; the window is empty afterwards."""
        means = {n: total / self._counts[n] for n, total in self._totals().items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, tuple[float, int]]:
        """Sums and counts of a window that is not closed yet."""
        return {name: (total, self._counts[name]) for name, total in self._totals().items()}

    def _totals(self) -> dict[str, float]:
        """The sums, averaged over the processes."""
        if self._sums and (world := world_size()) > 1:
            table = all_sum(torch.stack(list(self._sums.values()))) / world
            return dict(zip(self._sums, table.tolist(), strict=True))
        return {name: total.item() for name, total in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up where `state_dict` left off."""
        wide = torch.float32 if device.type == "mps" else torch.float64
        for name, (total, count) in state.items():
            self._sums[name] = torch.tensor(total, dtype=wide, device=device)
            self._counts[name] = count


def tensorboard_writer(folder: Path, first_step: int) -> Any:
    """A TensorBoard writer that hides what an earlier process wrote from `first_step` on.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "tensorboard") from None
    return SummaryWriter(str(folder), purge_step=first_step)


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    # A line without its end is one that a killed process was writing.
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    rows = csv.DictReader(io.StringIO(whole, newline=""))
    return [row for raw in rows if (row := _parsed(raw)) is not None]


def _parsed(raw: dict[str, str]) -> Row | None:
    try:
        row = {name: float(value) for name, value in raw.items() if value}
        row["step"] = int(row["step"])
    except (TypeError, ValueError, KeyError):
        return None
    return row
