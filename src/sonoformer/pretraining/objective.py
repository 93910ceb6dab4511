"""What all objectives share: an encoder, terms of a loss, and what is kept of them afterwards."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sonoformer.data.batch import Batch
from sonoformer.nn.masks import Mask
from sonoformer.nn.subsets import gather
from sonoformer.nn.tokens import Encoder, Patches, Tokens
from sonoformer.training.learner import Learner


class Objective(Learner):
    """An encoder that learns from sound without labels.

    A subclass says how many random numbers a clip it needs (`noise`), computes the terms of its
    loss (`terms_of`) and adds them up (`total`).

    Args:
        encoder: gives tokens; its front end and positions are part of it.
        samples: length of the longest clip.

    Attributes:
        title: the objective in words, for cards and logs.
        masked_views: times that the encoder hears a clip in a step, each in another way.
        grid: counts `(freq, time)` of the longest clip's tokens.
        pixels: numbers in a patch.
    """

    encoder: Encoder  # type: ignore[assignment]
    title: str
    masked_views: int = 1

    def __init__(self, encoder: Encoder, samples: int) -> None:
        super().__init__()
        self.encoder = encoder
        device = next(encoder.parameters()).device  # type: ignore[attr-defined]
        with torch.no_grad():
            pixels, grid, _ = encoder.patches(*encoder.front(torch.zeros(1, samples).to(device)))
        self.grid, self.pixels = grid, pixels.shape[-1]

    def begin(self) -> None:
        """Called once before training, when all weights have their first values."""

    def terms_of(self, batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss and what it is judged by, each a mean over clips."""
        raise NotImplementedError

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss from its terms."""
        raise NotImplementedError

    def monitors(self, batch: Batch) -> dict[str, Tensor]:
        """Figures that only validation looks at, because they cost time; each a mean over clips."""
        return {}

    def kept(self) -> nn.Module:
        """The encoder that is saved."""
        return self.encoder  # type: ignore[return-value]

    def own_state(self) -> dict[str, Tensor]:
        """The tensors that belong to the objective: neither the encoder's nor a teacher's."""
        others = ("encoder.", "teacher.")
        return {n: v for n, v in self.state_dict().items() if not n.startswith(others)}

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its terms for the curves."""
        terms = self.terms_of(batch)
        return self.total(terms), {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def evaluate(self, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        """Sums over clips of the loss and its terms; masks follow from the clips' own noise."""
        terms = self.terms_of(batch)
        count = torch.tensor(float(len(batch.wave)), device=batch.wave.device)
        values = {"loss": self.total(terms), **terms, **self.monitors(batch)}
        return {name: (value * count, count) for name, value in values.items()}

    def random(self, batch: Batch) -> Tensor:
        """The clips' random numbers, `(batch, self.noise)`, uniform in [0, 1)."""
        if batch.noise is None or batch.noise.shape[1] != self.noise:
            name = type(self).__name__
            raise ValueError(f"{name} needs batches with {self.noise} random numbers a clip")
        return batch.noise

    def cut(self, batch: Batch) -> Patches:
        """The batch's spectrograms in patches."""
        return self.encoder.patches(*self.encoder.front(batch.wave, batch.lengths))

    def see(self, patches: Patches, chosen: Mask, encoder: Encoder | None = None) -> Tokens:
        """What an encoder, by default the one that learns, makes of the chosen tokens alone."""
        encoder = self.encoder if encoder is None else encoder
        pixels = gather(patches.pixels, chosen.ids)
        x = encoder.embed_patches(pixels, patches.grid, index=chosen.ids)
        return encoder.encode(x, chosen.keep, patches.grid)


def columns(patches: Patches) -> Tensor:
    """Columns of tokens made of real frames, int64 `(batch,)`."""
    return patches.valid.unflatten(1, patches.grid)[:, 0].sum(1)
