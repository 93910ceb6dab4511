"""The weights of filter banks over the bins of a spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sonoformer.spectral.scales import EAR_Q, LEAST_BANDWIDTH


def bin_hertz(sample_rate: float, n_fft: int) -> Tensor:
    """`(n_fft / 2 + 1,)` float64: the frequency of each bin."""
    return torch.arange(n_fft // 2 + 1, dtype=torch.float64) * sample_rate / n_fft


def triangles(points: Tensor, edges: Tensor) -> Tensor:
    """Filters that rise from one edge to the next and fall to the one after; each peaks at 1.

    Args:
        points: `(bins,)` where the bins stand, in any unit.
        edges: `(filters + 2,)` rising, in the same unit: triangles are straight in it.

    Returns:
        `(bins, filters)`. A filter that falls between two bins is all zero.
    """
    points, gaps = points.unsqueeze(1), edges.diff()
    rise = (points - edges[:-2]) / gaps[:-1]
    fall = (edges[2:] - points) / gaps[1:]
    return torch.minimum(rise, fall).clamp_min(0)


def gammatones(hertz: Tensor, centres: Tensor, width: Tensor, sample_rate: float) -> Tensor:
    """Magnitude responses of gammatone filters of fourth order; each is 1 at its centre.

    Slaney's four digital sections (Apple TR 35, 1993), as Ellis's fft2gammatonemx weighs the bins
    of a spectrum with them.

    Args:
        hertz: `(bins,)` of the bins.
        centres: `(filters,)` in Hz.
        width: `(filters,)` bandwidths in units of the ear's own, 1.019 ERB.
        sample_rate: of the sections, in Hz.

    Returns:
        `(bins, filters)`.
    """
    erb = width * (centres / EAR_Q + LEAST_BANDWIDTH)
    damping = (-1.019 * 2 * math.pi * erb / sample_rate).exp()
    turn = 2 * math.pi * centres / sample_rate
    roots = [sign * math.sqrt(3 + other * 2**1.5) for sign in (1, -1) for other in (1, -1)]
    zeros = torch.stack([damping * (turn.cos() + root * turn.sin()) for root in roots])

    def log_response(angle: Tensor) -> Tensor:
        """Of every filter; angle `(…, filters)` in radians a sample."""
        c, s = angle.cos(), angle.sin()
        tops = [(c - zero).square() + s.square() for zero in zeros]
        poles = [
            (c - damping * turn.cos()).square() + (s - sign * damping * turn.sin()).square()
            for sign in (1, -1)
        ]
        # The logarithm keeps products of many small numbers in range.
        top = torch.stack(tops).log().sum(0) / 2
        return top - 2 * torch.stack(poles).log().sum(0)

    angles = (2 * math.pi * hertz / sample_rate).unsqueeze(1).expand(-1, len(centres))
    return (log_response(angles) - log_response(turn)).exp()


def slaney_norm(weights: Tensor, edges_hz: Tensor) -> Tensor:
    """Triangles scaled to an area of 1 in Hz, from their edges `(filters + 2,)`, as librosa."""
    return weights * (2 / (edges_hz[2:] - edges_hz[:-2]))


def area_norm(weights: Tensor) -> Tensor:
    """Filters whose weights add up to 1; empty ones stay empty."""
    total = weights.sum(0)
    return weights / torch.where(total > 0, total, 1)
