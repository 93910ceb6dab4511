"""Kaldi's filterbank over sound that arrives in chunks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sonoformer.spectral.framing import Framing
from sonoformer.spectral.kaldi import KaldiFbank
from sonoformer.spectral.streaming import Frames, FrameState


class FbankStream:
    """A filterbank's frames as soon as they are whole; pure functions over an immutable state.

    Args:
        fbank: the filterbank.
    """

    def __init__(self, fbank: KaldiFbank) -> None:
        config = fbank.config
        self.fbank = fbank
        self._frames = Frames(Framing(config.window_length, config.hop_length, False, "zeros"))

    @property
    def latency_samples(self) -> int:
        """Samples after a frame's beginning, before it is given."""
        return self._frames.latency

    def stream_state(self, batch_shape: Sequence[int] = ()) -> FrameState:
        """The state before the first chunk of `(*batch_shape, samples)`."""
        return self._frames.start(batch_shape, self.fbank.window)

    def stream(self, chunk: Tensor, state: FrameState) -> tuple[Tensor, FrameState]:
        """Log-mels of the frames that `chunk` completes, `(…, frames, n_mels)`, and the state."""
        ready, state = self._frames.push(chunk, state)
        return self._of_ready(ready), state

    def flush(self, state: FrameState) -> Tensor:
        """The frame of a clip shorter than a window, at its end; otherwise no frame is left."""
        return self._of_ready(self._frames.finish(state))

    def _of_ready(self, ready: Tensor) -> Tensor:
        batch = ready.shape[:-1]
        if ready.shape[-1] == 0:
            return ready.new_zeros(*batch, 0, self.fbank.config.n_mels)
        spec, _ = self.fbank(ready.reshape(-1, ready.shape[-1]))
        found: Tensor = spec.reshape(*batch, *spec.shape[1:])
        return found
