"""Options of the short-time Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sonoformer.errors import UserError
from sonoformer.spectral.framing import Framing, PadMode
from sonoformer.spectral.options import refuse_outside, refuse_unknown
from sonoformer.spectral.windows import WindowName, centred, window

Backend = Literal["auto", "fft", "gemm", "sym"]
Trainable = Literal["none", "window", "kernels"]


@dataclass(frozen=True)
class StftConfig:
    """Frames, window, and how it is computed; the defaults are librosa's."""

    n_fft: int = 2048
    """Samples of a frame, even."""
    win_length: int | None = None
    """Samples of the window, in the middle of the frame; all of it if absent."""
    hop_length: int = 512
    """Samples from one frame to the next."""
    window: WindowName = "hann"
    """Periodic window; povey is hann to the power 0.85."""
    center: bool = True
    """Frame t is centred on sample t * hop_length, and clips are padded by half a frame at their
    own ends; otherwise it begins there."""
    pad_mode: PadMode = "reflect"
    """What a centred transform puts before and after a clip."""
    trainable: Trainable = "none"
    """What is learnt: nothing, the window, or every cosine and sine."""
    backend: Backend = "auto"
    """auto: a Fourier transform, in reused memory where there is no gradient on a CPU, and a
    matrix product where kernels are learnt or a graph is exported. fft: the plain transform
    always; gemm: one matrix product; sym: two of half the size, for symmetric windows."""

    def __post_init__(self) -> None:
        refuse_outside(self, 2, 2**20, "n_fft")
        refuse_outside(self, 1, 2**20, "hop_length", "win_length")
        refuse_unknown(
            self, window=WindowName, pad_mode=PadMode, trainable=Trainable, backend=Backend
        )
        if self.n_fft % 2:
            raise UserError(f"n_fft: must be even; got {self.n_fft}")
        if self.win_length is not None and self.win_length > self.n_fft:
            raise UserError(
                f"win_length: {self.win_length} samples do not fit into n_fft ({self.n_fft})"
            )
        if self.trainable == "kernels" and self.backend in ("fft", "sym"):
            raise UserError(f"backend: learnt kernels need auto or gemm, not {self.backend}")
        if self.trainable == "window" and self.backend == "sym":
            raise UserError("backend: a learnt window is not symmetric; sym cannot compute it")

    @property
    def bins(self) -> int:
        """Bins of a spectrum."""
        return self.n_fft // 2 + 1

    @property
    def framing(self) -> Framing:
        """Where frames stand."""
        return Framing(self.n_fft, self.hop_length, self.center, self.pad_mode)

    def analytic_window(self) -> Tensor:
        """`(n_fft,)` float64."""
        return centred(window(self.window, self.win_length or self.n_fft), self.n_fft)
