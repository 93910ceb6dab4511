"""Sound that arrives in chunks, cut into the frames that the whole clip would have.

States are immutable and functions pure: `(chunk, state) -> (result, state)`. A stretch of sound
that is ready begins where a frame begins and ends where a frame ends, so that a transform without
padding gives just the frames that are due.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sonoformer.spectral.framing import Framing


class FrameState(NamedTuple):
    """What is kept from the chunks so far.

    Attributes:
        tail: `(…, samples)`: sound that frames to come will read.
        due: `()` place in `tail` where the next frame begins; it may lie past its end.
        heard: `()` samples so far.
    """

    tail: Tensor
    due: Tensor
    heard: Tensor


class Frames:
    """A stream cut into frames."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing

    @property
    def latency(self) -> int:
        """Samples after the moment a frame stands for (its centre, or its beginning if frames are
        not centred) until it is ready."""
        return self.framing.pad + 1 if self.framing.center else self.framing.n_fft

    def start(self, batch_shape: Sequence[int], like: Tensor) -> FrameState:
        """The state before the first chunk, on the device of `like`."""
        nothing = torch.zeros((), dtype=torch.long)
        return FrameState(like.new_zeros(*batch_shape, 0, dtype=torch.float32), nothing, nothing)

    def push(self, chunk: Tensor, state: FrameState) -> tuple[Tensor, FrameState]:
        """The sound that is ready, `(…, samples)`, empty if no frame is; and the state after it.

        Raises:
            ValueError: the chunk's batch dimensions are not the state's.
        """
        if chunk.shape[:-1] != state.tail.shape[:-1]:
            raise ValueError(
                f"chunk should be {tuple(state.tail.shape[:-1])} and samples; "
                f"got {tuple(chunk.shape)}"
            )
        before = int(state.heard)
        heard = before + chunk.shape[-1]
        sound, pad = torch.cat([state.tail, chunk], -1), self.framing.pad
        if pad:
            if heard <= pad:
                return sound[..., :0], FrameState(sound, state.due, torch.tensor(heard))
            if before <= pad:
                steps = torch.arange(pad, device=sound.device)
                sound = torch.cat([self._outside(sound, steps - pad), sound], -1)
        ready, due = self._ready(sound, int(state.due))
        # The padding at the end will be read from the last samples.
        kept = max(0, min(due, sound.shape[-1] - (pad + 1 if pad else 0)))
        # A copy, lest a small tail keep all the sound alive.
        tail = sound[..., kept:].clone()
        return ready, FrameState(tail, torch.tensor(due - kept), torch.tensor(heard))

    def finish(self, state: FrameState) -> Tensor:
        """The sound of the frames that are left when the stream ends, `(…, samples)`."""
        framing, sound, pad = self.framing, state.tail, self.framing.pad
        if int(state.heard) <= pad or (int(state.heard) < framing.n_fft and not pad):
            # Nothing was given yet: the clip is as short as that.
            clips = sound.reshape(sound.shape[:-1].numel(), sound.shape[-1])
            whole = framing.padded(clips, None)
            sound = whole.reshape(*sound.shape[:-1], whole.shape[-1])
        elif pad:
            steps = torch.arange(pad, device=sound.device)
            after = self._outside(sound, steps + sound.shape[-1])
            sound = torch.cat([sound, after], -1)
        return self._ready(sound, int(state.due))[0]

    def _outside(self, sound: Tensor, places: Tensor) -> Tensor:
        """The padding at these places before or after the sound."""
        if self.framing.pad_mode == "zeros":
            return F.pad(sound[..., :0], (0, len(places)))
        length = torch.tensor(sound.shape[-1], device=sound.device)
        return sound[..., self.framing.folded(places, length)]

    def _ready(self, sound: Tensor, due: int) -> tuple[Tensor, int]:
        """The stretch of all whole frames from `due` on, and where the next frame begins."""
        n_fft, hop = self.framing.n_fft, self.framing.hop
        count = max(0, (sound.shape[-1] - due - n_fft) // hop + 1)
        end = due + (count - 1) * hop + n_fft if count else due
        return sound[..., due:end], due + count * hop
