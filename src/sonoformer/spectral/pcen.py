"""Per-channel energy normalisation (Wang et al., ICASSP 2017; Lostanlen et al., SPL 2019).

Each channel's energy is divided by its own recent average, which takes away level, slow changes of
it and stationary noise, and then compressed by a root:

    M[t] = (1 - s) M[t-1] + s E[t]
    PCEN = (E / (eps + M)^alpha + delta)^r - delta^r
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sonoformer.errors import UserError


@dataclass(frozen=True)
class PcenConfig:
    """The defaults are the paper's for log-mel-like energies of speech; for outdoor sound
    Lostanlen et al. take gain 0.8, bias 10, root 0.25 and 60 ms."""

    gain: float = 0.98
    """Alpha: 0 leaves the level, 1 takes it away."""
    bias: float = 2.0
    """Delta, added before the root."""
    root: float = 0.5
    """r, the exponent of the compression."""
    seconds: float = 0.4
    """Time constant of the smoother."""
    eps: float = 1e-6
    """Added to the average, in units of energy."""
    trainable: bool = False
    """Learn gain, bias, root and smoothing of every channel."""

    def __post_init__(self) -> None:
        for name in ("bias", "root", "seconds", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"{name}: must be above 0 and finite; got {getattr(self, name)}")
        if not 0 <= self.gain <= 1:
            raise UserError(f"gain: must lie within 0 to 1; got {self.gain}")


class Pcen(nn.Module):
    """Energies `(..., frames, bins)` -> normalised energies of the same shape.

    Args:
        bins: channels.
        frames_per_second: of the energies.
        config: the options.
    """

    def __init__(
        self, bins: int, frames_per_second: float, config: PcenConfig = PcenConfig()
    ) -> None:
        super().__init__()
        self.bins, self.config = bins, config
        # A one-pole smoother with this coefficient has the wanted time constant (SPL, section 2).
        frames = config.seconds * frames_per_second
        self._start = (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)
        for name in ("log_gain", "log_bias", "log_root", "logit_smooth"):
            self.register_parameter(name, nn.Parameter(torch.zeros(bins), config.trainable))
        self.reset_to_analytic()

    log_gain: Tensor
    log_bias: Tensor
    log_root: Tensor
    logit_smooth: Tensor

    @torch.no_grad()
    def reset_to_analytic(self) -> None:
        """Give all channels the configured values again."""
        config = self.config
        self.log_gain.fill_(math.log(max(config.gain, 1e-8)))
        self.log_bias.fill_(math.log(config.bias))
        self.log_root.fill_(math.log(config.root))
        smooth = min(max(self._start, 1e-7), 1 - 1e-7)
        self.logit_smooth.fill_(math.log(smooth / (1 - smooth)))

    def forward(self, energy: Tensor) -> Tensor:
        """Offline: the average begins at the first frame's energy."""
        return self.stream(energy, None)[0]

    def stream(self, energy: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """A chunk of frames, and the average `(..., bins)` that the next chunk goes on from.

        Args:
            energy: `(..., frames, bins)`, at least one frame.
            state: what the chunk before gave; None for the first.
        """
        with torch.autocast(energy.device.type, enabled=False):
            energy = energy if energy.dtype == torch.float64 else energy.float()
            smooth = self.logit_smooth.to(energy.dtype).sigmoid()
            start = energy[..., 0, :] if state is None else state
            mean = one_pole(energy, smooth, start)
            gain, bias, root = (
                value.to(energy.dtype).exp()
                for value in (self.log_gain, self.log_bias, self.log_root)
            )
            # In logarithms: a power of a small number to a small exponent keeps its gradient.
            level = energy * torch.exp(-gain * (mean + self.config.eps).log())
            return (level + bias).pow(root) - bias.pow(root), mean[..., -1, :]


_BLOCK = 64


def one_pole(x: Tensor, smooth: Tensor, start: Tensor) -> Tensor:
    """m[t] = (1 - s) m[t-1] + s x[t], a block of frames as one product with a triangular matrix.

    Args:
        x: `(..., frames, bins)`.
        smooth: `(bins,)`, s of each bin, in (0, 1).
        start: `(..., bins)`, m before the first frame.

    Returns:
        `(..., frames, bins)`. Differentiable in all three; a loop over frames would be a graph of
        thousands of steps.
    """
    frames = x.shape[-2]
    step = torch.arange(min(frames, _BLOCK), device=x.device, dtype=x.dtype)
    keep = torch.log1p(-smooth).unsqueeze(1)
    lag = step.unsqueeze(1) - step
    # (bins, later, earlier): s (1 - s)^(later - earlier), nothing from the future.
    kernel = (smooth.unsqueeze(1).unsqueeze(1) * (keep.unsqueeze(1) * lag).exp()).tril()
    decay = (keep * (step + 1)).exp().mT  # (frames, bins)
    blocks = []
    for first in range(0, frames, _BLOCK):
        block = x[..., first : first + _BLOCK, :]
        count = block.shape[-2]
        mixed = torch.einsum("bij,...jb->...ib", kernel[:, :count, :count], block)
        blocks.append(mixed + decay[:count] * start.unsqueeze(-2))
        start = blocks[-1][..., -1, :]
    return torch.cat(blocks, -2)
