"""Small networks beside or behind a frozen layer: bottlenecks, convolutions, mixtures.

All end in a projection that begins at zero, so that training starts from the encoder as it was; the
projection before it is drawn at random, for if both were zero neither would ever move.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["gelu", "relu"]


class Adapter(nn.Module):
    """Tokens `(batch, tokens, dim)` and which of them are sound, bool `(batch, tokens)` or None for
    all -> what is added, of the same shape."""


class Bottleneck(Adapter):
    """scale x up(activation(down(x))) (Houlsby et al. 2019, figure 2; AdaptFormer's, Chen et al.
    2022, section 3.2).

    Args:
        dim: width of the tokens.
        width: of the bottleneck.
        activation: between the projections.
        scale: what is added is multiplied by this.
    """

    def __init__(
        self, dim: int, width: int, activation: Activation = "gelu", scale: float = 1.0
    ) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, width), nn.Linear(width, dim)
        self.activation, self.scale = activation, scale
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """See `Adapter`."""
        x = self.down(x)
        x = F.gelu(x) if self.activation == "gelu" else F.relu(x)
        return self.scale * self.up(x)


class Convolution(Adapter):
    """The conformer adapter of "Parameter-efficient transfer learning of audio spectrogram
    transformers" (Cappellazzo et al. 2024, section 3): to 2 x width, GLU, a depthwise convolution
    over neighbouring tokens, SiLU, back up.

    With `rows` the tokens are those of that many frequency rows, each a line in time, behind
    `prefix` tokens of no place; else they are one line. LayerNorm stands where the paper has
    BatchNorm, whose statistics would depend on the batch. Tokens that are no sound are heard as
    zeros.

    Args:
        dim: width of the tokens.
        width: of the bottleneck.
        kernel: tokens that the convolution spans, odd.
        rows: frequency rows of the grid; 0 for one line.
        prefix: tokens in front that have no place; with `rows`.
    """

    def __init__(self, dim: int, width: int, kernel: int, rows: int = 0, prefix: int = 0) -> None:
        super().__init__()
        self.rows, self.prefix = rows, prefix
        self.down = nn.Linear(dim, 2 * width)
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """See `Adapter`."""
        x = F.glu(self.down(x), dim=-1)
        if valid is not None:
            x = x * valid.unsqueeze(-1).to(x.dtype)
        x = self.norm(self._along(x) if not self.rows else self._by_rows(x))
        return self.up(F.silu(x))

    def _by_rows(self, x: Tensor) -> Tensor:
        front, rest = x[:, : self.prefix], x[:, self.prefix :]
        lines = rest.unflatten(1, (self.rows, -1)).flatten(0, 1)
        rest = self._along(lines).unflatten(0, (-1, self.rows)).flatten(1, 2)
        # Tokens of no place have no neighbours.
        middle = self.conv.weight[:, 0, self.conv.kernel_size[0] // 2]
        assert self.conv.bias is not None
        return torch.cat([front * middle + self.conv.bias, rest], 1)

    def _along(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(1, 2)).transpose(1, 2)


class Mixture(Adapter):
    """Soft mixture of adapters (Cappellazzo et al., Interspeech 2024, section 2; after Soft MoE,
    Puigcerver et al. 2024).

    Each slot is a mean of all tokens, weighted by a softmax over them; each expert, a bottleneck,
    hears its slots; each token gets a mean of what they answer, weighted by a softmax over slots.

    Args:
        dim: width of the tokens.
        width: of the bottlenecks.
        experts: how many.
        slots: of each expert.
    """

    def __init__(self, dim: int, width: int, experts: int, slots: int) -> None:
        super().__init__()
        self.experts = experts
        self.places = nn.Parameter(torch.empty(dim, experts * slots))
        bound = dim**-0.5
        self.down = nn.Parameter(torch.empty(experts, dim, width).uniform_(-bound, bound))
        self.down_bias = nn.Parameter(torch.zeros(experts, 1, width))
        self.up = nn.Parameter(torch.zeros(experts, width, dim))
        self.up_bias = nn.Parameter(torch.zeros(experts, 1, dim))
        nn.init.xavier_uniform_(self.places)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """See `Adapter`."""
        logits = x @ self.places
        heard = logits
        if valid is not None:
            heard = logits.masked_fill(~valid.unsqueeze(-1), float("-inf"))
        slots = heard.softmax(1).transpose(1, 2) @ x
        slots = slots.unflatten(1, (self.experts, -1))
        answers = F.gelu(torch.einsum("besd,edw->besw", slots, self.down) + self.down_bias)
        answers = torch.einsum("besw,ewd->besd", answers, self.up) + self.up_bias
        return logits.softmax(2) @ answers.flatten(1, 2)
