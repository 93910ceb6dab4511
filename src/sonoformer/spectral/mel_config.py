"""Options of a filtered spectrogram."""

from __future__ import annotations

from dataclasses import dataclass

from sonoformer.errors import UserError
from sonoformer.spectral.compress import Compression
from sonoformer.spectral.filterbank import FilterBankConfig, Kind, Learnt, Norm
from sonoformer.spectral.framing import PadMode
from sonoformer.spectral.options import refuse_not_positive, refuse_unknown
from sonoformer.spectral.stft_config import Backend, StftConfig, Trainable
from sonoformer.spectral.windows import WindowName


@dataclass(frozen=True)
class MelConfig:
    """Frames, filters and compression; frames and filters are librosa's by default."""

    sample_rate: int = 22050
    """Hz of the waveforms."""
    n_fft: int = 2048
    """Samples of a frame, even."""
    win_length: int | None = None
    """Samples of the window, in the middle of the frame; all of it if absent."""
    hop_length: int = 512
    """Samples from one frame to the next."""
    window: WindowName = "hann"
    """Periodic window."""
    center: bool = True
    """Frame t is centred on sample t * hop_length; otherwise it begins there."""
    pad_mode: PadMode = "reflect"
    """What a centred transform puts before and after a clip."""
    n_mels: int = 128
    """Filters, on whatever scale."""
    kind: Kind = "slaney"
    """Scale and shape of the filters, as in FilterBankConfig."""
    low_hz: float = 0.0
    """Lower edge of the lowest filter."""
    high_hz: float | None = None
    """Upper edge of the highest filter; half the sample rate if absent."""
    norm: Norm = "default"
    """Scaling of the filters, as in FilterBankConfig."""
    power: int = 2
    """Filters weigh powers (2) or magnitudes (1)."""
    compression: Compression = "log"
    """none; log, natural; log10; db, decibels; root, the cube root."""
    floor: float = 1e-10
    """Least energy before a logarithm."""
    top_db: float | None = None
    """How many decibels below its loudest value a clip may reach; without limit if absent."""
    shift: float = 0.0
    """Taken from each value after compression."""
    scale: float = 1.0
    """By which the rest is multiplied."""
    last_frame: bool = True
    """Keep the frame centred behind the last full hop; Whisper does not."""
    trainable_stft: Trainable = "none"
    """What is learnt of the transform: nothing, the window, or every cosine and sine."""
    trainable_filters: Learnt = "none"
    """What is learnt of the filters: nothing, their edges, or every weight."""
    backend: Backend = "auto"
    """How the transform is computed, as in StftConfig."""

    def __post_init__(self) -> None:
        _ = self.stft, self.filters
        refuse_unknown(self, compression=Compression)
        refuse_not_positive(self, "floor", "scale")
        if self.power not in (1, 2):
            raise UserError(f"power: must be 1 or 2; got {self.power}")
        if self.top_db is not None:
            refuse_not_positive(self, "top_db")
            if self.compression in ("none", "root"):
                raise UserError(f"top_db: {self.compression} has no decibels; use log, log10 or db")

    @property
    def stft(self) -> StftConfig:
        """The transform's part."""
        return StftConfig(
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
            window=self.window,
            center=self.center,
            pad_mode=self.pad_mode,
            trainable=self.trainable_stft,
            backend=self.backend,
        )

    @property
    def filters(self) -> FilterBankConfig:
        """The filters' part.

        Raises:
            UserError: an option of theirs is wrong.
        """
        return FilterBankConfig(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            n_filters=self.n_mels,
            kind=self.kind,
            low_hz=self.low_hz,
            high_hz=self.high_hz,
            norm=self.norm,
            trainable=self.trainable_filters,
        )

    def frames(self, samples: int) -> int:
        """Frames of a clip of `samples` samples."""
        return max(1, self.stft.framing.frames(samples) - (not self.last_frame))
