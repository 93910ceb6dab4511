"""Filter banks: bins of a spectrum -> fewer channels, fixed or learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sonoformer.errors import UserError
from sonoformer.spectral.buffers import exporting
from sonoformer.spectral.filters import area_norm, bin_hertz, gammatones, slaney_norm, triangles
from sonoformer.spectral.mel import bands
from sonoformer.spectral.options import (
    configured,
    refuse_not_positive,
    refuse_outside,
    refuse_unknown,
)
from sonoformer.spectral.scales import Scale, from_scale, to_scale
from sonoformer.spectral.tables import Tables

Kind = Literal[
    "slaney", "htk", "kaldi", "bark", "bark-zwicker", "erb", "gammatone", "linear", "log"
]
Norm = Literal["default", "slaney", "area", "none"]
Learnt = Literal["none", "edges", "weights"]
_LARGEST_TABLE = 2**25  # cells
_ONE = math.log(math.e - 1)
"""softplus(_ONE) = 1"""


@dataclass(frozen=True)
class FilterBankConfig:
    """Where filters stand, their shape, and what of them is learnt."""

    sample_rate: int = 22050
    """Hz of the waveforms."""
    n_fft: int = 2048
    """Samples of a frame; the spectrum has n_fft / 2 + 1 bins."""
    n_filters: int = 128
    """Filters."""
    kind: Kind = "slaney"
    """Triangles, equally spaced on a scale: slaney and htk (mel), bark (Traunmüller), bark-zwicker,
    erb, linear, log, straight in Hz; kaldi, straight in mel and deaf at half the sample rate.
    Or gammatone: the responses of gammatone filters, equally spaced in ERB rate."""
    low_hz: float = 0.0
    """Lower edge of the lowest filter (the centre of the lowest gammatone)."""
    high_hz: float | None = None
    """Upper edge of the highest filter; half the sample rate if absent."""
    norm: Norm = "default"
    """slaney: triangles of area 1 in Hz, as librosa; area: weights that add up to 1; none: peaks of
    1; default: slaney, but none for kaldi and gammatone."""
    trainable: Learnt = "none"
    """edges: the filters' edges move, keeping their order and the whole range (gammatone: centres
    and widths); weights: every weight is learnt."""

    def __post_init__(self) -> None:
        refuse_not_positive(self, "sample_rate")
        refuse_outside(self, 2, 2**20, "n_fft")
        refuse_outside(self, 1, 2**16, "n_filters")
        refuse_unknown(self, kind=Kind, norm=Norm, trainable=Learnt)
        if self.n_fft % 2:
            raise UserError(f"n_fft: must be even; got {self.n_fft}")
        if self.n_filters * self.n_fft > _LARGEST_TABLE:
            raise UserError(
                f"n_filters, n_fft: {self.n_filters} filters over {self.n_fft} samples are too many"
            )
        if not 0 <= self.low_hz < self.top_hz <= self.sample_rate / 2:
            raise UserError(
                f"low_hz, high_hz: {self.low_hz} to {self.top_hz} Hz must rise and lie within "
                f"0 to {self.sample_rate / 2:g} Hz"
            )
        if self.kind == "log" and self.low_hz == 0:
            raise UserError("low_hz: a logarithmic scale begins above 0 Hz")
        if self.kind == "gammatone" and self.norm == "slaney":
            raise UserError("norm: slaney is for triangles; gammatones have area or none")

    @property
    def top_hz(self) -> float:
        """Upper edge of the highest filter in Hz."""
        return self.sample_rate / 2 if self.high_hz is None else self.high_hz

    @property
    def scale(self) -> Scale:
        """The scale that filters are equally spaced on."""
        return "erb" if self.kind == "gammatone" else self.kind

    def analytic_weights(self) -> Tensor:
        """`(n_fft / 2 + 1, n_filters)` float64."""
        steps = torch.ones(self.n_filters + self._inner, dtype=torch.float64)
        return self.weights(steps, torch.ones(self.n_filters, dtype=torch.float64))

    def analytic_centres(self) -> Tensor:
        """`(n_filters,)` float64 in Hz."""
        edges = self._edges(torch.ones(self.n_filters + self._inner, dtype=torch.float64))
        return from_scale(edges[self._inner : self._inner + self.n_filters], self.scale)

    def weights(self, steps: Tensor, widths: Tensor) -> Tensor:
        """Weights `(bins, filters)`, differentiable.

        Args:
            steps: from one edge to the next, in proportion, above 0: `(filters + 1,)`, or
                `(filters,)` for gammatones, from the first centre to the upper edge.
            widths: `(filters,)` of gammatones, in units of the ear's own.
        """
        hertz = bin_hertz(self.sample_rate, self.n_fft).to(steps.device, steps.dtype)
        edges = self._edges(steps)
        edges_hz = from_scale(edges, self.scale)
        if self.kind == "gammatone":
            found = gammatones(hertz, edges_hz[:-1], widths, self.sample_rate)
            return area_norm(found) if self.norm == "area" else found
        if self.kind == "kaldi":
            found = triangles(to_scale(hertz[:-1], "kaldi"), edges)
            found = F.pad(found, (0, 0, 0, 1))
        else:
            found = triangles(hertz, edges_hz)
        if self.norm == "slaney" or (self.norm == "default" and self.kind != "kaldi"):
            return slaney_norm(found, edges_hz)
        return area_norm(found) if self.norm == "area" else found

    @property
    def _inner(self) -> int:
        """Triangles have an edge before the first centre, gammatones do not."""
        return 0 if self.kind == "gammatone" else 1

    def _edges(self, steps: Tensor) -> Tensor:
        """Edges on the scale, from the lowest to the highest."""
        ends = torch.tensor([self.low_hz, self.top_hz], dtype=torch.float64)
        low, high = to_scale(ends, self.scale).tolist()
        along = F.pad(steps.cumsum(0) / steps.sum(), (1, 0))
        return low + (high - low) * along


class FilterBank(Tables):
    """Spectra `(…, bins)` -> `(…, n_filters)`, low frequency first.

    Fixed weights are multiplied band by band on a CPU, since most of them are zero. What is
    learnt is all that a checkpoint holds; it begins as the analytic filters exactly.
    """

    matrix: Tensor

    def __init__(self, config: FilterBankConfig | None = None, **options: Any) -> None:
        super().__init__()
        self.config = config = configured(FilterBankConfig, config, options)
        self._bands = bands(config.analytic_weights())
        self._lay_tables()
        count = config.n_filters
        if config.trainable == "weights":
            self.learnt = nn.Parameter(config.analytic_weights().float())
        elif config.trainable == "edges":
            self.steps = nn.Parameter(torch.empty(count + (config.kind != "gammatone")))
            if config.kind == "gammatone":
                self.widths = nn.Parameter(torch.empty(count))
            self.reset_to_analytic()

    @property
    def fixed(self) -> bool:
        """Whether nothing is learnt."""
        return self.config.trainable == "none"

    def forward(self, spectrum: Tensor) -> Tensor:
        """Filtered magnitudes or powers.

        Args:
            spectrum: `(…, n_fft / 2 + 1)`.
        """
        with torch.autocast(spectrum.device.type, enabled=False):
            if spectrum.dtype != torch.float64:
                spectrum = spectrum.float()
            weights = self.weights().to(spectrum.dtype)
            if not self.fixed or spectrum.device.type != "cpu" or exporting():
                return spectrum @ weights
            parts = [spectrum[..., bins] @ weights[bins, found] for found, bins in self._bands]
            return torch.cat(parts, -1)

    def weights(self) -> Tensor:
        """`(n_fft / 2 + 1, n_filters)`, as they are now; differentiable where learnt."""
        if self.fixed:
            return self.matrix
        if self.config.trainable == "weights":
            return self.learnt
        widths = self.widths if self.config.kind == "gammatone" else self.steps
        # In float64: the edges of narrow filters lie close together.
        steps = F.softplus(self.steps.double())
        return self.config.weights(steps, F.softplus(widths.double())).to(self.steps.dtype)

    def reset_to_analytic(self) -> None:
        """Give what is learnt its first values again."""
        with torch.no_grad():
            if self.config.trainable == "weights":
                self.learnt.copy_(self.config.analytic_weights())
            elif self.config.trainable == "edges":
                self.steps.fill_(_ONE)
                if self.config.kind == "gammatone":
                    self.widths.fill_(_ONE)

    def _tables(self) -> dict[str, Tensor]:
        return {"matrix": self.config.analytic_weights()} if self.fixed else {}
