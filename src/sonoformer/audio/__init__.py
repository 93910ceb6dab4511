"""Files to waveforms and back: probe, read, stream, write, find. Works without torch."""

from sonoformer.audio.clock import clock, recorded_at
from sonoformer.audio.decode import Channel, TruncatedWarning, read, read_native
from sonoformer.audio.find import find
from sonoformer.audio.opening import AUDIO_SUFFIXES
from sonoformer.audio.probe import AudioInfo, probe
from sonoformer.audio.resample import resample
from sonoformer.audio.stream import Window, stream
from sonoformer.audio.write import write, write_blocks

__all__ = [
    "AUDIO_SUFFIXES",
    "AudioInfo",
    "Channel",
    "TruncatedWarning",
    "Window",
    "clock",
    "find",
    "probe",
    "read",
    "read_native",
    "recorded_at",
    "resample",
    "stream",
    "write",
    "write_blocks",
]
